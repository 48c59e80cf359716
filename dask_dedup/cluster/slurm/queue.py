"""What SLURM says of jobs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds a command of SLURM may take; a controller that restarts keeps its callers waiting.
ANSWER_SECONDS = 30
#: Of a job that has not begun, and of one that is at work or about to be.
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
AT_WORK = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}
)
#: Why a job waits that will never begin as it was asked for, however long one waits.
HOPELESS = frozenset(
    {
        *("AccountNotAllowed", "QOSNotAllowed", "InvalidAccount", "InvalidQOS", "BadConstraints"),
        *("PartitionTimeLimit", "PartitionNodeLimit", "AssocMaxWallDurationPerJobLimit"),
        *("AssocMaxCpuPerJobLimit", "AssocMaxMemPerJob", "AssocMaxNodePerJobLimit"),
        *("QOSMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSMaxMemoryPerJob"),
        *("QOSMaxNodePerJobLimit", "JobHeldAdmin"),
    }
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job is.

    Attributes
    ----------
    state : str
        Such as PENDING, RUNNING or TIMEOUT, in SLURM's words.
    reason : str
        Why it waits, or why it failed, in SLURM's words; None where there is none.
    """

    state: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.state in WAITING

    @property
    def is_hopeless(self) -> bool:
        """Whether it waits for what will not come."""
        return self.waits and self.reason in HOPELESS

    @property
    def has_ended(self) -> bool:
        """Whether nothing is to be expected of it."""
        return self.state not in WAITING | AT_WORK

    def __str__(self) -> str:
        return self.state if self.reason in ("", "None") else f"{self.state}, {self.reason}"


def standings(jobs: Iterable[str]) -> dict[str, Standing] | None:
    """Ask SLURM how jobs are; those that it has forgotten are left out.

    Returns
    -------
    dict of str to Standing, or None
        None if SLURM does not answer.
    """
    told = _ask("--states=all", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}")
    if told is None:
        return None
    lines = [line.split("|", 2) for line in told.splitlines() if line.count("|") >= 2]
    return {job: Standing(state, reason) for job, state, reason in lines}


def time_left(job: str) -> str | None:
    """Ask SLURM how much of its time a job has left, in SLURM's format; None if it does not say."""
    told = _ask("--format=%L", f"--jobs={job}")
    return told.strip() if told else None


def _ask(*options: str) -> str | None:
    try:
        outcome = subprocess.run(
            ["squeue", "--noheader", *options],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # That is how squeue says of a single job that it has forgotten it.
    if outcome.returncode and "Invalid job id" not in outcome.stderr:
        return None
    return outcome.stdout
