"""Cluster in one SLURM allocation: scheduler in the batch script, workers in one srun step."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import LocalCluster

from dask_dedup.cluster import scheduler
from dask_dedup.cluster.slurm import settings
from dask_dedup.cluster.tls import dashboard_environment
from dask_dedup.errors import InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import ExitStack

    from distributed import Client, Security

#: Seconds for the workers to end after the scheduler, before they are terminated.
END_SECONDS = 15.0
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Allocation:
    """Nodes, tasks, cores and memory of the current SLURM job.

    Attributes
    ----------
    job : str
        Id of the job.
    nodes, tasks : int
    cores : int
        Cores of each task.
    memory : int or None
        Bytes of each task; None if SLURM does not limit it.
    """

    job: str
    nodes: int
    tasks: int
    cores: int
    memory: int | None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Allocation:
        """Read the allocation from the environment variables of a SLURM job.

        Examples
        --------
        >>> Allocation.read({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "4",
        ...     "SLURM_TASKS_PER_NODE": "2(x2)", "SLURM_CPUS_PER_TASK": "8", "SLURM_MEM_PER_NODE": "4096"})
        Allocation(job='7', nodes=2, tasks=4, cores=8, memory=2147483648)
        """
        if "SLURM_JOB_ID" not in environment:
            raise InputError(
                "this is not a SLURM job. Submit the command with sbatch; deploy/slurm/batch.sh is an example."
            )
        nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
        tasks = int(environment.get("SLURM_NTASKS", nodes))
        tasks_per_node = -(-tasks // nodes)
        # Without --cpus-per-task, the tasks share the cores of their node, such as "16(x2)".
        node_cores = re.match(r"\d+", environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
        share = max(1, int(node_cores[0] if node_cores else 1) // tasks_per_node)
        cores = int(environment.get("SLURM_CPUS_PER_TASK", share))
        memory = None
        if int(environment.get("SLURM_MEM_PER_NODE", "0")):
            memory = int(environment["SLURM_MEM_PER_NODE"]) * _MB // tasks_per_node
        elif "SLURM_MEM_PER_CPU" in environment:
            memory = int(environment["SLURM_MEM_PER_CPU"]) * _MB * cores
        return cls(environment["SLURM_JOB_ID"], nodes, tasks, cores, memory)


def start_in_allocation(
    stack: ExitStack,
    interface: str | None = None,
    dashboard_address: str | None = None,
    security: Security | None = None,
) -> Client:
    """Start a scheduler in this process and workers on all nodes of this SLURM job. Return a client.

    Each task of the job becomes worker processes of four threads, unless ``jobqueue.slurm.processes`` is set.
    The stack closes the cluster.
    """
    allocation = Allocation.read(os.environ)
    network = settings.choose_interface(interface, one_node=allocation.nodes == 1)
    stack.enter_context(scheduler.scheduler_settings(security))
    cluster = LocalCluster(
        n_workers=0,
        interface=network,
        protocol="tls://" if security else "tcp://",
        security=security,
        silence_logs=scheduler.LOG_LEVEL,
        scheduler_kwargs=settings.scheduler_options(dashboard_address),
    )
    processes = settings.count_processes(allocation.cores)
    script = _worker_script(allocation, processes, cluster.scheduler_address, network, security)
    step = stack.enter_context(_srun(allocation, script))
    # The cluster is closed before the step, because the workers end when they lose the scheduler.
    client = scheduler.client_of(stack, cluster)

    def check() -> None:
        if step.poll() is not None:
            raise RunError(
                f"the workers' srun step has ended with exit code {step.returncode}. Its messages are above, or in "
                "jobqueue.slurm.log-directory. Run the same command again to resume."
            )

    scheduler.wait_for_workers(client, allocation.tasks * processes, check)
    return client


@contextmanager
def _srun(allocation: Allocation, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell script in each task of the allocation. When the context ends, wait for the scripts to end."""
    command = [
        "srun",
        f"--ntasks={allocation.tasks}",
        # srun does not inherit this option from sbatch.
        f"--cpus-per-task={allocation.cores}",
        # A lost worker must not end the other workers.
        "--kill-on-bad-exit=0",
        "--input=none",
        *_log_options(),
        *("bash", "-c", script),
    ]
    environment = os.environ | {"DASK_LOGGING__DISTRIBUTED": "error"} | dashboard_environment()
    step = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield step
    finally:
        try:
            step.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            step.terminate()
            step.wait()


def _worker_script(
    allocation: Allocation,
    processes: int,
    address: str,
    interface: str,
    security: Security | None,
) -> str:
    """Return a shell script that starts the workers of one SLURM task. Its variables are expanded on the node."""
    words = [
        settings.setting("python", sys.executable),
        "-m",
        settings.setting("worker-command", "distributed.cli.dask_worker"),
        address,
        *("--nworkers", processes),
        *("--nthreads", max(1, allocation.cores // processes)),
        *("--memory-limit", (allocation.memory or 0) // processes or "auto"),
        *("--death-timeout", settings.setting("death-timeout", 60)),
        *("--interface", interface),
    ]
    if security:
        files = security.get_tls_config_for_role("worker")
        for option, part in (("ca-file", "ca_file"), ("cert", "cert"), ("key", "key")):
            words += [f"--tls-{option}", shlex.quote(files[part])]
    if settings.setting("local-directory"):
        words += ["--local-directory", settings.setting("local-directory")]
    prologue = [line for line in settings.setting("job-script-prologue", []) if line]
    command = " ".join(["exec", *map(str, words), *settings.worker_options()])
    return "\n".join([*prologue, command])


def _log_options() -> list[str]:
    folder = settings.setting("log-directory")
    if not folder:
        return []
    Path(folder).mkdir(parents=True, exist_ok=True)
    return [f"--output={folder}/dask-worker-%j-%t.out", f"--error={folder}/dask-worker-%j-%t.err"]
