"""How long to wait for a cluster that does nothing, and what to say when that is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dask_dedup.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

#: Key in Dask's configuration: how long a run waits for workers when it has none.
NO_WORKERS = "dask-dedup.no-workers-timeout"
DEFAULT_NO_WORKERS = "5 minutes"
#: The same where workers are asked for again by this program, and may have to queue.
DEFAULT_NO_WORKERS_KEPT = "7 days"
#: Seconds a scheduler may be silent, between two looks, and for an answer.
SILENT_SECONDS, LOOK_SECONDS, ANSWER_SECONDS = 60.0, 2.0, 10.0
#: Seconds without a finished task after which workers that are there are asked whether they do anything.
IDLE_SECONDS = 20.0


class Watchdog:
    """Ends a run whose cluster has been without workers, or without an answer, for too long."""

    def __init__(self, client: Client) -> None:
        import dask
        from dask.utils import parse_timedelta

        self._client = client
        #: Clusters that this program starts in SLURM look after their workers.
        self._keep: Callable[[], None] | None = getattr(client.cluster, "keep", None)
        otherwise = DEFAULT_NO_WORKERS_KEPT if self._keep else DEFAULT_NO_WORKERS
        timeout = dask.config.get(NO_WORKERS, otherwise)
        self._address = client.scheduler.address
        self._no_workers_seconds = float(parse_timedelta(timeout))
        self._looked = self._answered = self._had_workers = time.monotonic()
        self._finished = self._looked

    def finished(self) -> None:
        """Note that a task is done."""
        self._finished = self._had_workers = time.monotonic()

    def look(self) -> None:
        """Ask the cluster how it is, unless that was done just before.

        Raises
        ------
        RunError
            If it has been silent, without workers, or with none but paused ones, for too long, or will get no more.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        if self._keep:
            self._keep()
        try:
            workers = len(self._client.nthreads(callback_timeout=ANSWER_SECONDS))
        except (OSError, TimeoutError):
            workers = None
        self._looked = now = time.monotonic()
        if workers is not None:
            self._answered = now
        paused = bool(workers) and now - self._finished > IDLE_SECONDS and self._all_paused()
        if workers and not paused:
            self._had_workers = now
        if now - self._answered > SILENT_SECONDS:
            raise RunError(
                f"the scheduler at {self._address} has not answered for {now - self._answered:.0f} s; "
                "see whether it lives, and run the same command again"
            )
        if paused and now - self._had_workers > self._no_workers_seconds:
            raise RunError(
                f"all workers of the cluster at {self._address} have been paused for {now - self._had_workers:.0f} s, "
                "for want of memory; give each more (--memory-limit) or fewer threads, and run the same command again"
            )
        if workers == 0 and now - self._had_workers > self._no_workers_seconds:
            raise RunError(
                f"the cluster at {self._address} has had no workers for {now - self._had_workers:.0f} s; "
                "start some and run the same command again, or wait longer: "
                f"set {NO_WORKERS} in Dask's configuration"
            )

    def _all_paused(self) -> bool:
        """Tell whether no worker takes a task, as one does not that has used up most of its memory."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return bool(workers) and all(worker["status"] == "paused" for worker in workers)
