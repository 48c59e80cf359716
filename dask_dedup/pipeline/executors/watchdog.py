"""Warn if the scheduler does not answer or no worker runs, and stop the run if this lasts too long."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from dask_dedup.errors import RunError
from dask_dedup.formatting import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

#: Key in Dask's configuration: how long a run waits for workers.
NO_WORKERS = "dask-dedup.no-workers-timeout"
DEFAULT_NO_WORKERS = "5 minutes"
#: The default if this program submits workers to a queue, where they may wait.
DEFAULT_NO_WORKERS_QUEUE = "7 days"
#: Seconds the scheduler may be silent, between two checks, and to answer.
SILENT_SECONDS, LOOK_SECONDS, ANSWER_SECONDS = 60.0, 2.0, 6.0
#: Seconds without a finished task after which workers are checked, and of trouble before a warning.
IDLE_SECONDS, NOTICE_SECONDS = 3.0, 5.0

_NO_ANSWER = "the scheduler at {address} does not answer"
_NO_WORKERS = "the cluster at {address} has no workers"
_PAUSED = "all workers of the cluster at {address} are paused because their memory is full"
_SILENT = "no worker of the cluster at {address} answers"
#: The error if the trouble lasts.
_ERRORS = {
    _NO_ANSWER: "the scheduler at {address} has not answered for {seconds:.0f} s. Check that it runs, and run the "
    "same command again.",
    _NO_WORKERS: "the cluster at {address} has had no workers for {seconds:.0f} s. Start some and run the same "
    f"command again, or set {NO_WORKERS} in Dask's configuration to wait longer.",
    _PAUSED: "all workers of the cluster at {address} have been paused for {seconds:.0f} s because their memory is "
    "full. Give each worker more memory or fewer threads, and run the same command again.",
    _SILENT: "no worker of the cluster at {address} has answered for {seconds:.0f} s. Check that they run, and run "
    "the same command again.",
}

log = logging.getLogger("dask_dedup")


class Watchdog:
    """Monitor of a cluster: warns if the cluster stops working, and raises RunError if this lasts too long.

    `on_stall` is called after each check during a stall with the reason and the seconds until the error, and at the
    end of the stall with "" and 0.
    """

    def __init__(self, client: Client, on_stall: Callable[[str, float], None]) -> None:
        import dask
        from dask.utils import parse_timedelta

        self._client = client
        self._on_stall = on_stall
        #: Of `cluster.slurm.jobs.JobCluster`; other clusters replace their workers by themselves.
        self._replace_ended_jobs: Callable[[], None] | None = getattr(
            client.cluster, "replace_ended_jobs", None
        )
        default = DEFAULT_NO_WORKERS_QUEUE if self._replace_ended_jobs else DEFAULT_NO_WORKERS
        self._no_workers_seconds = float(parse_timedelta(dask.config.get(NO_WORKERS, default)))
        self._address = client.scheduler.address
        self._checked = self._answered = self._worked = self._finished = time.monotonic()
        #: Time of the newest message from a worker, by the clocks of the scheduler and of this process.
        self._heard = (0.0, self._checked)
        self._reason = ""

    def finished(self) -> None:
        """Record that a task has just finished, so workers are running."""
        self._finished = self._worked = time.monotonic()
        self._end_stall()

    def check(self) -> None:
        """Warn or raise RunError if the cluster has stopped working. Look at most every `LOOK_SECONDS`."""
        if time.monotonic() - self._checked < LOOK_SECONDS:
            return
        if self._replace_ended_jobs:
            self._replace_ended_jobs()
        problem = self._find_problem()
        self._checked = now = time.monotonic()
        if problem is None:
            self._answered = self._worked = now
            self._end_stall()
            return
        since, limit = self._worked, self._no_workers_seconds
        if problem == _NO_ANSWER:
            since, limit = self._answered, SILENT_SECONDS
        else:
            self._answered = now
        if problem == _SILENT:
            since = self._heard[1]
        if now - since > limit:
            raise RunError(_ERRORS[problem].format(address=self._address, seconds=now - since))
        if now - since > min(NOTICE_SECONDS, limit / 2):
            self._warn(problem.format(address=self._address), limit - (now - since))

    def _find_problem(self) -> str | None:
        """Return what is wrong with the cluster now, or None."""
        try:
            workers = self._client.nthreads(callback_timeout=ANSWER_SECONDS)
        except (OSError, TimeoutError):
            return _NO_ANSWER
        if not workers:
            return _NO_WORKERS
        now = time.monotonic()
        if now - self._finished < IDLE_SECONDS:
            return None
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if found and all(worker["status"] == "paused" for worker in found):
            return _PAUSED
        newest = max((worker["last_seen"] for worker in found), default=0.0)
        if newest != self._heard[0]:
            self._heard = newest, now
        return _SILENT if now - self._heard[1] > LOOK_SECONDS else None

    def _warn(self, reason: str, seconds: float) -> None:
        if reason != self._reason:
            log.warning("%s. The run stops in %s unless this changes.", reason, duration(seconds))
        self._reason = reason
        self._on_stall(reason, seconds)

    def _end_stall(self) -> None:
        if self._reason:
            log.info("the cluster works again")
            self._reason = ""
            self._on_stall("", 0.0)
