"""Return the results of tasks on a Dask cluster as the tasks finish. Errors describe the task that failed."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker, as_completed
from distributed.comm import CommClosedError

from dask_dedup.errors import DedupError, RunError, causes
from dask_dedup.formatting import counted
from dask_dedup.pipeline.executors.batching import task_name
from dask_dedup.pipeline.executors.memory import scratch_full
from dask_dedup.pipeline.executors.watchdog import Watchdog
from dask_dedup.storage.capacity import DISK_FULL_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Client, Future

#: Seconds between two checks for finished tasks.
POLL_SECONDS = 0.02
#: Seconds to wait for the result of a finished task before the cluster is checked: first wait, and longest wait.
FETCH_SECONDS = (2.0, 60.0)


class FinishedTasks:
    """Results of tasks. During the wait for results, a watchdog checks the cluster and calls `on_stall`.

    `lost` is True if the scheduler no longer answers. Nothing is sent to the scheduler then.
    """

    def __init__(self, client: Client, on_stall: Callable[[str, float], None]) -> None:
        self.lost = False
        self._client = client
        self._address = client.scheduler.address
        self._on_stall = on_stall
        self._watchdog: Watchdog | None = None
        #: Descriptions by task key, including tasks that other tasks depend on.
        self._descriptions: dict[str, str] = {}

    @property
    def scheduler_answers(self) -> bool:
        """Whether the scheduler answered at the last check."""
        return self._watchdog is not None and self._watchdog.answers

    def results(self, futures: list[Future], descriptions: list[str]) -> Iterator[Any]:
        """Yield the result of each task as soon as the task finishes. All futures are released at the end."""
        self.describe(futures, descriptions)
        watchdog = self._watchdog = self._watchdog or Watchdog(self._client, self._on_stall)
        watchdog.start()
        coming = as_completed(futures)
        try:
            while coming.count():
                batch = coming.next_batch(block=False)
                if not batch:
                    self._check(watchdog)
                    time.sleep(POLL_SECONDS)
                for future in batch:
                    watchdog.finished()
                    yield self._result(future, self._descriptions[future.key], watchdog)
                    future.release()
        finally:
            # Unlike a cancel, a release does not wait for the scheduler.
            for future in futures:
                future.release()

    def describe(self, futures: Sequence[Future], descriptions: Sequence[str]) -> None:
        """Add descriptions of tasks, for the error message if such a task kills workers."""
        self._descriptions |= zip([future.key for future in futures], descriptions, strict=True)

    def _check(self, watchdog: Watchdog) -> None:
        try:
            watchdog.check()
        except RunError:
            self.lost = True  # so that no event waits for a silent scheduler
            raise

    def _fetch(self, future: Future, watchdog: Watchdog) -> Any:
        """Fetch the result of a finished task. While waiting, check that the cluster still works."""
        seconds = FETCH_SECONDS[0]
        while True:
            try:
                return future.result(timeout=seconds)
            except TimeoutError:
                if future.status == "error":
                    raise
            self._check(watchdog)
            # With a short timeout, a large result on a slow network would be fetched from the start again and again.
            seconds = min(2 * seconds, FETCH_SECONDS[1])

    def _result(self, future: Future, description: str, watchdog: Watchdog) -> Any:
        try:
            return self._fetch(future, watchdog)
        except DedupError:
            raise
        except KilledWorker as error:
            if error.task != future.key:
                before = f"{task_name(error.task)} (before {description})"
                description = self._descriptions.get(error.task, before)
            # Dask counts a lost worker as a failure of all its tasks, including tasks that did not run yet.
            raise RunError(
                f"{counted(error.allowed_failures + 1, 'worker', 'were')} killed while running tasks "
                f"such as {description}, probably out of memory. Give each worker more memory or fewer "
                "threads, and run the same command again."
            ) from error
        except CancelledError as error:
            raise self._scheduler_lost() from error
        except Exception as error:
            *_, cause = chain = [*causes(error)]  # a failed shuffle hides the reason
            if any(isinstance(each, CommClosedError) for each in chain):
                raise self._scheduler_lost() from error
            if isinstance(cause, OSError) and cause.errno in DISK_FULL_ERRORS:
                # The stages report a full output disk, so this is the disk of a scratch folder.
                workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
                raise RunError(scratch_full(workers)) from error
            if isinstance(cause, (DedupError, OSError)):
                raise cause from error
            raise RunError(f"{description} failed: {type(cause).__name__}: {cause}") from error

    def _scheduler_lost(self) -> RunError:
        return RunError(
            f"the scheduler at {self._address} was lost or dropped the work. Check that it "
            "runs, and run the same command again."
        )
