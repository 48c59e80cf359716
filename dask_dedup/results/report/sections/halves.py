"""The section on duplicates in both half-sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_dedup.results.report.wording import percent

if TYPE_CHECKING:
    from dask_dedup.results.report.subject import Subject


def halves(subject: Subject) -> dict[str, Any] | None:
    """Return the section on half-sets, or None if there are no half-sets, duplicates or winners."""
    across = subject.manifest["totals"]["across_half_sets"]
    has_halves = any(entry["columns"]["half_set"] for entry in subject.manifest["inputs"])
    number = subject.duplicates
    if not has_halves or across is None or not number:
        return None
    what = "duplicates" if subject.outvoted else f"rejected {subject.noun}s"
    its = "winner" if subject.outvoted else "duplicate"
    text = f"{across:,} of the {number:,} {what} ({percent(across / number)}) had their {its} in the other half-set."
    return {
        "text": text,
        "why": "If a particle is in both half-sets, the half-sets are not independent, and the FSC resolution "
        "looks better than it is. Refine again without the rejected particles."
        if across
        else "So the duplicates did not make the FSC resolution look better than it is.",
        "rows": [
            ("in different half-sets", across, ""),
            ("in the same half-set, or not known", number - across, "r"),
        ],
        "number": number,
    }
