"""Warn about lost workers, paused workers and a cluster that has stopped working. Stop the run if this lasts."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from dask_dedup.errors import RunError
from dask_dedup.formatting import counted, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from distributed import Client

#: Key in Dask's configuration for the time that a run waits for workers.
NO_WORKERS = "dask-dedup.no-workers-timeout"
DEFAULT_NO_WORKERS = "5 minutes"
#: The default if this program submits workers to a queue, where they may wait.
DEFAULT_NO_WORKERS_QUEUE = "7 days"
#: Seconds that the scheduler may be silent, seconds between two checks, and seconds to wait for an answer.
SILENT_SECONDS, CHECK_SECONDS, ANSWER_SECONDS = 60.0, 2.0, 6.0
#: Seconds without a finished task before the workers are checked, and seconds of a problem before a warning.
IDLE_SECONDS, NOTICE_SECONDS = 3.0, 5.0
#: Seconds that a single worker is paused before a warning: short pauses are normal.
PAUSED_SECONDS = 3.0

#: Largest number of workers in a message.
NAMED_WORKERS = 3

_NO_ANSWER = "the scheduler at {address} does not answer"
_NO_WORKERS = "the cluster at {address} has no workers"
_PAUSED = "all workers of the cluster at {address} are paused because their memory is full"
_SILENT = "no worker of the cluster at {address} answers"
#: The error if the problem lasts.
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

    Also warns about each worker that is lost or paused while others work. `answers` is whether the scheduler answered
    at the last check.

    During a stall, each check calls `on_stall` with the reason and the seconds until the error. At the end, the
    arguments are "" and 0.
    """

    def __init__(self, client: Client, on_stall: Callable[[str, float], None]) -> None:
        import dask
        from dask.utils import parse_timedelta

        self._client = client
        self._on_stall = on_stall
        #: Method of `cluster.slurm.jobs.JobCluster`. Other clusters replace their workers without it.
        self._replace_ended_jobs: Callable[[], None] | None = getattr(
            client.cluster, "replace_ended_jobs", None
        )
        default = DEFAULT_NO_WORKERS_QUEUE if self._replace_ended_jobs else DEFAULT_NO_WORKERS
        self._no_workers_seconds = float(parse_timedelta(dask.config.get(NO_WORKERS, default)))
        self._address = client.scheduler.address
        self._reason = ""
        self.answers = True
        #: The workers at the last check, and the time since which each paused worker is paused.
        self._workers: set[str] = set()
        self._paused: dict[str, float] = {}
        self._named_as_paused: set[str] = set()
        self.start()

    def start(self) -> None:
        """Start the timers again for a new stage. Lost and paused workers are remembered."""
        self._checked = self._answered = self._worked = self._finished = time.monotonic()
        #: Time of the newest message from a worker, by the clocks of the scheduler and of this process.
        self._heard = (0.0, self._checked)

    def finished(self) -> None:
        """Record that a task has just finished, so workers are running."""
        self._finished = self._worked = time.monotonic()
        self._end_stall()

    def check(self) -> None:
        """Warn or raise RunError if the cluster has stopped working. Check at most every `CHECK_SECONDS`."""
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return
        if self._replace_ended_jobs:
            self._replace_ended_jobs()
        problem = self._find_problem()
        self.answers = problem != _NO_ANSWER
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
        """Return the current problem of the whole cluster, or None."""
        try:
            workers = self._client.nthreads(callback_timeout=ANSWER_SECONDS)
        except (OSError, TimeoutError):
            return _NO_ANSWER
        if not workers:
            return _NO_WORKERS
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        now = time.monotonic()
        newest = max((worker["last_seen"] for worker in found.values()), default=0.0)
        if newest != self._heard[0]:
            self._heard = newest, now
        if found and all(worker["status"] == "paused" for worker in found.values()):
            return _PAUSED if now - self._finished >= IDLE_SECONDS else None
        self._warn_about_lost(found.keys())
        self._warn_about_paused(found)
        idle = now - self._finished >= IDLE_SECONDS
        return _SILENT if idle and now - self._heard[1] > CHECK_SECONDS else None

    def _warn_about_lost(self, now_here: Iterable[str]) -> None:
        """Warn about workers that have been lost since the last check."""
        before, self._workers = self._workers, set(now_here)
        lost = before - self._workers
        if lost:
            log.warning(
                "%s of %s lost (%s). %s tasks are repeated now, on %s.",
                f"{len(lost):,}",
                counted(len(before), "worker") + (" was" if len(lost) == 1 else " were"),
                _listed(lost),
                "Its" if len(lost) == 1 else "Their",
                counted(len(self._workers), "worker"),
            )

    def _warn_about_paused(self, workers: Mapping[str, Mapping[str, str]]) -> None:
        """Warn, once for each, about workers that have been paused for some seconds while others work."""
        now = time.monotonic()
        self._paused = {
            name: self._paused.get(name, now)
            for name, worker in workers.items()
            if worker["status"] == "paused"
        }
        late = {name for name, since in self._paused.items() if now - since > PAUSED_SECONDS}
        if new := late - self._named_as_paused:
            self._named_as_paused |= new
            log.warning(
                "%s of %s paused because %s memory is full (%s). The others work on, and %s as soon as memory is "
                "free.",
                f"{len(new):,}",
                counted(len(workers), "worker") + (" is" if len(new) == 1 else " are"),
                "its" if len(new) == 1 else "their",
                _listed(new),
                "it continues" if len(new) == 1 else "they continue",
            )

    def _warn(self, reason: str, seconds: float) -> None:
        # The message covers all workers. Do not repeat it per worker.
        self._workers = set()
        if reason != self._reason:
            log.warning("%s. The run stops in %s unless this changes.", reason, duration(seconds))
        self._reason = reason
        self._on_stall(reason, seconds)

    def _end_stall(self) -> None:
        if self._reason:
            log.info("the cluster works again")
            self._reason = ""
            self._on_stall("", 0.0)


def _listed(workers: set[str]) -> str:
    """Return the addresses of some workers as text."""
    more = ", ..." if len(workers) > NAMED_WORKERS else ""
    return ", ".join(sorted(workers)[:NAMED_WORKERS]) + more
