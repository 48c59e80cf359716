"""Cluster with the scheduler in this process and workers in SLURM jobs (dask-jobqueue)."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_jobqueue import SLURMCluster
from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status

from dask_dedup.cluster import scheduler
from dask_dedup.cluster.slurm import queue, settings, walltime
from dask_dedup.cluster.tls import dashboard_environment
from dask_dedup.errors import InputError, RunError
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from distributed import Client, Security

#: Seconds between two calls of squeue while workers are missing.
CHECK_SECONDS = 10.0
#: Number of jobs in a row that may end before their workers connect.
MOST_FAILED_STARTS = 3

log = logging.getLogger("dask_dedup")


class WorkerJob(SLURMJob):  # type: ignore[misc]
    """A SLURM job that runs Dask workers."""

    #: The message of sbatch if it refused the job.
    refusal: str | None = None

    async def start(self) -> None:
        """Submit the job."""
        try:
            await super().start()
        except (RuntimeError, OSError, ValueError) as error:
            # Dask would print the error from a background thread.
            self.refusal = _sbatch_message(error)
            self.status = Status.running

    async def close(self) -> None:
        """Cancel the job."""
        await super().close()
        self.status = Status.closed


class JobCluster(SLURMCluster):  # type: ignore[misc]
    """A scheduler in this process and a fixed number of worker jobs. Jobs that end are resubmitted.

    `SLURMCluster.adapt` misses jobs that end before their workers connect, and jobs of several worker processes.
    """

    job_cls = WorkerJob

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self._number = number
        self._connected: set[str] = set()
        self._failed_starts = 0
        self._queue_text = ""
        self._next_check = time.monotonic() + 1.0
        self.scale(jobs=number)

    def replace_ended_jobs(self) -> None:
        """Submit a new job for each worker job that has ended. Must be called regularly.

        Raises
        ------
        RunError
            If SLURM refuses a job or never starts it, or if jobs end before their workers connect.
        """
        missing = self._find_missing()
        for job in missing.values():
            if job.refusal:
                raise RunError(f"SLURM refused a worker job: {job.refusal}")
        if not missing or time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK_SECONDS
        states = queue.job_states(job.job_id for job in missing.values())
        if states is None:
            return
        self._log_queue(states)
        for name, job in missing.items():
            state = states[job.job_id]
            if state.never_starts:
                raise RunError(
                    f"SLURM never starts worker job {job.job_id} as requested: {state.reason}"
                )
            if state.has_ended:
                self._check_end(job, state)
                # Not through `scale`, which may wait forever for lost workers to retire.
                self.worker_spec.pop(name, None)
                self.workers.pop(name, None)
                job.status = Status.closed
        self.scale(jobs=self._number)

    def _find_missing(self) -> dict[str, WorkerJob]:
        """Map job name to job, for jobs with at least one worker process that is not connected."""
        here = {str(worker["name"]) for worker in list(self.scheduler_info["workers"].values())}
        suffixes = self.new_spec.get("group", [""])
        missing = {}
        for name, job in list(self.workers.items()):
            if not {f"{name}{suffix}" for suffix in suffixes} <= here:
                missing[name] = job
            elif job.job_id not in self._connected:
                self._connected.add(job.job_id)
                self._failed_starts = 0
        return missing

    def _check_end(self, job: WorkerJob, state: queue.JobState) -> None:
        """Log that a worker job has ended. Raise RunError if too many ended before their workers connected."""
        if job.job_id in self._connected:
            log.warning("job %s has ended (%s): submitting another", job.job_id, state)
            return
        self._failed_starts += 1
        text = f"job {job.job_id} ended ({state}) before its workers connected{_last_log_line(job)}"
        if self._failed_starts >= MOST_FAILED_STARTS:
            raise RunError(f"{text}. Fix this and run the same command again.")
        log.warning("%s: submitting another", text)

    def _log_queue(self, states: Mapping[str, queue.JobState]) -> None:
        """Log the number of pending worker jobs and the reasons, whenever these change."""
        reasons = [state.reason for state in states.values() if state.is_pending]
        waiting, why = counted(len(reasons), "job"), ", ".join(dict.fromkeys(reasons))
        text = f"{waiting} in SLURM's queue ({why})"
        if reasons and text != self._queue_text:
            log.info(text)
        self._queue_text = text


def start_jobs(
    stack: ExitStack,
    number: int,
    interface: str | None = None,
    dashboard_address: str | None = None,
    security: Security | None = None,
) -> Client:
    """Start a scheduler in this process and submit worker jobs to SLURM. Return a client once workers connect.

    The stack closes the cluster and cancels the jobs. Certificates must have the same paths on all nodes.
    """
    if not shutil.which("sbatch"):
        raise InputError("there is no sbatch here. Run this on a machine with SLURM.")
    cores, memory = settings.setting("cores"), settings.setting("memory")
    if not (cores and memory):
        raise InputError(
            "the size of a SLURM job is not set. Set jobqueue.slurm.cores and jobqueue.slurm.memory in Dask's "
            "configuration; deploy/slurm/jobqueue.yaml is an example."
        )
    limit, extra = settings.setting("walltime"), settings.worker_options()
    if not any(option.startswith("--lifetime") for option in extra):
        extra += walltime.lifetime_options(limit)
    stack.enter_context(scheduler.scheduler_settings(security))
    network = settings.choose_interface(interface)
    exports = [f"export {name}='{value}'" for name, value in dashboard_environment().items()]
    try:
        cluster = JobCluster(
            number,
            name="dask-dedup",
            processes=settings.count_processes(int(cores)),
            interface=network,
            security=security,
            protocol="tls://" if security else "tcp://",
            worker_extra_args=extra,
            job_script_prologue=[*settings.setting("job-script-prologue", []), *exports],
            scheduler_options=settings.scheduler_options(dashboard_address),
            silence_logs=scheduler.LOG_LEVEL,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"jobqueue.slurm in Dask's configuration cannot be used: {error}"
        ) from error
    except RuntimeError as error:
        raise RunError(f"the scheduler does not start: {error}") from error
    client = scheduler.client_of(stack, cluster)
    size = f"{cores} cores, {memory}, {limit}"
    log.info("submitted %s to SLURM: %s each", counted(number, "job"), size)
    scheduler.wait_for_workers(client, len(cluster.plan), cluster.replace_ended_jobs)
    return client


def _sbatch_message(error: Exception) -> str:
    """Extract sbatch's message from the longer error text of dask-jobqueue."""
    message = str(error).rpartition("stderr:\n")[2].strip() or repr(error)
    return "; ".join(line.removeprefix("sbatch: error: ") for line in message.splitlines())


def _last_log_line(job: WorkerJob) -> str:
    """Format the path and last line of a job's log, for a message. Return "" if the log is unreadable."""
    folder = job.log_directory
    name = f"{job.job_name or 'worker'}-{job.job_id}.err" if folder else f"slurm-{job.job_id}.out"
    path = Path(folder or ".") / name
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return f"; {path} ends with: {lines[-1].strip()}" if lines else ""
