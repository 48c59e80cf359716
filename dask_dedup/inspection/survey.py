"""Read the inputs once: count all rows, and collect particle centres on a sample of micrographs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.limits import FARTHEST
from dask_dedup.dedup.picks import LOW_SCORE, Picks
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.formats import read
from dask_dedup.inspection.columns import NO_SHIFT, with_stand_ins
from dask_dedup.inspection.neighbours import Centres
from dask_dedup.particles.checks.uids import RepeatedUids, find_repeated_uids, sorted_uids
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.sample import (
    MOST_ON_ONE,
    SAMPLE_PICKS,
    SampledMicrographs,
    bounds_of,
    choose_sample,
    likely_sampled,
)
from dask_dedup.particles.sampled_rows import sampled_micrographs
from dask_dedup.particles.scan_summary import ScanSummary, ScoreRange, summarize
from dask_dedup.pipeline.plan import count_micrographs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.pipeline.plan import MicrographCounts

#: Distances are measured on whole micrographs with at most this many picks together. All rows are counted.
PICKS_MEASURED = 250_000
#: Largest number of compared uids, approximately. Their hashes decide, so that repeated uids are all compared or not.
UIDS_COMPARED = 20_000_000


@dataclass(frozen=True, slots=True)
class InputSurvey:
    """Counts of one input: a summary per fragment, rows by half-set (-1 if none), and ranges of score columns."""

    summaries: list[ScanSummary]
    half_sets: Counter[int]
    scores: dict[str, ScoreRange]


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts of all inputs, and particle centres on a sample of micrographs.

    Attributes
    ----------
    inputs : list of InputSurvey
    samples : list of Centres
        Sampled centres of each input. A micrograph has the same number in all inputs.
    measured : dict of str to int
        As in `Inspection`.
    repeated : RepeatedUids
        Repeated uids among the compared uids.
    uid_share : int
        One uid out of this number of uids was compared.
    picks : Picks
        Picks of the sample of a report, with the same centres as in `samples`.
    sampled : SampledMicrographs
        Sizes of the micrographs of `picks`.
    """

    inputs: list[InputSurvey]
    samples: list[Centres]
    measured: dict[str, int]
    repeated: RepeatedUids
    uid_share: int
    picks: Picks
    sampled: SampledMicrographs


def survey_inputs(inputs: Inputs, measured: Inputs, scores: Sequence[Collection[str]]) -> Survey:
    """Count all rows, and collect particle centres on a sample of micrographs.

    Rows are checked with the settings of `inputs`. Centres are computed with the settings of `measured`. `scores` has
    the score columns of each input.
    """
    uid_bits = (max(0, inputs.rows - 1) // UIDS_COMPARED).bit_length()
    sample = _Sample(len(inputs.tables))
    candidates: list[Picks] = []
    sampled: list[SampledMicrographs] = []
    nothing = ScoreRange.of(np.empty(0))
    uids: dict[int, NDArray[np.uint64]] = {}
    found = [InputSurvey([], Counter(), dict.fromkeys(fields, nothing)) for fields in scores]

    def read_fragment(
        fragment: Fragment,
    ) -> tuple[
        ScanSummary,
        NDArray[np.uint64],
        Counter[int],
        dict[str, ScoreRange],
        Centres,
        Picks,
        SampledMicrographs,
    ]:
        table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
        fields = scores[fragment.source]
        names = dict.fromkeys((*roles.scanned_columns, *fields))
        present = [name for name in names if name in table.schema.names]
        rows = with_stand_ins(read(table, fragment, present), roles)
        columns = Columns(rows, table.path)
        return (
            *_summarize(inputs, fragment, rows, uid_bits),
            _count_half_sets(columns.floats(roles.half) if roles.half else np.empty(0)),
            {name: ScoreRange.of(columns.floats(name)) for name in fields},
            *_centres(measured, fragment, rows, sample.bits),
        )

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for summary, own_uids, half_sets, ranges, centres, picks, sizes in pool.map(
            read_fragment, inputs.fragments
        ):
            candidates.append(picks)
            sampled.append(sizes)
            one = found[summary.source]
            one.summaries.append(summary)
            uids[summary.fragment] = own_uids
            one.half_sets.update(half_sets)
            for name, more in ranges.items():
                one.scores[name] += more
            sample.add(summary.source, centres)
    samples, micrographs = sample.join()
    on_micrographs = count_micrographs([summary for one in found for summary in one.summaries])
    counts = {
        "picks": sum(map(len, samples)),
        "micrographs": micrographs,
        "of_micrographs": on_micrographs.keys.size,
    }
    picks = _take_sample(on_micrographs, candidates)
    sizes = SampledMicrographs.concatenate(sampled)
    sizes = sizes.take(np.isin(sizes.key, picks.micrograph)).firsts()
    repeated = find_repeated_uids(inputs, uids)
    return Survey(found, samples, counts, repeated, 1 << uid_bits, picks, sizes)


def _take_sample(counts: MicrographCounts, candidates: Sequence[Picks]) -> Picks:
    """Return the picks of the sample of a report, sorted by row id."""
    picks = Picks.concatenate(candidates)
    bounds = None
    if counts.rows.max(initial=0) > MOST_ON_ONE:
        bounds = bounds_of(picks.micrograph, picks.x, picks.y, counts.keys)
    choice = choose_sample(counts.keys, counts.rows, bounds)
    picks = picks.take(np.flatnonzero(choice.chosen(picks.micrograph, picks.x, picks.y)))
    return picks.take(np.argsort(picks.row_id))


class _Sample:
    """Particle centres on a sample of micrographs. The sample is halved if it has more than `PICKS_MEASURED` picks."""

    def __init__(self, inputs: int) -> None:
        self.bits = 0
        self.picks = 0
        self.parts: list[list[Centres]] = [[] for _ in range(inputs)]

    def add(self, source: int, centres: Centres) -> None:
        # The fragment may have been read before the sample was halved again.
        self.parts[source].append(_thin(centres, self.bits))
        self.picks += len(self.parts[source][-1])
        while self.picks > PICKS_MEASURED:
            half = [[_thin(part, self.bits + 1) for part in parts] for parts in self.parts]
            picks = sum(len(part) for parts in half for part in parts)
            if picks < SAMPLE_PICKS:
                break
            self.bits, self.picks, self.parts = self.bits + 1, picks, half

    def join(self) -> tuple[list[Centres], int]:
        """Number the micrographs from 0. Return the sampled centres of each input, and the number of micrographs."""
        samples = [Centres.concatenate(parts) for parts in self.parts]
        keys = np.unique(np.concatenate([sample.micrograph for sample in samples]))
        numbered = [
            replace(sample, micrograph=np.searchsorted(keys, sample.micrograph))
            for sample in samples
        ]
        return numbered, keys.size


def _chosen(keys: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    """Select about one in ``2**bits`` of the keys, by hash. Return a (n,) bool mask."""
    if not bits:
        return np.ones(keys.size, dtype=bool)
    return np.asarray(splitmix64(keys) >> np.uint64(64 - bits) == 0)


def _thin(centres: Centres, bits: int) -> Centres:
    return centres.take(_chosen(centres.micrograph.view(np.uint64), bits))


def _summarize(
    inputs: Inputs, fragment: Fragment, rows: pa.Table, uid_bits: int
) -> tuple[ScanSummary, NDArray[np.uint64]]:
    """Summarise a fragment. Also return the sorted uids of the fragment that are compared."""
    roles = inputs.roles[fragment.source]
    found = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
    summary = summarize(found, fragment, roles, inputs.params)
    # Every fragment may have the same names, so equal names share one string.
    names = [each._replace(name=sys.intern(each.name)) for each in summary.names]
    uids = sorted_uids(found.picks, roles)
    return replace(summary, names=names), uids[_chosen(uids, uid_bits)]


def _count_half_sets(stored: NDArray[np.float64]) -> Counter[int]:
    halves, counts = np.unique(np.nan_to_num(stored, nan=-1).astype(int), return_counts=True)
    return Counter(dict(zip(halves.tolist(), counts.tolist(), strict=True)))


def _centres(
    measured: Inputs, fragment: Fragment, rows: pa.Table, bits: int
) -> tuple[Centres, Picks, SampledMicrographs]:
    """Return a fragment's particle centres on sampled micrographs. Leave out invalid rows and low scores.

    Also return the compared picks on the micrographs that are probably in the sample of a report, and the sizes of
    these micrographs.
    """
    roles = measured.roles[fragment.source]
    columns = Columns(rows, measured.tables[fragment.source].path)
    micrographs = RowMicrographs.of(columns, roles)
    chosen = _chosen(micrographs.keys, bits) & ~micrographs.missing
    if not chosen.all():
        rows = rows.filter(pa.array(chosen))

    def locate(roles: ColumnRoles) -> tuple[Extract, NDArray[np.float64]]:
        found = extract(rows, fragment, roles, measured.params, measured.micrographs)
        axes = ("x", "y", "z")[: len(roles.position)]
        return found, np.column_stack([getattr(found.picks, axis) for axis in axes])

    found, points = locate(roles)
    shift = locate(replace(roles, **NO_SHIFT))[1] - points if roles.shift else None
    keys = found.picks.micrograph
    height = np.zeros(keys.size)
    if roles.unit != "angstrom":
        psize = 1.0 if found.psize is None else found.psize
        height = _heights(measured, fragment, rows, found.micrographs) * psize
    centres = Centres(keys.view(np.int64), points, shift, height)
    low = (found.picks.invalid & np.uint16(LOW_SCORE)) != 0
    shown = likely_sampled(keys, measured.rows) & (found.picks.invalid == 0)
    centres = centres.take(np.asarray((np.abs(points) <= FARTHEST).all(axis=1)) & ~low)
    at = np.flatnonzero(shown)
    first = np.zeros(keys.size, dtype=bool)
    first[at[np.unique(keys[at], return_index=True)[1]]] = True
    row = np.arange(keys.size)
    sizes = sampled_micrographs(found, rows, roles, measured.micrographs, first, row)
    return centres, found.picks.take(at), sizes


def _heights(
    measured: Inputs, fragment: Fragment, rows: pa.Table, micrographs: RowMicrographs
) -> NDArray[np.float64]:
    """Return, for each row, the height of its micrograph in pixels, or NaN if unknown, (n,) float64."""
    shape = measured.roles[fragment.source].shape
    if shape:
        return Columns(rows, measured.tables[fragment.source].path).vectors(shape, 2)[:, 0]
    table = measured.micrographs
    if table is not None and (known := table.shape_at(table.find(micrographs))) is not None:
        return known[:, 0]
    return np.full(rows.num_rows, float(measured.params.micrograph_height or np.nan))
