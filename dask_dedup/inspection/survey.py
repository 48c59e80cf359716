"""Read the inputs once: count all rows, and gather the centres of as many micrographs as can be measured."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.params import FARTHEST
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.formats import read
from dask_dedup.inspection.columns import NO_SHIFT, with_stand_ins
from dask_dedup.inspection.neighbours import Centres
from dask_dedup.particles.columns import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs import micrograph_keys
from dask_dedup.particles.scan_summary import ScanSummary, ScoreRange, summarize

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.particles.inputs import Inputs

#: Distances are measured on whole micrographs with at most this many picks; everything is counted.
PICKS_MEASURED = 500_000
#: At most about this many uids are compared: a share chosen by hash, which keeps repeated uids together.
UIDS_COMPARED = 20_000_000


@dataclass(frozen=True, slots=True)
class FragmentSurvey:
    """The rows of one fragment.

    Attributes
    ----------
    summary : ScanSummary
    half_sets : Counter of int
        Rows by half-set; -1 means none.
    scores : dict of str to ScoreRange
        Range of each score column.
    """

    summary: ScanSummary
    half_sets: Counter[int]
    scores: dict[str, ScoreRange]


@dataclass(frozen=True, slots=True)
class Survey:
    """All inputs, read once.

    Attributes
    ----------
    inputs : list of list of FragmentSurvey
        One list per input.
    samples : list of Centres
        Measured centres of each input; micrographs are numbered alike in all.
    measured, micrographs : int
        Measured micrographs, and all.
    uid_share : int
        One uid in this many was compared.
    """

    inputs: list[list[FragmentSurvey]]
    samples: list[Centres]
    measured: int
    micrographs: int
    uid_share: int


def count_rows(parts: Sequence[FragmentSurvey]) -> NDArray[np.int64]:
    """Return the number of rows on each micrograph of some fragments."""
    keys = [np.empty(0, np.uint64), *(part.summary.micrographs for part in parts)]
    counts = [np.empty(0, np.int64), *(part.summary.counts for part in parts)]
    _, number = np.unique(np.concatenate(keys), return_inverse=True)
    return np.bincount(number, weights=np.concatenate(counts)).astype(np.int64)


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
    total = sum(table.rows for table in inputs.tables)
    uid_bits = (max(0, total - 1) // UIDS_COMPARED).bit_length()
    sample = _Sample(len(inputs.tables))
    found: list[list[FragmentSurvey]] = [[] for _ in inputs.tables]

    def look(fragment: Fragment) -> tuple[FragmentSurvey, Centres]:
        table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
        names = dict.fromkeys((*roles.columns, *scores[fragment.source]))
        present = [name for name in names if name in table.schema.names]
        rows = with_stand_ins(read(table, fragment, present), roles)
        part = _summarize(inputs, fragment, rows, scores[fragment.source], uid_bits)
        return part, _centres(measured, fragment, rows, sample.bits)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for part, centres in pool.map(look, inputs.fragments):
            found[part.summary.source].append(part)
            sample.add(part.summary.source, centres)
    samples, micrographs = sample.join()
    every = count_rows([part for parts in found for part in parts]).size
    return Survey(found, samples, micrographs, every, 1 << uid_bits)


class _Sample:
    """Centres on micrographs chosen by hash: on all at first, on half of them each time they are too many."""

    def __init__(self, inputs: int) -> None:
        self.bits = 0
        self.picks = 0
        self.parts: list[list[Centres]] = [[] for _ in range(inputs)]

    def add(self, source: int, centres: Centres) -> None:
        # The fragment may have been read before the last halving.
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
        numbers = [np.searchsorted(keys, sample.micrograph).astype(np.int64) for sample in samples]
        numbered = [
            replace(sample, micrograph=n) for sample, n in zip(samples, numbers, strict=True)
        ]
        return numbered, keys.size


def _chosen(keys: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    """Return the mask of one key in ``2**bits``, chosen by hash."""
    if not bits:
        return np.ones(keys.size, dtype=bool)
    return np.asarray(splitmix64(keys) >> np.uint64(64 - bits) == 0)


def _thin(centres: Centres, bits: int) -> Centres:
    return centres.take(_chosen(centres.micrograph.view(np.uint64), bits))


def _summarize(
    inputs: Inputs, fragment: Fragment, rows: pa.Table, scores: Collection[str], uid_bits: int
) -> FragmentSurvey:
    roles = inputs.roles[fragment.source]
    found = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
    summary = summarize(found, fragment, roles, inputs.params)
    columns = Columns(rows, inputs.tables[fragment.source].path)
    half_sets: Counter[int] = Counter()
    if roles.half:
        stored = np.nan_to_num(columns.floats(roles.half), nan=-1)
        halves, counts = np.unique(stored, return_counts=True)
        half_sets.update(dict(zip(halves.astype(int).tolist(), counts.tolist(), strict=True)))
    # Every fragment can list the same names, so they share one string.
    summary = replace(
        summary,
        names=[(key, sys.intern(name)) for key, name in summary.names],
        uids=summary.uids[_chosen(summary.uids, uid_bits)],
    )
    ranges = {name: ScoreRange.of(columns.floats(name)) for name in scores}
    return FragmentSurvey(summary, half_sets, ranges)


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
    """Return the height of the micrograph of each row in pixels; NaN if unknown."""
    shape = measured.roles[fragment.source].shape
    if shape:
        return Columns(rows, measured.tables[fragment.source].path).vectors(shape, 2)[:, 0]
    if measured.micrographs is not None and measured.micrographs.shape is not None:
        known = np.append(measured.micrographs.shape[:, 0], np.nan)
        return known[measured.micrographs.find(keys)]
    return np.full(keys.size, float(measured.params.micrograph_height or np.nan))
