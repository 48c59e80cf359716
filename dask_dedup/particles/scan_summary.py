"""What the scan of a fragment finds: rows per micrograph, uids, pixel sizes, scores, problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.arrow import unique_inverse
from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.particles.micrographs import keys_of_names
from dask_dedup.particles.validity import Reason, count_reasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import Fragment
    from dask_dedup.particles.conventions import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.validity import Problem

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """Counts and range of some scores.

    Attributes
    ----------
    rows, missing, sentinel, zero : int
        All scores, and those that are NaN, -999 and 0.
    low, high : float
        Of the other scores; infinite if there are none.
    """

    rows: int
    missing: int
    sentinel: int
    zero: int
    low: float
    high: float

    @classmethod
    def of(cls, score: Floats) -> ScoreRange:
        """Return counts and range of the scores of one fragment."""
        sentinel = score == SCORE_SENTINEL
        usable = score[~(np.isnan(score) | sentinel)]
        return cls(
            rows=score.size,
            missing=int(np.isnan(score).sum()),
            sentinel=int(sentinel.sum()),
            zero=int((score == 0).sum()),
            low=float(usable.min()) if usable.size else np.inf,
            high=float(usable.max()) if usable.size else -np.inf,
        )

    def __add__(self, other: ScoreRange) -> ScoreRange:
        return ScoreRange(
            self.rows + other.rows,
            self.missing + other.missing,
            self.sentinel + other.sentinel,
            self.zero + other.zero,
            min(self.low, other.low),
            max(self.high, other.high),
        )


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a fragment contains.

    Attributes
    ----------
    fragment, source, rows : int
    micrographs : (m,) uint64
        Keys, each once. Unless invalid rows are an error, only of valid rows.
    counts : (m,) int64
        Rows of each.
    names : list of (int, str)
        Every micrograph name with its key; several per key if bare names are compared, none if
        micrographs go by uid.
    uids : (n,) uint64
        Sorted; of all rows that have one.
    psize : tuple of float
        Least and greatest micrograph pixel size used, angstrom; NaN if none is.
    stored_psize : tuple of float
        The same of the table's own column.
    score : ScoreRange or None
    problems : list of Problem
        Of invalid rows.
    oddities : list of Problem
        Of valid rows; reason for a warning.
    invalid : dict of str to int
        Invalid rows by their first reason.
    """

    fragment: int
    source: int
    rows: int
    micrographs: NDArray[np.uint64]
    counts: NDArray[np.int64]
    names: list[tuple[int, str]]
    uids: NDArray[np.uint64]
    psize: tuple[float, float]
    stored_psize: tuple[float, float]
    score: ScoreRange | None
    problems: list[Problem]
    oddities: list[Problem] = field(default_factory=list)
    invalid: dict[str, int] = field(default_factory=dict)


def summarize(
    found: Extract, fragment: Fragment, roles: ColumnRoles, params: DedupParams
) -> ScanSummary:
    """Return the summary of a fragment."""
    picks = found.picks
    # If invalid rows are an error, the message also names what else is wrong with them.
    excluded = Reason.MICROGRAPH if params.invalid == "error" else ~Reason(0)
    compared = (picks.invalid & np.uint16(excluded)) == 0
    keys, number = unique_inverse(_select(picks.micrograph, compared))
    named = (picks.invalid & np.uint16(Reason.MICROGRAPH)) == 0
    # Names of rows that are not compared count, too: clashes must not depend on the fragments.
    present = {*keys.tolist(), *np.unique(picks.micrograph[named & ~compared]).tolist()}
    name_keys = keys_of_names(found.names, roles.match).tolist()
    names = [pair for pair in zip(name_keys, found.names, strict=True) if pair[0] in present]
    uids = np.empty(0, np.uint64)
    if roles.uid:
        uids = np.sort(_select(picks.uid, (picks.invalid & np.uint16(Reason.UID)) == 0))
    return ScanSummary(
        fragment=fragment.number,
        source=fragment.source,
        rows=fragment.rows,
        micrographs=keys,
        counts=np.bincount(number, minlength=keys.size),
        names=names,
        uids=uids,
        psize=_range(found.psize, compared),
        stored_psize=_range(found.stored_psize, compared),
        score=ScoreRange.of(_select(picks.score, compared)) if roles.score else None,
        problems=found.problems,
        oddities=found.oddities,
        invalid=count_reasons(picks.invalid),
    )


def _select(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    return values if chosen.all() else values[chosen]  # no copy in the usual case


def _range(values: Floats | None, compared: NDArray[np.bool_]) -> tuple[float, float]:
    usable = np.empty(0) if values is None else _select(values, compared)
    usable = usable[np.isfinite(usable)]
    return (float(usable.min()), float(usable.max())) if usable.size else (np.nan, np.nan)
