"""Workers in jobs of their own, asked of SLURM by this process and looked after while the run goes on."""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_jobqueue import SLURMCluster
from dask_jobqueue.slurm import SLURMJob
from distributed import Client
from distributed.core import Status

from dask_dedup.cluster import scheduler
from dask_dedup.cluster.slurm import queue, settings, walltime
from dask_dedup.cluster.slurm.wait import gather
from dask_dedup.cluster.tls import dashboard_environment
from dask_dedup.errors import InputError, RunError
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from contextlib import ExitStack

    from distributed import Security

#: Seconds between two questions to SLURM, while something is amiss: the first, and the longest; they double.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: So many jobs in a row may end before their workers have come; then something is wrong with all of them.
MOST_FAILED_STARTS = 3

log = logging.getLogger("dask_dedup")


class WorkerJob(SLURMJob):  # type: ignore[misc]
    """A job of workers; knows if SLURM has refused it.

    Attributes
    ----------
    refusal : str or None
        Why, in sbatch's own words.
    """

    refusal: str | None = None

    async def start(self) -> None:
        """Submit the job."""
        try:
            await super().start()
        except (RuntimeError, OSError, ValueError) as error:
            # Raised here, it would only be printed, by a thread of Dask's.
            self.refusal = _words_of(error)
            self.status = Status.running

    async def close(self) -> None:
        """Cancel the job."""
        await super().close()
        self.status = Status.closed


class JobCluster(SLURMCluster):  # type: ignore[misc]
    """A scheduler in this process, and a number of jobs of workers that is kept up.

    Parameters
    ----------
    number : int
        Jobs.
    **options
        Of `dask_jobqueue.SLURMCluster`.
    """

    job_cls = WorkerJob

    def __init__(self, number: int, **options: Any) -> None:
        self._numbers = itertools.count()
        super().__init__(**options)
        self._number = number
        self._jobs: dict[str, WorkerJob] = {}
        self._seen: set[str] = set()
        self._failed_starts = 0
        self._told = ""
        self._pause = FIRST_PAUSE
        self._next_question = time.monotonic() + FIRST_PAUSE
        self.scale(jobs=number)

    @property
    def workers_here(self) -> int:
        """Worker processes that have come and not left."""
        return len(self._names_here())

    @property
    def workers_wanted(self) -> int:
        """Worker processes of all jobs together."""
        return self._number * len(self.new_spec.get("group", [""]))

    def keep(self) -> None:
        """Look after the jobs; to be called now and then. One that has left is asked for again.

        Raises
        ------
        RunError
            If SLURM refuses a job, or jobs end before their workers have come.
        """
        self._jobs.update(self.workers)
        here = self._names_here()
        missing = [name for name in list(self.worker_spec) if not self._workers_of(name) <= here]
        arrived = set(self.worker_spec) - set(missing)
        if arrived - self._seen:
            self._failed_starts = 0
            self._seen |= arrived
        for name in missing:
            refusal = getattr(self.workers.get(name), "refusal", None)
            if refusal:
                raise RunError(f"SLURM refuses the workers' job: {refusal}")
        if not missing:
            self._pause = FIRST_PAUSE
            self._next_question = time.monotonic() + FIRST_PAUSE
        elif time.monotonic() >= self._next_question:
            self._ask_about(missing)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._next_question = time.monotonic() + self._pause

    def _ask_about(self, missing: list[str]) -> None:
        jobs = {name: self._jobs[name] for name in missing if name in self._jobs}
        numbers = {name: str(job.job_id) for name, job in jobs.items() if job.job_id}
        standings = queue.standings(numbers.values()) if numbers else {}
        if standings is None:
            return
        gone = queue.Standing("gone", "")
        known = {name: standings.get(number, gone) for name, number in numbers.items()}
        self._tell(known)
        # Dask itself gives up, and cancels, a job whose workers it has missed for some seconds.
        ended = [
            name
            for name, standing in known.items()
            if standing.has_ended or name not in self.workers
        ]
        for name, standing in known.items():
            if standing.is_hopeless:
                raise RunError(
                    f"SLURM will not begin the workers' job {jobs[name].job_id} as it was asked for: "
                    f"{standing.reason}"
                )
        for name in ended:
            self._note_end(name, jobs[name], known[name])
        for name in ended:
            # There is nothing left to close, and to retire workers that are gone may take for ever.
            self.worker_spec.pop(name, None)
            self.workers.pop(name, None)
            self._jobs.pop(name)
            jobs[name].status = Status.closed
        self.scale(jobs=self._number)

    def _note_end(self, name: str, job: WorkerJob, standing: queue.Standing) -> None:
        if name in self._seen:
            log.warning("job %s has left (%s): asking for another", job.job_id, standing)
            return
        self._failed_starts += 1
        words = f"job {job.job_id} has ended ({standing}) before its workers came{_last_words(job)}"
        if self._failed_starts >= MOST_FAILED_STARTS:
            raise RunError(f"{words}; mend that and run the same command again")
        log.warning("%s: asking for another", words)

    def _tell(self, known: dict[str, queue.Standing]) -> None:
        reasons = [standing.reason for standing in known.values() if standing.waits]
        told = ""
        if reasons:
            words = ", ".join(dict.fromkeys(reasons))
            told = f"{counted(len(reasons), 'job')} in SLURM's queue ({words})"
        if told and told != self._told:
            log.info(told)
        self._told = told

    def _new_worker_name(self, worker_number: int) -> str:  # noqa: ARG002
        """Name a job as none before it: Dask gives up a lost name for good some seconds after."""
        return f"dask-dedup-{next(self._numbers)}"

    def _names_here(self) -> set[str]:
        return {str(worker["name"]) for worker in list(self.scheduler_info["workers"].values())}

    def _workers_of(self, name: str) -> set[str]:
        return {f"{name}{suffix}" for suffix in self.worker_spec[name].get("group", [""])}


def start_jobs(
    stack: ExitStack,
    number: int,
    *,
    interface: str | None = None,
    dashboard_address: str | None = None,
    security: Security | None = None,
) -> Client:
    """Start a scheduler here and ask SLURM for jobs of workers; give a client once there are some.

    Parameters
    ----------
    stack : ExitStack
        Closes all of it, and cancels the jobs.
    number : int
        Jobs.
    interface : str, optional
        Network on which all listen.
    dashboard_address : str, optional
        Such as ``:8787``; on this machine only, unless it names a host.
    security : distributed.Security, optional
        Certificates; the workers find them under the same paths.

    Raises
    ------
    InputError
        If the configuration lacks what must be known.
    RunError
        If SLURM refuses the jobs, or they end before they begin.
    """
    if not shutil.which("sbatch"):
        raise InputError("there is no sbatch here: --cluster slurm is for machines of a SLURM")
    cores, memory = settings.setting("cores"), settings.setting("memory")
    if not (cores and memory):
        raise InputError(
            "say how large a job is to be: jobqueue.slurm.cores and jobqueue.slurm.memory in Dask's "
            "configuration (deploy/slurm/jobqueue.yaml is an example)"
        )
    limit = settings.setting("walltime")
    extra = settings.worker_options()
    if not settings.says_lifetime(extra):
        extra += walltime.lifetime(limit)
    options = {
        "host": None,
        "dashboard_address": scheduler.dashboard_at(dashboard_address),
        **settings.setting("scheduler-options", {}),
    }
    stack.enter_context(scheduler.set_up(security))
    exports = [f"export {name}='{value}'" for name, value in dashboard_environment().items()]
    processes = settings.processes_of(int(cores))
    try:
        cluster = JobCluster(
            number,
            processes=processes,
            interface=settings.choose_interface(interface),
            security=security,
            protocol="tls://" if security else "tcp://",
            worker_extra_args=extra,
            job_script_prologue=[*settings.setting("job-script-prologue", []), *exports],
            scheduler_options={name: value for name, value in options.items() if value is not None},
            silence_logs=scheduler.LOG_LEVEL,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"what Dask's configuration says under jobqueue.slurm cannot be used: {error}"
        ) from error
    except RuntimeError as error:
        raise RunError(f"the scheduler does not start: {error}") from error
    stack.enter_context(scheduler.closing_quietly(cluster))
    scheduler.tell_missing()
    log.info(
        "asked SLURM for %s: %s cores, %s, %s each", counted(number, "job"), cores, memory, limit
    )
    client = stack.enter_context(Client(cluster))
    gather(cluster)
    return client


def _words_of(error: Exception) -> str:
    """Give what sbatch said; dask-jobqueue has it at the end of a page of text."""
    said = str(error).rpartition("stderr:\n")[2].strip() or repr(error)
    return "; ".join(line.removeprefix("sbatch: error: ") for line in said.splitlines())


def _last_words(job: WorkerJob) -> str:
    """Give the last line of a job's log, where this machine sees it."""
    folder = job.log_directory
    name = f"{job.job_name or 'worker'}-{job.job_id}.err" if folder else f"slurm-{job.job_id}.out"
    path = Path(folder or ".") / name
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return f"; {path} ends with: {lines[-1].strip()}" if lines else ""
