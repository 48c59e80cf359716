"""Reads the inputs once: counts all rows, and gathers the centres on as many micrographs as can be measured."""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.rank import splitmix64
from dask_dedup.formats import Fragment, read
from dask_dedup.inspection.columns import NO_SHIFT, with_stand_ins
from dask_dedup.inspection.neighbours import Centres
from dask_dedup.particles.columns import Columns
from dask_dedup.particles.extract import FARTHEST, ScanSummary, extract, summarize_fragment
from dask_dedup.particles.micrographs import micrograph_keys
from dask_dedup.particles.score_range import ScoreRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.inspection.columns import View
    from dask_dedup.pipeline.job import Job

#: Distances are measured on whole micrographs of about so many picks at most; everything is counted.
PICKS_MEASURED = 500_000
#: So many uids are compared; of more, a share chosen by hash, which repeated uids have in common.
UIDS_COMPARED = 20_000_000


@dataclass(frozen=True, slots=True)
class _Look:
    """What one fragment holds."""

    summary: ScanSummary
    half_sets: Counter[int]
    scores: dict[str, ScoreRange]
    sample: Centres


@dataclass(slots=True)
class Tally:
    """What the fragments of an input add up to.

    Attributes
    ----------
    censuses : list of Census
        Each names only the micrographs that those before do not.
    counts : Counter of int
        Rows by micrograph key.
    half_sets : Counter of int
    scores : dict of str to ScoreRange
    sample : list of Centres
        Of the measured micrographs, which their keys stand for.
    """

    summaries: list[ScanSummary] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    half_sets: Counter[int] = field(default_factory=Counter)
    scores: dict[str, ScoreRange] = field(default_factory=dict)
    sample: list[Centres] = field(default_factory=list)
    _known: set[tuple[int, str]] = field(default_factory=set)

    def include(self, look: _Look) -> None:
        """Add a fragment."""
        summary = look.summary
        keys = summary.micrographs.tolist()
        new = [number for number, key in enumerate(keys) if key not in self.counts]
        self.counts.update(dict(zip(keys, summary.counts.tolist(), strict=True)))
        self.half_sets.update(look.half_sets)
        for name, scores in look.scores.items():
            self.scores[name] = self.scores[name] + scores if name in self.scores else scores
        self.sample.append(look.sample)
        # Fragments in random order would each list all micrographs.
        names = [pair for pair in summary.names if pair not in self._known]
        self._known.update(names)
        self.summaries.append(
            replace(
                summary,
                micrographs=summary.micrographs[new],
                counts=summary.counts[new],
                names=names,
            )
        )


@dataclass(frozen=True, slots=True)
class Survey:
    """All inputs, read once.

    Attributes
    ----------
    tallies : list of Tally
        One an input.
    samples : list of Centres
        One an input, on the measured micrographs, which are numbered alike in all.
    measured, micrographs : int
        Measured micrographs, and all.
    uid_share : int
        One uid in so many was compared.
    """

    tallies: list[Tally]
    samples: list[Centres]
    measured: int
    micrographs: int
    uid_share: int


@dataclass(slots=True)
class _Sieve:
    """Lets one key in 2**bits pass, chosen by its hash."""

    bits: int = 0

    def passes(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which keys do."""
        if not self.bits:
            return np.ones(keys.size, dtype=bool)
        return np.asarray(splitmix64(keys) >> np.uint64(64 - self.bits) == 0)

    def thin(self, centres: Centres) -> Centres:
        """Select the centres on micrographs that pass."""
        return centres.take(self.passes(centres.micrograph.view(np.uint64)))


def survey_inputs(job: Job, views: Sequence[View]) -> Survey:
    """Count all rows, and gather the centres on as many whole micrographs as can be measured soon."""
    tallies = [Tally() for _ in job.tables]
    rows = sum(table.rows for table in job.tables)
    uids = _Sieve((max(0, rows - 1) // UIDS_COMPARED).bit_length())
    micrographs = _Sieve()
    picks = 0
    for look in _looks(job, views, micrographs, uids):
        # It may have been looked at with a coarser sieve.
        sample = micrographs.thin(look.sample)
        tallies[look.summary.source].include(replace(look, sample=sample))
        picks += len(sample)
        while picks > PICKS_MEASURED:
            finer = _Sieve(micrographs.bits + 1)
            kept = [[finer.thin(part) for part in tally.sample] for tally in tallies]
            left = sum(len(part) for parts in kept for part in parts)
            if not left:
                break
            micrographs.bits, picks = finer.bits, left
            for tally, parts in zip(tallies, kept, strict=True):
                tally.sample = parts
    samples = [
        Centres.concatenate([micrographs.thin(part) for part in tally.sample]) for tally in tallies
    ]
    keys = np.unique(np.concatenate([sample.micrograph for sample in samples]))
    samples = [
        replace(sample, micrograph=np.searchsorted(keys, sample.micrograph).astype(np.int64))
        for sample in samples
    ]
    every = {key for tally in tallies for key in tally.counts}
    return Survey(tallies, samples, keys.size, len(every), 1 << uids.bits)


def _looks(job: Job, views: Sequence[View], micrographs: _Sieve, uids: _Sieve) -> Iterator[_Look]:
    """Look at the fragments in threads, in order, a few ahead at a time."""
    threads = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(threads)
    numbers = iter(range(len(job.fragments)))

    def submit(count: int) -> None:
        for number in islice(numbers, count):
            view = views[job.fragments[number].source]
            waiting.append(pool.submit(_look_at, job, view, number, micrographs, uids))

    waiting: deque[Any] = deque()
    try:
        submit(threads + 1)
        while waiting:
            look = waiting.popleft().result()
            submit(1)
            yield look
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at(job: Job, view: View, number: int, micrographs: _Sieve, uids: _Sieve) -> _Look:
    fragment = job.fragments[number]
    table, roles = job.tables[fragment.source], job.roles[fragment.source]
    names = dict.fromkeys((*roles.columns, *view.scores))
    present = [name for name in names if name in table.schema.names]
    rows = with_stand_ins(read(table, fragment, present), roles)
    summary = summarize_fragment(rows, fragment, roles, job.params, job.micrographs)
    columns = Columns(rows, table.path)
    half_sets: Counter[int] = Counter()
    if roles.half:
        values, counts = np.unique(
            np.nan_to_num(columns.floats(roles.half), nan=-1), return_counts=True
        )
        half_sets.update(dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True)))
    scores = {name: ScoreRange.of(columns.floats(name)) for name in view.scores}
    keys, _ = micrograph_keys(columns, roles.micrograph, roles.match)
    chosen = micrographs.passes(keys) & ~columns.nulls(roles.micrograph)
    if not chosen.all():
        rows = rows.filter(pa.array(chosen))
    summary = replace(
        summary,
        names=[(key, sys.intern(name)) for key, name in summary.names],
        uids=summary.uids[uids.passes(summary.uids)],
    )
    return _Look(summary, half_sets, scores, _centres(rows, fragment, view, job))


def _centres(rows: pa.Table, fragment: Fragment, view: View, job: Job) -> Centres:
    """Derive the centres of rows, without those that have none."""
    roles, params = view.roles, view.params
    found = extract(rows, fragment, roles, params, job.micrographs)
    axes = ("x", "y", "z")[: len(roles.position)]
    points = np.column_stack([getattr(found.picks, axis) for axis in axes])
    shift = None
    if roles.shift:
        still = extract(rows, fragment, replace(roles, **NO_SHIFT), params, job.micrographs)
        shift = np.column_stack([getattr(still.picks, axis) for axis in axes]) - points
    keys = found.picks.micrograph
    centres = Centres(keys.view(np.int64), points, shift, np.zeros(keys.size))
    if roles.unit != "angstrom":
        psize = np.ones(keys.size) if found.psize is None else found.psize
        centres = replace(centres, height=_heights(rows, keys, view, job) * psize)
    return centres.take((np.abs(points) <= FARTHEST).all(axis=1))


def _heights(rows: pa.Table, keys: NDArray[np.uint64], view: View, job: Job) -> NDArray[np.float64]:
    """Give each row's micrograph height in pixels; NaN where nothing tells it."""
    if view.roles.shape:
        return Columns(rows, "the table").vectors(view.roles.shape, 2)[:, 0]
    if job.micrographs is not None and job.micrographs.shape is not None:
        return np.append(job.micrographs.shape[:, 0], np.nan)[job.micrographs.find(keys)]
    return np.full(keys.size, float(job.params.micrograph_height or np.nan))
