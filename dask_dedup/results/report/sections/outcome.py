"""Headline, rule, and the table of kept and rejected picks of each picker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import counted
from dask_dedup.results.report.wording import headline, rule

if TYPE_CHECKING:
    from dask_dedup.results.report.subject import Subject

#: Maximum number of rows in the table. Further pickers share the last row.
_LISTED = 16
_NUMBERS = ("rows", "kept", "rejected", "outvoted")


def outcome(subject: Subject) -> dict[str, Any]:
    """Return headline, rule, verification and the rows of the table."""
    totals = subject.manifest["totals"]
    by_input = totals["by_input"]
    rows = []
    for picker in subject.pickers:
        entries = [by_input[source] for source in picker.sources]
        rows.append(
            {
                "picker": picker,
                **{name: sum(entry[name] for entry in entries) for name in _NUMBERS},
            }
        )
    shown, others = rows, None
    if len(rows) > _LISTED:
        shown, rest = rows[: _LISTED - 1], rows[_LISTED - 1 :]
        others = {name: sum(row[name] for row in rest) for name in _NUMBERS}
        others["name"] = f"{len(rest)} more pickers"
    return {
        "headline": headline(subject),
        "rule": rule(subject),
        "rows": shown,
        "others": others,
        "most": max((row["rows"] for row in [*shown, *([others] if others else [])]), default=0)
        or 1,
        "total": totals,
        "other_rejected": "duplicates"
        if subject.duplicates + subject.outvoted == totals["rejected"]
        else "rejected otherwise",
        "verification": _verification(subject),
    }


def _verification(subject: Subject) -> dict[str, Any]:
    found = subject.verification
    if found is None:
        return {"state": "open"}
    failed = [check for check in found.checks if check.passed is False]
    unknown = [check for check in found.checks if check.passed is None]
    number = counted(len(found.checks), "check")
    if failed:
        text = f"The result is not correct: {len(failed)} of {number} failed."
        return {"state": "failed", "text": text, "checks": found.checks}
    if unknown:
        text = f"Not verified: {len(unknown)} of {number} could not be made."
        return {"state": "unknown", "text": text, "checks": found.checks}
    return {"state": "passed", "text": f"all {number} passed.", "checks": found.checks}
