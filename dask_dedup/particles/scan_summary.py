"""Summary of each scanned fragment, for the checks and the plan of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.rank import SCORE_SENTINEL
from dask_dedup.particles.column_names import is_column
from dask_dedup.particles.pixel_sizes import COLUMN, MICROGRAPH_OPTION, TABLE
from dask_dedup.particles.validity import Reason, count_reasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.formats import Fragment
    from dask_dedup.particles.checks.filaments import Tubes
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.particles.pixel_sizes import PixelSizes, UnclearRows
    from dask_dedup.particles.sample import ScannedSample
    from dask_dedup.particles.validity import Problem

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

#: Sources with the pixel size of the micrograph.
_OF_MICROGRAPH = (TABLE, COLUMN, MICROGRAPH_OPTION)


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """Lowest and highest score, and the numbers of scores that are missing, -999 or 0."""

    rows: int
    #: Number of NaN scores.
    missing: int
    #: Number of scores of -999.
    sentinel: int
    zero: int
    #: Range of the scores that are neither missing nor -999. Infinite if there are none.
    low: float
    high: float

    @classmethod
    def of(cls, score: Floats) -> ScoreRange:
        """Compute the range and the counts of an array of scores."""
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
class MicrographScales:
    """Minimum and maximum pixel size, height and width of each micrograph of a fragment, angstrom."""

    #: (m, 3), or (1, 3) if all micrographs have equal values. NaN where unknown.
    least: Floats
    greatest: Floats


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """Summary of one scanned fragment: rows per micrograph, pixel sizes, scores, problems."""

    fragment: int
    source: int
    rows: int
    #: (m,) distinct keys. Invalid rows are only included if they are an error.
    micrographs: NDArray[np.uint64]
    #: (m,) number of rows of each micrograph.
    counts: NDArray[np.int64]
    #: All micrograph names, also of rows that are not compared. A key may have several names if bare names are
    #: compared. Empty if micrographs are matched by uid and have no group.
    names: list[MicrographName]
    #: Minimum and maximum pixel size by source, such as `pixel_sizes.COLUMN`, angstrom. Empty if no pixel size is
    #: needed.
    psize: dict[int, tuple[float, float]]
    #: Minimum and maximum of the micrograph pixel size column of the table. NaN without this column.
    stored_psize: tuple[float, float]
    score: ScoreRange | None
    #: Problems of invalid rows.
    problems: list[Problem]
    #: Problems of valid rows, for warnings.
    oddities: list[Problem] = field(default_factory=list)
    #: Number of rows that are not compared, by the first reason.
    invalid: dict[str, int] = field(default_factory=dict)
    #: Paths of the micrographs with the most rows, if micrographs are matched by uid.
    densest_paths: list[MicrographName] = field(default_factory=list)
    #: Summary of the rows with an unclear pixel size.
    unclear_rows: UnclearRows | None = None
    #: For each value of each hive key, the keys of the micrographs under this value. Only hive keys that may need a
    #: decision by `group_by`.
    hive_values: dict[str, dict[str, NDArray[np.uint64]]] = field(default_factory=dict)
    #: Minimum and maximum stored RELION coordinate. NaN if all are 0 or 1.
    coordinates: tuple[float, float] = (np.nan, np.nan)
    #: (m,) number of rows of each micrograph with pixel coordinates that are fractions. None if there are none.
    fractional: NDArray[np.int64] | None = None
    #: Whether all coordinates are 0.
    zero_filled: bool = False
    #: Scales of the micrographs. None if no pixel size is needed.
    scales: MicrographScales | None = None
    #: The filaments, if they have track lengths.
    tubes: Tubes | None = None
    #: Sample for the report. None without a report.
    sample: ScannedSample | None = None
    #: (m, 6) minimum x, y and z, and maximum x, y and z of each micrograph. None if no votes are counted.
    bounds: Floats | None = None

    def lean(self) -> ScanSummary:
        """Return the summary without the fields that only the checks need."""
        return replace(self, names=[], tubes=None, sample=None, bounds=None)


def summarize(
    found: Extract, fragment: Fragment, roles: ColumnRoles, params: DedupParams
) -> ScanSummary:
    """Summarise the picks and problems extracted from a fragment."""
    picks = found.picks
    # If invalid rows are an error, the message also lists other problems of these rows.
    refused = params.invalid == "error"
    excluded = Reason.SCORE | Reason.MICROGRAPH if refused else ~Reason(0)
    compared = (picks.invalid & np.uint16(excluded)) == 0
    keys, number = unique_inverse(_select(picks.micrograph, compared))
    fractional = None
    if found.fractional is not None:
        of_rows = number[_select(found.fractional, compared)]
        fractional = np.bincount(of_rows, minlength=keys.size)
    return ScanSummary(
        fragment=fragment.number,
        source=fragment.source,
        rows=fragment.rows,
        micrographs=keys,
        counts=np.bincount(number, minlength=keys.size),
        names=found.micrographs.named(),
        psize={} if found.psize is None else _ranges(found.sizes, compared),
        stored_psize=_range(found.sizes.stored, compared),
        score=ScoreRange.of(_select(picks.score, compared)) if roles.score else None,
        problems=found.problems,
        oddities=found.oddities,
        invalid=count_reasons(picks.invalid),
        unclear_rows=found.unclear_rows,
        hive_values={} if params.group_by else _hive_values(found, fragment),
        coordinates=found.coordinates,
        fractional=fractional,
        zero_filled=found.zero_filled,
        scales=_scales(found, number, keys.size, compared),
        tubes=found.tubes,
        bounds=_bounds(picks, number, keys.size, compared) if params.counts_votes else None,
    )


def _bounds(picks: Picks, number: NDArray[np.intp], count: int, compared: Mask) -> Floats:
    """Return the bounds of the compared picks on each of `count` micrographs, (count, 6).

    `number` is the number of the micrograph of each pick, from 0.
    """
    order, starts = _sort(number, count)
    axes = [_select(axis, compared)[order] for axis in (picks.x, picks.y, picks.z)]
    ends = [side.reduceat(axis, starts) for side in (np.minimum, np.maximum) for axis in axes]
    return np.column_stack(ends) if count else np.empty((0, 6))


def _scales(
    found: Extract, number: NDArray[np.intp], count: int, compared: Mask
) -> MicrographScales | None:
    """Summarise the scales of the compared rows. `number` and `count` are as in `_bounds`."""
    if found.psize is None or not count:
        return None
    size = found.psize
    if not set(found.sizes.sources) <= set(_OF_MICROGRAPH):
        size = np.where(np.isin(found.sizes.source, _OF_MICROGRAPH), size, np.nan)
    values = [size]
    if found.shape is not None:
        values += [found.shape[:, 0] * found.psize, found.shape[:, 1] * found.psize]
    values = [_select(each, compared) for each in values]
    ranges = [(each[:1], each[:1]) for each in values]
    if not all(((each == each[0]) | np.isnan(each)).all() for each in values):
        order, starts = _sort(number, count)
        ranges = [
            (np.fmin.reduceat(each[order], starts), np.fmax.reduceat(each[order], starts))
            for each in values
        ]
    ranges += [(np.full_like(ranges[0][0], np.nan),) * 2] * (3 - len(ranges))
    least, greatest = (np.column_stack([pair[side] for pair in ranges]) for side in (0, 1))
    return MicrographScales(least, greatest)


def _sort(number: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows sorted by the number of their micrograph, and the start of each of `count` micrographs."""
    order = np.argsort(number, kind="stable")
    return order, np.searchsorted(number[order], np.arange(count))


def _hive_values(found: Extract, fragment: Fragment) -> dict[str, dict[str, NDArray[np.uint64]]]:
    """Return the keys of the micrographs under each value of each hive key. Empty if micrographs are matched by uid."""
    values: dict[str, dict[str, list[NDArray[np.uint64]]]] = {}
    micrographs, start = found.micrographs, 0
    for part in fragment.slices if micrographs.names else ():
        rows = slice(start, start + part.rows)
        start += part.rows
        keys = np.unique(micrographs.stored[rows][~micrographs.missing[rows]])
        for key, value in part.keys:
            if not is_column(key):
                text = "null" if value is None else str(value)
                values.setdefault(key, {}).setdefault(text, []).append(keys)
    return {
        key: {value: np.unique(np.concatenate(parts)) for value, parts in found.items()}
        for key, found in values.items()
    }


def _select(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    return values if chosen.all() else values[chosen]  # no copy in the usual case


def _ranges(sizes: PixelSizes, compared: NDArray[np.bool_]) -> dict[int, tuple[float, float]]:
    """Return the minimum and maximum pixel size by source. Sources without a pixel size have NaN."""
    sources = sizes.sources
    if len(sources) == 1:
        return {sources[0]: _range(sizes.used, compared)}
    each = {source: compared & (sizes.source == source) for source in sources}
    return {source: _range(sizes.used, rows) for source, rows in each.items() if rows.any()}


def _range(values: Floats | None, compared: NDArray[np.bool_]) -> tuple[float, float]:
    usable = np.empty(0) if values is None else _select(values, compared)
    usable = usable[np.isfinite(usable)]
    return (float(usable.min()), float(usable.max())) if usable.size else (np.nan, np.nan)
