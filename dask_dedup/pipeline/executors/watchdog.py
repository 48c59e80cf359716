"""Stop a run if the scheduler does not answer, or no worker runs, for too long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dask_dedup.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

#: Key in Dask's configuration: how long a run waits for workers.
NO_WORKERS = "dask-dedup.no-workers-timeout"
DEFAULT_NO_WORKERS = "5 minutes"
#: The default if this program submits workers to a queue, where they may wait.
DEFAULT_NO_WORKERS_QUEUE = "7 days"
#: Seconds the scheduler may be silent, between two checks, and to answer.
SILENT_SECONDS, LOOK_SECONDS, ANSWER_SECONDS = 60.0, 2.0, 10.0
#: Seconds without a finished task after which workers are checked for being paused.
IDLE_SECONDS = 20.0


class Watchdog:
    """Monitor that raises RunError if the scheduler does not answer, or no worker runs, for too long."""

    def __init__(self, client: Client) -> None:
        import dask
        from dask.utils import parse_timedelta

        self._client = client
        #: Of `cluster.slurm.jobs.JobCluster`; other clusters replace their workers by themselves.
        self._replace_ended_jobs: Callable[[], None] | None = getattr(
            client.cluster, "replace_ended_jobs", None
        )
        default = DEFAULT_NO_WORKERS_QUEUE if self._replace_ended_jobs else DEFAULT_NO_WORKERS
        self._no_workers_seconds = float(parse_timedelta(dask.config.get(NO_WORKERS, default)))
        self._address = client.scheduler.address
        self._checked = self._answered = self._had_workers = time.monotonic()
        self._finished = self._checked

    def finished(self) -> None:
        """Record that a task has just finished, so workers are running."""
        self._finished = self._had_workers = time.monotonic()

    def check(self) -> None:
        """Raise RunError if the cluster has failed for too long. Look at most every `LOOK_SECONDS`."""
        if time.monotonic() - self._checked < LOOK_SECONDS:
            return
        if self._replace_ended_jobs:
            self._replace_ended_jobs()
        try:
            workers = len(self._client.nthreads(callback_timeout=ANSWER_SECONDS))
        except (OSError, TimeoutError):
            workers = None
        self._checked = now = time.monotonic()
        if workers is not None:
            self._answered = now
        if now - self._answered > SILENT_SECONDS:
            raise RunError(
                f"the scheduler at {self._address} has not answered for "
                f"{now - self._answered:.0f} s. Check that it runs, and run the same command again."
            )
        paused = bool(workers) and now - self._finished > IDLE_SECONDS and self._all_paused()
        if workers and not paused:
            self._had_workers = now
        idle = now - self._had_workers
        if idle <= self._no_workers_seconds:
            return
        if paused:
            raise RunError(
                f"all workers of the cluster at {self._address} have been paused for {idle:.0f} s "
                "because their memory is full. Give each worker more memory or fewer threads, and "
                "run the same command again."
            )
        if workers == 0:
            raise RunError(
                f"the cluster at {self._address} has had no workers for {idle:.0f} s. Start some "
                f"and run the same command again, or set {NO_WORKERS} in Dask's configuration to "
                "wait longer."
            )

    def _all_paused(self) -> bool:
        """Return whether all workers are paused because their memory is nearly full."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return bool(workers) and all(worker["status"] == "paused" for worker in workers)
