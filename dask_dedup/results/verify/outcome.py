"""The outcome of a verification: one entry per check. It is stored, so that a later report shows it, too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dask_dedup.errors import DedupError
from dask_dedup.formatting import html_table
from dask_dedup.output.layout import PAGE, VERIFICATION
from dask_dedup.output.manifest import DUPLICATES_ONLY
from dask_dedup.results.recorded_inputs import MissingInputError
from dask_dedup.storage.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dask_dedup.results.finished_run import FinishedRun

#: Values that identify a run. Another run in the same folder, or a repetition, has other values.
_RUN = ("run_id", "created", DUPLICATES_ONLY)
#: Errors that can be raised while a damaged file or manifest is read, besides a failed check.
FAULTS = (DedupError, pa.ArrowException, OSError, ValueError, LookupError, TypeError)


class MismatchError(DedupError):
    """A finished run fails a check."""


class UncheckedError(DedupError):
    """A check is not possible."""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes
    ----------
    name : str
    passed : bool or None
        None if the check was not possible, for example without the inputs.
    detail : str
        One line: the result of the check, or the fault.
    """

    name: str
    passed: bool | None
    detail: str

    @classmethod
    def of(cls, name: str, examine: Callable[..., str], *arguments: Any) -> Check:
        """Run a check function. Return a `Check` with the text that it returns, or with its error."""
        try:
            return cls(name, passed=True, detail=examine(*arguments))
        except FAULTS as error:
            return cls.failed(name, error)

    @classmethod
    def failed(cls, name: str, error: Exception) -> Check:
        """Return the outcome of a check that raised an error."""
        detail = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError):
            detail = "cannot be checked, because a file is missing"
        elif not isinstance(error, DedupError):
            detail = f"cannot be read ({type(error).__name__}: {detail})"
        unchecked = isinstance(error, (UncheckedError, MissingInputError))
        return cls(name, None if unchecked else False, detail)

    def __str__(self) -> str:
        return f"{_VERDICTS[self.passed]:<6}{self.name}: {self.detail}"


_VERDICTS = {True: "ok", False: "FAIL", None: "-"}


@dataclass(frozen=True, slots=True, repr=False)
class Verification:
    """The outcome of `dask_dedup.verify`.

    Attributes
    ----------
    output : Path
    checks : tuple of Check
        files, inputs, rows, validity, separation, rejections, duplicates, votes (if they are
        counted), totals.
    closest_kept_A : float or None
        Exact distance in angstrom of the closest two kept particles that would be duplicates at a
        larger separation. None if no two are within twice the separation, or without the inputs.
    """

    output: Path
    checks: tuple[Check, ...]
    closest_kept_A: float | None  # noqa: N815

    @property
    def passed(self) -> bool:
        """Whether no check failed. True even if some checks were not possible."""
        return all(check.passed is not False for check in self.checks)

    @property
    def verified(self) -> bool:
        """Whether every check was possible and passed."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        failed = sum(check.passed is False for check in self.checks)
        unchecked = sum(check.passed is None for check in self.checks)
        if failed:
            return f"is NOT correct: {failed} of {len(self.checks)} checks failed"
        if unchecked:
            return f"is not verified: {unchecked} of {len(self.checks)} checks were not possible"
        return "is verified"

    def lines(self) -> list[str]:
        """Return the text for a terminal: one line per check, then the verdict."""
        return [*map(str, self.checks), f"{self.output} {self.verdict}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            "output": str(self.output),
            "passed": self.passed,
            "verified": self.verified,
            "closest_kept_A": self.closest_kept_A,
            "checks": [asdict(check) for check in self.checks],
        }

    def __repr__(self) -> str:
        return f"<Verification: {self.output} {self.verdict}>"

    def _repr_html_(self) -> str:
        rows = {check.name: f"{_VERDICTS[check.passed]}: {check.detail}" for check in self.checks}
        return html_table(f"{self.output} {self.verdict}", rows, self.output / PAGE)


def outcome_json(run: FinishedRun, found: Verification) -> str:
    """Return the text of the file ``verification.json`` of a run."""
    described = {name: run.manifest.get(name) for name in _RUN} | found.to_dict()
    return json.dumps(described, indent=2) + "\n"


def read_outcome(run: FinishedRun) -> Verification | None:
    """Read the outcome stored for a run. Return None if the file is of another run, or damaged."""
    try:
        stored = json.loads(read_bytes(run.output / VERIFICATION))
        if any(stored.get(name) != run.manifest.get(name) for name in _RUN):
            return None
        checks = tuple(
            Check(str(each["name"]), passed=each["passed"], detail=str(each["detail"]))
            for each in stored["checks"]
        )
        return Verification(run.output, checks, stored["closest_kept_A"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
