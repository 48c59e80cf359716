"""Check that no uid occurs twice in an input.

The uids of each fragment are a sorted run. Either whole runs are compared, or different workers compare ranges of
values, and the results are added.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.particles.validity import NAMED_ROWS, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.picks import Picks
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.inputs import Inputs

    Uids = NDArray[np.uint64]

#: Uids per block. Blocks that fit in the cache of the processor sort faster than larger arrays.
_BLOCK_ROWS = 2**18
#: One uid out of this number of uids is sampled to find the bounds between blocks.
_SPACING = 2**8


@dataclass(frozen=True, slots=True)
class RepeatedUids:
    """Uids that occur more than once.

    Attributes
    ----------
    within : Counter of int
        For each input, the number of uids that occur more than once in it.
    first : dict of int to list of int
        For each input, at most `NAMED_ROWS` of these uids, the smallest in ascending order.
    among_all : int
        Number of uids that occur more than once in all inputs together.
    fragments : dict of int to list of int
        Numbers of the fragments that contain each uid in `first`.
    """

    within: Counter[int] = field(default_factory=Counter)
    first: Mapping[int, Sequence[int]] = field(default_factory=dict)
    among_all: int = 0
    fragments: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def __add__(self, other: RepeatedUids) -> RepeatedUids:
        """Add the repeated uids of another range of values."""
        first = {
            source: sorted([*self.first.get(source, ()), *other.first.get(source, ())])[:NAMED_ROWS]
            for source in {**self.first, **other.first}
        }
        return RepeatedUids(self.within + other.within, first, self.among_all + other.among_all)

    def of(self, source: int) -> RepeatedUids:
        """Return the repeated uids of one input."""
        count = Counter({source: self.within[source]})
        return replace(self, within=count, first={source: self.first.get(source, ())})

    @property
    def named(self) -> list[int]:
        """All uids in `first`."""
        return sorted({uid for uids in self.first.values() for uid in uids})

    def located(self, found: Iterable[Mapping[int, Sequence[int]]]) -> RepeatedUids:
        """Return the same with the fragments of the uids in `first`. `found` has results of `find_fragments`."""
        parts = list(found)
        fragments = {uid: sorted(n for part in parts for n in part[uid]) for uid in self.named}
        return replace(self, fragments=fragments)


def sorted_uids(picks: Picks, roles: ColumnRoles) -> Uids:
    """Return the sorted uids of a fragment. Rows with an invalid uid are left out. Empty for tables without uids."""
    if not roles.uid:
        return np.empty(0, np.uint64)
    valid = (picks.invalid & np.uint16(Reason.UID)) == 0
    return np.sort(picks.uid if valid.all() else picks.uid[valid])


def find_repeated_uids(inputs: Inputs, uids: Mapping[int, Uids]) -> RepeatedUids:
    """Find the uids that occur more than once, and the fragments of the uids in a message.

    `uids` has the `sorted_uids` of each fragment.
    """
    runs: dict[int, list[Uids]] = {}
    for number, each in uids.items():
        runs.setdefault(inputs.fragments[number].source, []).append(each)
    found = find_repeated_in(runs)
    return found.located([find_fragments(found.named, uids)])


def find_repeated_in(runs: Mapping[int, Sequence[Uids]]) -> RepeatedUids:
    """Find the uids that occur more than once. `runs` has the sorted runs of each input, or one range of each run."""
    within = {source: find_repeated(each) for source, each in runs.items()}
    every = [run for each in runs.values() for run in each]
    return RepeatedUids(
        Counter({source: each.size for source, each in within.items() if each.size}),
        {source: each[:NAMED_ROWS].tolist() for source, each in within.items() if each.size},
        find_repeated(every).size if len(runs) > 1 else 0,
    )


def find_fragments(named: Iterable[int], uids: Mapping[int, Uids]) -> dict[int, list[int]]:
    """Return the numbers of the fragments that contain each of the named uids."""
    found: dict[int, list[int]] = {}
    for uid in named:
        value = np.uint64(uid)
        low = {number: np.searchsorted(run, value) for number, run in uids.items()}
        found[uid] = [n for n, at in low.items() if at < uids[n].size and uids[n][at] == value]
    return found


def find_repeated(runs: Sequence[Uids]) -> Uids:
    """Return the values that occur more than once in all `runs` together, sorted. Each run must be sorted.

    Ranges of values are processed one after the other, because a merged copy of all arrays would double the memory.
    """
    runs = [np.empty(0, np.uint64), *runs]
    blocks = 1 + sum(run.size for run in runs) // _BLOCK_ROWS
    bounds = find_bounds([run[::_SPACING] for run in runs], blocks)
    cuts = [[0, *np.searchsorted(run, bounds).tolist(), run.size] for run in runs]
    found = []
    for block in range(blocks):
        parts = [run[cut[block] : cut[block + 1]] for run, cut in zip(runs, cuts, strict=True)]
        # NumPy's stable sort would merge the sorted runs, but it takes three times as long.
        values = np.sort(np.concatenate(parts))
        found.append(values[1:][values[1:] == values[:-1]])
    return np.unique(np.concatenate(found))


def find_bounds(samples: Sequence[Uids], ranges: int) -> Uids:
    """Return the (ranges - 1,) bounds between ranges with about equal numbers of values, given samples of values."""
    sample = np.sort(np.concatenate(samples))
    return sample[np.arange(1, ranges) * sample.size // ranges] if sample.size else sample


def check_uids(inputs: Inputs, repeated: RepeatedUids) -> None:
    """Raise InputError for a uid that occurs twice in one input. Different inputs may share uids."""
    for table in inputs.tables:
        count = repeated.within[table.source]
        if not count:
            continue
        located = []
        for uid in repeated.first[table.source]:
            fragments = [inputs.fragments[number] for number in repeated.fragments[uid]]
            mine = [str(part) for part in fragments if part.source == table.source]
            located.append(f"{uid} in {' and '.join(mine[:NAMED_ROWS])}")
        raise InputError(
            f"{table.path}: {counted(count, 'uid', 'occur more than once')} "
            f"(column uid: {', '.join(located)}). Remove the repeated rows, or give them unique uids."
        )


def shared_uid_warnings(repeated: RepeatedUids) -> list[str]:
    """Return a list of one warning if uids occur in more than one input, else []."""
    count = repeated.among_all
    if not count:
        return []
    what = counted(count, "uid", "occur in more than one input")
    return [f"{what}: the inputs contain the same particles"]
