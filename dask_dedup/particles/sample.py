"""The sample in a report: all picks of some whole micrographs, with the decisions about them.

The choice of micrographs depends only on their keys and numbers of rows. So every executor, attempt and order of files
gives the same sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dask_dedup.dedup.arrays import ArrayTable, dtypes_of, find_sorted
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.rank import splitmix64

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Keys = NDArray[np.uint64]

#: Micrographs are added to the sample until they have this many picks together.
SAMPLE_PICKS = 60_000
#: Number of candidate picks for the sample, before the picks on all micrographs are counted.
_CANDIDATES = 3 * SAMPLE_PICKS
#: If a micrograph has more picks than this, only a window of it is sampled.
MOST_ON_ONE = SAMPLE_PICKS
#: Row of the winner if a pick has no winner.
NO_ROW = -1


@dataclass(frozen=True, slots=True)
class SampledPicks(ArrayTable):
    """Table of the sampled picks, about 90 bytes each.

    Attributes
    ----------
    micrograph : (n,) uint64
        Micrograph key, as in `Picks`. The same applies to x, y, z, score, uid, source, half and label.
    row : (n,) int64
        Row number in the input, from 0.
    kept : (n,) bool
    winner_source, winner_row : (n,) uint16, int64
        Input of the winner, and its row number there; `NO_ROW` without a winner.
    distance : (n,) float64
        Distance to the winner in angstrom; NaN without a winner.
    votes : (n,) uint16
        Number of pickers that voted for the pick. 0 if the pick is a duplicate, or if votes are not counted.
    """

    micrograph: Keys
    source: NDArray[np.uint16]
    row: NDArray[np.int64]
    x: Floats
    y: Floats
    z: Floats
    score: Floats
    uid: Keys
    half: NDArray[np.int8]
    label: NDArray[np.int64]
    kept: Bools
    winner_source: NDArray[np.uint16]
    winner_row: NDArray[np.int64]
    distance: Floats
    votes: NDArray[np.uint16]

    @property
    def outvoted(self) -> Bools:
        """Mask of the picks that are rejected for their votes, (n,)."""
        return np.asarray(~self.kept & (self.votes > 0))

    def in_order(self) -> Self:
        """Return the table sorted by micrograph, input and row."""
        return self.take(np.lexsort((self.row, self.source, self.micrograph)))

    def winners(self) -> NDArray[np.intp]:
        """Return the row number in this table of each pick's winner, or -1, (n,) intp."""
        place = pack_rows(self.source, self.row)
        order = np.argsort(place)
        at = find_sorted(place[order], pack_rows(self.winner_source, self.winner_row))
        return np.where((at >= 0) & (self.winner_row != NO_ROW), order[at], -1)

    def picks(self) -> Picks:
        """Return the table as `Picks` with the same ranks as in the run. The table must be `in_order`."""
        # Only the order of row ids matters: by input and row.
        row_id = np.empty(len(self), dtype=np.uint64)
        row_id[np.lexsort((self.row, self.source))] = np.arange(len(self), dtype=np.uint64)
        invalid = np.zeros(len(self), dtype=np.uint16)
        return Picks.from_columns({**self.columns(), "row_id": row_id, "invalid": invalid})


SampledPicks.dtypes = dtypes_of(
    *(SampledPicks, "u8", "u2", "i8", "f8", "f8", "f8", "f8", "u8", "i1", "i8"),
    *("?", "u2", "i8", "f8", "u2"),
)


def pack_rows(source: NDArray[Any], row: NDArray[np.int64]) -> Keys:
    """Pack the input and the row number in this input into one number for each row, (n,)."""
    return (source.astype(np.uint64) << np.uint64(48)) | row.astype(np.uint64)


@dataclass(frozen=True, slots=True)
class SampledMicrographs(ArrayTable):
    """Table of the sampled micrographs: pixel size and size, from the first row with these values.

    Attributes
    ----------
    key : (m,) uint64
    source, row : (m,) uint16, int64
        Input and row with these values.
    psize : (m,) float64
        Pixel size of the coordinates, angstrom; NaN if unknown.
    width, height, depth : (m,) float64
        Size in the unit of the centres, or in pixels if the positions are fractions; NaN if unknown.
    """

    key: Keys
    source: NDArray[np.uint16]
    row: NDArray[np.int64]
    psize: Floats
    width: Floats
    height: Floats
    depth: Floats

    def firsts(self) -> Self:
        """Return one row of each micrograph, sorted by key: the first row with a size, or else the first row."""
        unknown = np.isnan(self.width)
        order = np.lexsort((self.row, self.source, unknown, self.key))
        _, first = np.unique(self.key[order], return_index=True)
        return self.take(order[first])


SampledMicrographs.dtypes = dtypes_of(SampledMicrographs, "u8", "u2", "i8", "f8", "f8", "f8", "f8")


@dataclass(frozen=True, slots=True)
class ScannedSample:
    """Record of the micrographs of a fragment that may be sampled, made by the scan.

    Attributes
    ----------
    micrographs : SampledMicrographs
    large : (k,) uint64
        Keys of micrographs that may need a window.
    bounds : (k, 4) float64
        Minimum x and y, and maximum x and y, of the picks on each micrograph in `large`.
    picks : Picks or None
        Compared picks on the micrographs that are probably in the sample (`likely_sampled`). None if there are too
        many of them.
    """

    micrographs: SampledMicrographs
    large: Keys
    bounds: Floats
    picks: Picks | None


@dataclass(frozen=True, slots=True)
class SampleChoice:
    """The micrographs of a sample.

    Attributes
    ----------
    keys : (m,) uint64
        Sorted micrograph keys.
    windows : (m, 4) float64
        Minimum x and y, and maximum x and y, of the sampled picks. Infinite if all picks are sampled.
    """

    keys: Keys
    windows: Floats

    @property
    def whole(self) -> Bools:
        """Mask of the micrographs with all picks in the sample, (m,)."""
        return np.asarray(np.isinf(self.windows[:, 0]))

    def find(self, keys: Keys) -> NDArray[np.intp]:
        """Return the index in the sample of each micrograph key, or -1 for keys that are not in the sample."""
        found = np.full(keys.size, -1, dtype=np.intp)
        if not self.keys.size:
            return found
        # Only few keys of a large table are in the sample, and a comparison of hashes is faster than a search.
        few = np.flatnonzero(splitmix64(keys) <= splitmix64(self.keys).max())
        found[few] = find_sorted(self.keys, keys[few])
        return found

    def chosen(self, micrograph: Keys, x: Floats, y: Floats) -> Bools:
        """Return an (n,) mask of the picks that belong to the sample."""
        at = self.find(micrograph)
        chosen = at >= 0
        if not self.whole.all():
            left, top, right, bottom = self.windows[at].T
            chosen &= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return np.asarray(chosen)


#: A choice without micrographs.
NO_SAMPLE = SampleChoice(np.empty(0, np.uint64), np.empty((0, 4)))


def likely_sampled(micrographs: Keys, rows: int) -> Bools:
    """Return an (n,) mask of the micrograph keys that are probably in a sample of a run with `rows` rows.

    The mask covers about three times the number of sampled picks, so that it probably contains all sampled keys.
    """
    share = _CANDIDATES / max(1, rows)
    if share >= 1:
        return np.ones(micrographs.size, dtype=bool)
    return np.asarray(splitmix64(micrographs) <= np.uint64(share * 2.0**64))


def choose_sample(
    keys: Keys, rows: NDArray[np.int64], bounds: Floats | None = None, named: Collection[int] = ()
) -> SampleChoice:
    """Choose the micrographs of the sample: in rising order of their hash, until they have `SAMPLE_PICKS` picks.

    Parameters
    ----------
    keys : (m,) uint64
        All micrographs.
    rows : (m,) int64
        Number of compared picks on each micrograph.
    bounds : (m, 4) float64, optional
        Minimum x and y, and maximum x and y, of all picks on each micrograph; infinite where unknown. Only needed
        where `rows` is above `MOST_ON_ONE`.
    named : collection of int
        Keys of micrographs that the user asked for.
    """
    order = np.argsort(splitmix64(keys))
    before = np.cumsum(rows[order]) - rows[order]
    chosen = np.isin(keys, np.fromiter(named, dtype=np.uint64, count=len(named)))
    chosen[order[before < SAMPLE_PICKS]] = True
    some = np.flatnonzero(chosen)
    some = some[np.argsort(keys[some])]
    windows = np.tile([-np.inf, -np.inf, np.inf, np.inf], (some.size, 1))
    large = np.flatnonzero(rows[some] > MOST_ON_ONE)
    if bounds is not None and large.size:
        known = bounds[some[large]]
        known = np.where(np.isfinite(known), known, np.nan)
        low, high = known[:, :2], known[:, 2:]
        side = np.sqrt(SAMPLE_PICKS / rows[some[large]])[:, np.newaxis] * (high - low)
        windows[large] = np.hstack([(low + high - side) / 2, (low + high + side) / 2])
    return SampleChoice(keys[some], windows)


def bounds_of(micrograph: Keys, x: Floats, y: Floats, keys: Keys) -> Floats:
    """Return the minimum x and y, and the maximum x and y, of the picks on each of the sorted `keys`, (m, 4).

    Micrographs without picks have infinite values.
    """
    bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (keys.size, 1))
    number = np.searchsorted(keys, micrograph)
    for column, axis in enumerate((x, y)):
        np.fmin.at(bounds[:, column], number, axis)
        np.fmax.at(bounds[:, column + 2], number, axis)
    return bounds


def join_bounds(keys: Keys, parts: Iterable[tuple[Keys, Floats]]) -> Floats:
    """Combine the bounds of several parts. Return the bounds for all sorted `keys`, (m, 4).

    Each part has micrograph keys and the bounds of their picks.
    """
    bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (keys.size, 1))
    for some, found in parts:
        at = np.searchsorted(keys, some)
        bounds[at, :2] = np.minimum(bounds[at, :2], found[:, :2])
        bounds[at, 2:] = np.maximum(bounds[at, 2:], found[:, 2:])
    return bounds
