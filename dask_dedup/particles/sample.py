"""The sample that a report shows: all picks of some whole micrographs, with what became of them.

Which micrographs are in the sample depends on their keys and numbers of rows only, so every engine, attempt and
order of files gives the same sample.
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

#: Micrographs are sampled until they have this many picks.
SAMPLE_PICKS = 60_000
#: Picks that are kept as candidates of the sample, before the picks on all micrographs are counted.
_CANDIDATES = 3 * SAMPLE_PICKS
#: Of a micrograph with more picks, a window is sampled.
MOST_ON_ONE = SAMPLE_PICKS
#: Row of the winner of a pick that has none.
NO_ROW = -1


@dataclass(frozen=True, slots=True)
class SampledPicks(ArrayTable):
    """Table of the sampled picks, about 90 bytes each.

    Attributes
    ----------
    micrograph : (n,) uint64
        As in `Picks`, like x, y, z, score, uid, source, half and label.
    row : (n,) int64
        Row number in the input, from 0.
    kept : (n,) bool
    winner_source, winner_row : (n,) uint16, int64
        Input of the winner, and its row number there; `NO_ROW` without a winner.
    distance : (n,) float64
        Distance to the winner in angstrom; NaN without a winner.
    votes : (n,) uint16
        Pickers that voted for it; 0 if it is a duplicate, or if votes are not counted.
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
        """Return the row number of each pick's winner in this table, -1 without one, (n,) intp."""
        place = pack_rows(self.source, self.row)
        order = np.argsort(place)
        at = find_sorted(place[order], pack_rows(self.winner_source, self.winner_row))
        return np.where((at >= 0) & (self.winner_row != NO_ROW), order[at], -1)

    def picks(self) -> Picks:
        """Return the table as `Picks` that rank as in the run, if the table is `in_order`."""
        # Row ids need only to have the order of input and row.
        row_id = np.empty(len(self), dtype=np.uint64)
        row_id[np.lexsort((self.row, self.source))] = np.arange(len(self), dtype=np.uint64)
        invalid = np.zeros(len(self), dtype=np.uint16)
        return Picks.from_columns({**self.columns(), "row_id": row_id, "invalid": invalid})


SampledPicks.dtypes = dtypes_of(
    *(SampledPicks, "u8", "u2", "i8", "f8", "f8", "f8", "f8", "u8", "i1", "i8"),
    *("?", "u2", "i8", "f8", "u2"),
)


def pack_rows(source: NDArray[Any], row: NDArray[np.int64]) -> Keys:
    """Pack input and row number in it into one number for each row, (n,)."""
    return (source.astype(np.uint64) << np.uint64(48)) | row.astype(np.uint64)


@dataclass(frozen=True, slots=True)
class SampledMicrographs(ArrayTable):
    """Table of the sampled micrographs: pixel size and size, from the first row of each that has them.

    Attributes
    ----------
    key : (m,) uint64
    source, row : (m,) uint16, int64
        Input and row that the numbers come from.
    psize : (m,) float64
        Pixel size of the coordinates, angstrom; NaN if unknown.
    width, height, depth : (m,) float64
        In the unit of the centres, or in pixels if these are fractions; NaN if unknown.
    """

    key: Keys
    source: NDArray[np.uint16]
    row: NDArray[np.int64]
    psize: Floats
    width: Floats
    height: Floats
    depth: Floats

    def firsts(self) -> Self:
        """Return one row of each micrograph, sorted by key: the first that has a size, or else the first."""
        unknown = np.isnan(self.width)
        order = np.lexsort((self.row, self.source, unknown, self.key))
        _, first = np.unique(self.key[order], return_index=True)
        return self.take(order[first])


SampledMicrographs.dtypes = dtypes_of(SampledMicrographs, "u8", "u2", "i8", "f8", "f8", "f8", "f8")


@dataclass(frozen=True, slots=True)
class ScannedSample:
    """Micrographs of a fragment that may be sampled, as a scan notes them.

    Attributes
    ----------
    micrographs : SampledMicrographs
    large : (k,) uint64
        Keys of micrographs that may need a window.
    bounds : (k, 4) float64
        Least x and y, and greatest x and y, of the picks on each of these.
    picks : Picks or None
        Compared picks on the micrographs that the sample probably consists of (`likely_sampled`). None if they are
        too many to be noted.
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
        Sorted.
    windows : (m, 4) float64
        Least x and y, and greatest x and y, of the picks that are sampled; infinite if these are all picks.
    """

    keys: Keys
    windows: Floats

    @property
    def whole(self) -> Bools:
        """Mask of the micrographs of which all picks are sampled, (m,)."""
        return np.asarray(np.isinf(self.windows[:, 0]))

    def find(self, keys: Keys) -> NDArray[np.intp]:
        """Return the row number in `keys` of each micrograph key, -1 for those not in the sample."""
        found = np.full(keys.size, -1, dtype=np.intp)
        if not self.keys.size:
            return found
        # Few keys of a large table are in the sample, and hashes are faster than a search.
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


#: The choice of no micrograph.
NO_SAMPLE = SampleChoice(np.empty(0, np.uint64), np.empty((0, 4)))


def likely_sampled(micrographs: Keys, rows: int) -> Bools:
    """Return an (n,) mask of the micrograph keys that a sample of `rows` rows probably consists of.

    It does where no key of the sample is left out, as three times as many picks as are sampled are expected.
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
        Number of picks on each that are compared.
    bounds : (m, 4) float64, optional
        Least x and y, and greatest x and y, of all picks on each micrograph; infinite where unknown. Needed only
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
    """Return the least x and y, and the greatest x and y, of the picks on each of the sorted `keys`, (m, 4).

    Micrographs without picks have infinite values.
    """
    bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (keys.size, 1))
    number = np.searchsorted(keys, micrograph)
    for column, axis in enumerate((x, y)):
        np.fmin.at(bounds[:, column], number, axis)
        np.fmax.at(bounds[:, column + 2], number, axis)
    return bounds


def join_bounds(keys: Keys, parts: Iterable[tuple[Keys, Floats]]) -> Floats:
    """Join the bounds of parts, each with its own micrograph keys, to those of all sorted `keys`, (m, 4)."""
    bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (keys.size, 1))
    for some, found in parts:
        at = np.searchsorted(keys, some)
        bounds[at, :2] = np.minimum(bounds[at, :2], found[:, :2])
        bounds[at, 2:] = np.maximum(bounds[at, 2:], found[:, 2:])
    return bounds
