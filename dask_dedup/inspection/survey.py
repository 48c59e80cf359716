"""Read the inputs once: count all rows, and gather the centres of as many micrographs as can be measured."""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.rank import splitmix64
from dask_dedup.formats import read
from dask_dedup.inspection.columns import NO_SHIFT, with_stand_ins
from dask_dedup.inspection.neighbours import Centres
from dask_dedup.particles.columns import Columns
from dask_dedup.particles.extract import FARTHEST, extract
from dask_dedup.particles.micrographs import micrograph_keys
from dask_dedup.particles.scan_summary import ScanSummary, ScoreRange, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.particles.inputs import Inputs

_Result = TypeVar("_Result")
#: Distances are measured on whole micrographs with at most this many picks; everything is counted.
PICKS_MEASURED = 500_000
#: At most about this many uids are compared: a share chosen by hash, so that repeated uids stay together.
UIDS_COMPARED = 20_000_000


@dataclass(slots=True)
class InputSummary:
    """The rows of one input, or of one of its fragments.

    Attributes
    ----------
    summaries : list of ScanSummary
        Each lists only the micrographs and names that those before it do not.
    counts : Counter of int
        Rows by micrograph key.
    half_sets : Counter of int
        Rows by half-set.
    scores : dict of str to ScoreRange
        Range of each score column.
    """

    summaries: list[ScanSummary] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    half_sets: Counter[int] = field(default_factory=Counter)
    scores: dict[str, ScoreRange] = field(default_factory=dict)
    _names: set[tuple[int, str]] = field(default_factory=set)

    def include(self, part: InputSummary) -> None:
        """Add another fragment."""
        (summary,) = part.summaries
        # With rows in random order, every fragment would list all micrographs.
        new = [n for n, key in enumerate(summary.micrographs.tolist()) if key not in self.counts]
        names = [pair for pair in summary.names if pair not in self._names]
        self._names.update(names)
        self.summaries.append(
            replace(
                summary,
                micrographs=summary.micrographs[new],
                counts=summary.counts[new],
                names=names,
            )
        )
        self.counts.update(part.counts)
        self.half_sets.update(part.half_sets)
        for name, found in part.scores.items():
            self.scores[name] = self.scores[name] + found if name in self.scores else found


class _Sample:
    """Centres on micrographs chosen by hash: on all at first, on half of them each time they are too many."""

    def __init__(self, inputs: int) -> None:
        self.bits = 0
        self.picks = 0
        self.parts: list[list[Centres]] = [[] for _ in range(inputs)]

    def add(self, source: int, centres: Centres) -> None:
        """Add the centres of a fragment."""
        # They may have been chosen before the last halving.
        self.parts[source].append(_thin(centres, self.bits))
        self.picks += len(self.parts[source][-1])
        while self.picks > PICKS_MEASURED:
            half = [[_thin(part, self.bits + 1) for part in parts] for parts in self.parts]
            picks = sum(len(part) for parts in half for part in parts)
            if not picks:
                break
            self.bits, self.picks, self.parts = self.bits + 1, picks, half

    def join(self) -> tuple[list[Centres], int]:
        """Return the centres of each input with micrographs numbered alike, and their number."""
        samples = [Centres.concatenate(parts) for parts in self.parts]
        keys = np.unique(np.concatenate([sample.micrograph for sample in samples]))
        numbered = [
            replace(sample, micrograph=np.searchsorted(keys, sample.micrograph).astype(np.int64))
            for sample in samples
        ]
        return numbered, keys.size


def _chosen(keys: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    """Return the mask of one key in ``2**bits``, chosen by hash."""
    if not bits:
        return np.ones(keys.size, dtype=bool)
    return np.asarray(splitmix64(keys) >> np.uint64(64 - bits) == 0)


def _thin(centres: Centres, bits: int) -> Centres:
    return centres.take(_chosen(centres.micrograph.view(np.uint64), bits))


@dataclass(frozen=True, slots=True)
class Survey:
    """All inputs, read once.

    Attributes
    ----------
    inputs : list of InputSummary
    samples : list of Centres
        Measured centres of each input; micrographs are numbered alike in all.
    measured, micrographs : int
        Measured micrographs, and all.
    uid_share : int
        One uid in this many was compared.
    """

    inputs: list[InputSummary]
    samples: list[Centres]
    measured: int
    micrographs: int
    uid_share: int


def survey_inputs(inputs: Inputs, measured: Inputs, scores: Sequence[Collection[str]]) -> Survey:
    """Count all rows, and gather the centres of as many whole micrographs as can be measured.

    Parameters
    ----------
    inputs : Inputs
        How rows are counted and checked.
    measured : Inputs
        The same, with the columns and parameters that give the centres to measure.
    scores : sequence of collection of str
        Score columns of each input.
    """
    rows = sum(table.rows for table in inputs.tables)
    uid_bits = (max(0, rows - 1) // UIDS_COMPARED).bit_length()
    sample = _Sample(len(inputs.tables))
    found = [InputSummary() for _ in inputs.tables]

    def look(fragment: Fragment) -> tuple[int, InputSummary, Centres]:
        source = fragment.source
        rows = _read(inputs, fragment, scores[source])
        part = _summarize(inputs, fragment, rows, scores[source], uid_bits)
        centres = _centres(measured, fragment, rows, sample.bits)
        return source, part, centres

    for source, part, centres in _map_ahead(look, inputs.fragments):
        found[source].include(part)
        sample.add(source, centres)
    samples, micrographs = sample.join()
    every = {key for entry in found for key in entry.counts}
    return Survey(found, samples, micrographs, len(every), 1 << uid_bits)


def _map_ahead(
    function: Callable[[Fragment], _Result], fragments: Iterable[Fragment]
) -> Iterator[_Result]:
    """Apply a function in threads, in order, only a few fragments ahead to bound memory."""
    threads = len(os.sched_getaffinity(0))
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for fragment in fragments:
            waiting.append(pool.submit(function, fragment))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(inputs: Inputs, fragment: Fragment, scores: Collection[str]) -> pa.Table:
    table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
    names = dict.fromkeys((*roles.columns, *scores))
    present = [name for name in names if name in table.schema.names]
    return with_stand_ins(read(table, fragment, present), roles)


def _summarize(
    inputs: Inputs, fragment: Fragment, rows: pa.Table, scores: Collection[str], uid_bits: int
) -> InputSummary:
    roles = inputs.roles[fragment.source]
    found = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
    summary = summarize(found, fragment, roles, inputs.params)
    columns = Columns(rows, inputs.tables[fragment.source].path)
    half_sets: Counter[int] = Counter()
    if roles.half:
        stored = np.nan_to_num(columns.floats(roles.half), nan=-1)
        halves, counts = np.unique(stored, return_counts=True)
        half_sets.update(dict(zip(halves.astype(int).tolist(), counts.tolist(), strict=True)))
    summary = replace(
        summary,
        names=[(key, sys.intern(name)) for key, name in summary.names],
        uids=summary.uids[_chosen(summary.uids, uid_bits)],
    )
    return InputSummary(
        summaries=[summary],
        counts=Counter(
            dict(zip(summary.micrographs.tolist(), summary.counts.tolist(), strict=True))
        ),
        half_sets=half_sets,
        scores={name: ScoreRange.of(columns.floats(name)) for name in scores},
    )


def _centres(measured: Inputs, fragment: Fragment, rows: pa.Table, bits: int) -> Centres:
    """Return the centres of the rows on chosen micrographs, without rows that have none."""
    roles, path = measured.roles[fragment.source], measured.tables[fragment.source].path
    columns = Columns(rows, path)
    keys, _ = micrograph_keys(columns, roles.micrograph, roles.match)
    chosen = _chosen(keys, bits) & ~columns.nulls(roles.micrograph)
    if not chosen.all():
        rows = rows.filter(pa.array(chosen))
    found = extract(rows, fragment, roles, measured.params, measured.micrographs)
    axes = ("x", "y", "z")[: len(roles.position)]
    points = np.column_stack([getattr(found.picks, axis) for axis in axes])
    shift = None
    if roles.shift:
        unshifted = replace(roles, **NO_SHIFT)
        still = extract(rows, fragment, unshifted, measured.params, measured.micrographs)
        shift = np.column_stack([getattr(still.picks, axis) for axis in axes]) - points
    keys = found.picks.micrograph
    height = np.zeros(keys.size)
    if roles.unit != "angstrom":
        psize = 1.0 if found.psize is None else found.psize
        height = _heights(measured, fragment, rows, keys) * psize
    centres = Centres(keys.view(np.int64), points, shift, height)
    return centres.take((np.abs(points) <= FARTHEST).all(axis=1))


def _heights(
    measured: Inputs, fragment: Fragment, rows: pa.Table, keys: NDArray[np.uint64]
) -> NDArray[np.float64]:
    """Return the height of each row's micrograph in pixels; NaN if unknown."""
    shape = measured.roles[fragment.source].shape
    if shape:
        return Columns(rows, measured.tables[fragment.source].path).vectors(shape, 2)[:, 0]
    if measured.micrographs is not None and measured.micrographs.shape is not None:
        known = np.append(measured.micrographs.shape[:, 0], np.nan)
        return known[measured.micrographs.find(keys)]
    return np.full(keys.size, float(measured.params.micrograph_height or np.nan))
