"""All inside one allocation: scheduler and client in the batch script, workers as a step of its job."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import Client, Scheduler
from distributed.deploy.spec import SpecCluster

from dask_dedup.cluster import scheduler
from dask_dedup.cluster.slurm import settings
from dask_dedup.cluster.slurm.wait import gather
from dask_dedup.cluster.tls import dashboard_environment
from dask_dedup.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from distributed import Security

#: Seconds the workers have to end after the scheduler, before they are made to.
END_SECONDS = 15.0
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Allocation:
    """What SLURM has given to this job.

    Attributes
    ----------
    job : str
    nodes, tasks : int
    cores : int
        Of each task.
    memory : int or None
        Bytes of each task; None if SLURM does not say.
    """

    job: str
    nodes: int
    tasks: int
    cores: int
    memory: int | None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Allocation:
        """Read it from the environment of a batch script, or of `salloc`.

        Raises
        ------
        InputError
            If this is no job of SLURM.

        Examples
        --------
        >>> Allocation.read({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "4",
        ...     "SLURM_TASKS_PER_NODE": "2(x2)", "SLURM_CPUS_PER_TASK": "8", "SLURM_MEM_PER_NODE": "4096"})
        Allocation(job='7', nodes=2, tasks=4, cores=8, memory=2147483648)
        """
        if "SLURM_JOB_ID" not in environment:
            raise InputError(
                "--cluster slurm-allocation is for jobs of SLURM: submit this command with sbatch "
                "(deploy/slurm/batch.sh is an example)"
            )
        nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
        tasks = int(environment.get("SLURM_NTASKS", nodes))
        on_node = -(-tasks // nodes)
        # Without cores a task: whole nodes.
        on_first = re.match(r"\d+", environment.get("SLURM_JOB_CPUS_PER_NODE", "1"))
        share = max(1, int(on_first[0] if on_first else 1) // on_node)
        cores = int(environment.get("SLURM_CPUS_PER_TASK", share))
        memory = None
        if int(environment.get("SLURM_MEM_PER_NODE", "0")):
            memory = int(environment["SLURM_MEM_PER_NODE"]) * _MB // on_node
        elif "SLURM_MEM_PER_CPU" in environment:
            memory = int(environment["SLURM_MEM_PER_CPU"]) * _MB * cores
        return cls(environment["SLURM_JOB_ID"], nodes, tasks, cores, memory)


class AllocationCluster(SpecCluster):  # type: ignore[misc]
    """A scheduler in this process, and workers that one step of this job starts on all its nodes.

    Parameters
    ----------
    allocation : Allocation
    interface : str
        Network on which all listen.
    security : distributed.Security or None
    scheduler_options : dict
    """

    def __init__(
        self,
        allocation: Allocation,
        interface: str,
        security: Security | None,
        scheduler_options: dict[str, Any],
    ) -> None:
        self._step: subprocess.Popen[bytes] | None = None
        options = {
            "interface": interface,
            "protocol": "tls://" if security else "tcp://",
            "security": security,
            **scheduler_options,
        }
        super().__init__(
            scheduler={"cls": Scheduler, "options": options},
            security=security,
            silence_logs=scheduler.LOG_LEVEL,
            name=f"allocation-{allocation.job}",
        )
        self.processes = settings.processes_of(allocation.cores)
        self.workers_wanted = allocation.tasks * self.processes
        worker = self._worker_command(allocation, interface, security)
        step = [
            "srun",
            f"--ntasks={allocation.tasks}",
            # srun does not take this over from sbatch.
            f"--cpus-per-task={allocation.cores}",
            # A worker that is lost is no reason to end the others.
            "--kill-on-bad-exit=0",
            "--input=none",
            *self._log_options(),
            "bash",
            "-c",
            worker,
        ]
        environment = os.environ | {"DASK_LOGGING__DISTRIBUTED": "error"} | dashboard_environment()
        self._step = subprocess.Popen(step, env=environment, stdin=subprocess.DEVNULL)

    @property
    def workers_here(self) -> int:
        """Worker processes that have come and not left."""
        return len(self.scheduler_info["workers"])

    def keep(self) -> None:
        """See whether the step of the workers is still there.

        Raises
        ------
        RunError
            If it has ended.
        """
        code = self._step.poll() if self._step else None
        if code is not None:
            raise RunError(
                f"the workers' step has ended (srun's exit code is {code}); see above, or in "
                "jobqueue.slurm.log-directory, and run the same command again"
            )

    def _worker_command(
        self, allocation: Allocation, interface: str, security: Security | None
    ) -> str:
        """Give the command line of the workers, to be read by a shell on their node: it may name variables."""
        words = [
            settings.setting("python", sys.executable),
            "-m",
            settings.setting("worker-command", "distributed.cli.dask_worker"),
            self.scheduler_address,
            *("--nworkers", self.processes),
            *("--nthreads", max(1, allocation.cores // self.processes)),
            *("--memory-limit", (allocation.memory or 0) // self.processes or "auto"),
            *("--death-timeout", settings.setting("death-timeout", 60)),
            *("--interface", interface),
        ]
        if security:
            files = security.get_tls_config_for_role("worker")
            for name, key in (("ca-file", "ca_file"), ("cert", "cert"), ("key", "key")):
                words += [f"--tls-{name}", shlex.quote(files[key])]
        if settings.setting("local-directory"):
            words += ["--local-directory", settings.setting("local-directory")]
        prologue = [line for line in settings.setting("job-script-prologue", []) if line]
        command = " ".join(["exec", *map(str, words), *settings.worker_options()])
        return "\n".join([*prologue, command])

    @staticmethod
    def _log_options() -> list[str]:
        folder = settings.setting("log-directory")
        if not folder:
            return []
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        return [
            f"--output={folder}/dask-worker-%j-%t.out",
            f"--error={folder}/dask-worker-%j-%t.err",
        ]

    def close(self, timeout: float | None = None) -> Any:
        """End the scheduler, and with it the workers."""
        closed = super().close(timeout)
        step, self._step = self._step, None
        if step is not None:
            try:
                step.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                step.terminate()
                step.wait()
        return closed


def start_in_allocation(
    stack: ExitStack,
    *,
    interface: str | None = None,
    dashboard_address: str | None = None,
    security: Security | None = None,
) -> Client:
    """Start a scheduler here and workers on all nodes of this job; give a client once there are some.

    The job's tasks become workers: of ``--cpus-per-task`` cores and their share of ``--mem``, cut
    into processes of four threads unless ``jobqueue.slurm.processes`` says otherwise.

    Parameters
    ----------
    stack : ExitStack
        Closes all of it.
    interface : str, optional
        Network on which all listen; on a single node this machine's own.
    dashboard_address : str, optional
        Such as ``:8787``; on this machine only, unless it names a host.
    security : distributed.Security, optional
        Certificates; all nodes find them under the same paths.

    Raises
    ------
    InputError
        If this is no job of SLURM, or no network is named.
    RunError
        If the workers do not start.
    """
    allocation = Allocation.read(os.environ)
    network = settings.choose_interface(interface, one_node=allocation.nodes == 1)
    stack.enter_context(scheduler.set_up(security))
    options = {
        "dashboard_address": scheduler.dashboard_at(dashboard_address),
        **settings.setting("scheduler-options", {}),
    }
    cluster = AllocationCluster(allocation, network, security, options)
    stack.enter_context(scheduler.closing_quietly(cluster))
    scheduler.tell_missing()
    client = stack.enter_context(Client(cluster))
    gather(cluster)
    return client
