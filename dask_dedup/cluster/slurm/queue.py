"""States of SLURM jobs, from squeue."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds to wait for squeue, which blocks while SLURM's controller restarts.
ANSWER_SECONDS = 30
#: State of a job that SLURM no longer knows.
UNKNOWN = "no longer in SLURM's list"
ENDED = frozenset(
    {
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED", UNKNOWN),
    }
)
#: Reasons for which a pending job never starts unless its request changes.
NEVER_STARTS = frozenset(
    {
        *("AccountNotAllowed", "QOSNotAllowed", "InvalidAccount", "InvalidQOS", "BadConstraints"),
        *("PartitionTimeLimit", "PartitionNodeLimit", "AssocMaxWallDurationPerJobLimit"),
        *("AssocMaxCpuPerJobLimit", "AssocMaxMemPerJob", "AssocMaxNodePerJobLimit"),
        *("QOSMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSMaxMemoryPerJob"),
        *("QOSMaxNodePerJobLimit", "JobHeldAdmin"),
    }
)


class JobState(NamedTuple):
    """State of a SLURM job.

    Attributes
    ----------
    state : str
        SLURM's name, such as PENDING or TIMEOUT. `UNKNOWN` if SLURM no longer knows the job.
    reason : str
        The reason why the job is pending or has failed. "None" without a reason.
    """

    state: str
    reason: str = "None"

    @property
    def is_pending(self) -> bool:
        """Whether the job waits in the queue."""
        return self.state == "PENDING"

    @property
    def never_starts(self) -> bool:
        """Whether the job waits in the queue but can never start."""
        return self.is_pending and self.reason in NEVER_STARTS

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended, for any reason."""
        return self.state in ENDED

    def __str__(self) -> str:
        return self.state if self.reason == "None" else f"{self.state}, {self.reason}"


def job_states(jobs: Iterable[str]) -> dict[str, JobState] | None:
    """Map job id to the job's state in squeue. Return None if squeue fails."""
    states = dict.fromkeys(jobs, JobState(UNKNOWN))
    command = [
        *("squeue", "--noheader", "--states=all", "--format=%i|%T|%r"),
        f"--jobs={','.join(states)}",
    ]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # With a single job, squeue fails if it no longer knows the job.
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return None
    lines = [line.split("|", 2) for line in answer.stdout.splitlines() if line.count("|") >= 2]
    return states | {job: JobState(state, reason) for job, state, reason in lines}
