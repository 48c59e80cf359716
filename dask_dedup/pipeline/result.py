"""The result of a run, as returned to the caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import html_table
from dask_dedup.hints import Message
from dask_dedup.output.layout import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.particles.report_contents import ReportContents


@dataclass(frozen=True, slots=True, repr=False)
class RunResult:
    """Numbers of kept and rejected particles, warnings and manifest of a finished run.

    Attributes
    ----------
    output : Path
    rows, kept, rejected : int
        ``kept + rejected == rows``.
    invalid : int
        Rows that could not be compared. They are counted in `kept` or `rejected` too.
    low_score : int
        Rows with a score worse than `min_score`. They are counted in `rejected` too.
    outvoted : int
        Rows rejected for their votes. They are counted in `rejected` too.
    by_input : list of dict
        ``path``, ``rows``, ``kept``, ``rejected``, ``invalid``, ``low_score`` and ``outvoted`` of each input.
    warnings : list of str
    already_done : bool
        Whether an earlier or concurrent run of the same id wrote the result.
    manifest : dict
        Content of ``manifest.json``.
    report_contents : ReportContents or None
        Contents of the report, collected during the run. None if the report must read the datasets.
    """

    output: Path
    rows: int
    kept: int
    rejected: int
    invalid: int
    low_score: int
    outvoted: int
    by_input: list[dict[str, Any]]
    warnings: list[str]
    already_done: bool
    manifest: dict[str, Any]
    report_contents: ReportContents | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        output: Path,
        manifest: dict[str, Any],
        *,
        already_done: bool,
        contents: ReportContents | None = None,
    ) -> RunResult:
        """Make the result of a run from its manifest."""
        counts = ("rows", "kept", "rejected", "invalid", "low_score", "outvoted", "by_input")
        return cls(
            output=output,
            **{name: manifest["totals"][name] for name in counts},
            warnings=list(map(Message, manifest.get("marked_warnings", manifest["warnings"]))),
            already_done=already_done,
            manifest=manifest,
            report_contents=contents,
        )

    def __repr__(self) -> str:
        return f"<RunResult: {self.output}, {self.kept:,} of {self.rows:,} particles kept>"

    def _repr_html_(self) -> str:
        rows = {"output": self.output, "particles": f"{self.rows:,}", "kept": f"{self.kept:,}"}
        rows["rejected"] = f"{self.rejected:,}"
        rows |= {"rejected for their votes": f"{self.outvoted:,}"} if self.outvoted else {}
        rows["not compared"] = f"{self.invalid:,}"
        rows |= {"warning": "; ".join(self.warnings)} if self.warnings else {}
        return html_table("Duplicates removed", rows, self.output / PAGE)
