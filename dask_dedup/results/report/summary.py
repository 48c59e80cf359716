"""Numbers for the report: exact counts, and a sample of micrographs for the distributions."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import sched_getaffinity
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.arrow import from_numpy
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.inspection.neighbours import Centres, Cloud
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.names import MicrographName
from dask_dedup.storage.files import parquet_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.particles.extract import Extract
    from dask_dedup.results.finished_run import FinishedRun, Part

    Floats = NDArray[np.float64]
    Keys = NDArray[np.uint64]

#: File name of the micrograph in CryoSPARC tables, which identify micrographs by uid.
PATH_COLUMN = "location/micrograph_path"
#: Distributions are drawn from about this many particles at most.
SAMPLE_ROWS = 200_000
#: Neighbours are searched up to this many separations.
REACH = 4.0
#: Maximum number of threads that read.
MAX_THREADS = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """All picks on some micrographs: kept, rejected, and the winners of the rejected picks.

    Attributes
    ----------
    kept, rejected : Picks
    winners : pyarrow.Table
        One row for each rejected pick: winner_uid, winner_score, distance_A, winner_input,
        winner_file and winner_row.
    """

    kept: Picks
    rejected: Picks
    winners: pa.Table


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers in the report.

    Attributes
    ----------
    micrographs : (m,) uint64
        Micrograph keys, sorted.
    kept, rejected : (m,) int64
        Number of particles on each micrograph.
    names : dict of int to MicrographName
        Names of micrographs by key.
    sample : Sample
    sampled_micrographs : int
        Number of micrographs in the sample.
    part_micrographs : tuple of (Part, set of int)
        Each part of the result with the keys of its micrographs.
    """

    micrographs: Keys
    kept: NDArray[np.int64]
    rejected: NDArray[np.int64]
    names: dict[int, MicrographName]
    sample: Sample
    sampled_micrographs: int
    part_micrographs: tuple[tuple[Part, set[int]], ...]

    def name_of(self, key: int) -> str:
        """Return the name of a micrograph, or its uid if it has no name, with its group if it has one."""
        return str(self.names.get(key, MicrographName(key, "")))

    def parts_of(self, key: int) -> list[Part]:
        """Return each `Part` of the result that has particles of the micrograph `key`."""
        return [part for part, micrographs in self.part_micrographs if key in micrographs]

    @property
    def drawn_from(self) -> str:
        """A note on how many micrographs were sampled. Empty if every micrograph was."""
        number = self.micrographs.size
        if self.sampled_micrographs == number:
            return ""
        return f"Drawn from {self.sampled_micrographs:,} of {number:,} micrographs."


@dataclass(frozen=True, slots=True)
class _Reading:
    """Numbers from one `Part`: particles per micrograph, micrograph names, and a sample of picks."""

    kept: Counter[int]
    rejected: Counter[int]
    names: dict[int, MicrographName]
    sample: Sample


def summarize(run: FinishedRun) -> Summary:
    """Read the datasets of a run once, and return the numbers for the report."""
    share = min(1.0, SAMPLE_ROWS / max(1, run.manifest["totals"]["rows"]))
    limit = np.uint64(min(share * 2.0**64, 2.0**64 - 2048))

    def choose(keys: Keys) -> NDArray[np.bool_]:
        return np.ones(keys.size, dtype=bool) if share == 1 else splitmix64(keys) < limit

    readings = _read_parts(run, run.parts, choose)
    kept: Counter[int] = Counter()
    rejected: Counter[int] = Counter()
    names: dict[int, MicrographName] = {}
    for reading in readings:
        kept.update(reading.kept)
        rejected.update(reading.rejected)
        names |= reading.names
    ordered = sorted(kept.keys() | rejected.keys())
    keys = np.array(ordered, dtype=np.uint64)
    return Summary(
        micrographs=keys,
        kept=np.array([kept[key] for key in ordered], dtype=np.int64),
        rejected=np.array([rejected[key] for key in ordered], dtype=np.int64),
        names=names,
        sample=_join([reading.sample for reading in readings]),
        sampled_micrographs=int(np.count_nonzero(choose(keys))),
        part_micrographs=tuple(
            (part, reading.kept.keys() | reading.rejected.keys())
            for part, reading in zip(run.parts, readings, strict=True)
        ),
    )


def sample_of(run: FinishedRun, summary: Summary, key: int) -> Sample:
    """Read all picks on the micrograph `key`."""
    readings = _read_parts(run, summary.parts_of(key), lambda keys: keys == key)
    return _join([reading.sample for reading in readings])


def _read_parts(
    run: FinishedRun, parts: Sequence[Part], choose: Callable[[Keys], NDArray[np.bool_]]
) -> list[_Reading]:
    threads = min(len(sched_getaffinity(0)), MAX_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(partial(_read_part, run, choose), parts))


def _read_part(
    run: FinishedRun, choose: Callable[[Keys], NDArray[np.bool_]], part: Part
) -> _Reading:
    names: dict[int, MicrographName] = {}
    counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    picks: tuple[list[Picks], list[Picks]] = ([], [])
    chosen_rejected = [np.empty(0, dtype=bool)]
    for outcome, path in enumerate((part.kept, part.rejected)):
        for found, rows in run.read_picks(part, path, (PATH_COLUMN,)):
            compared = run.compared(found)
            some = found.picks.take(compared)
            distinct, first, number = np.unique(
                some.micrograph, return_index=True, return_counts=True
            )
            counts[outcome].update(dict(zip(distinct.tolist(), number.tolist(), strict=True)))
            names |= _names(found, rows, distinct, np.flatnonzero(compared)[first])
            chosen = choose(distinct)[np.searchsorted(distinct, some.micrograph)]
            picks[outcome].append(some.take(chosen))
            if path == part.rejected:
                compared[compared] = chosen
                chosen_rejected.append(compared)
    winners = _read_winners(part.duplicates).filter(from_numpy(np.concatenate(chosen_rejected)))
    kept, rejected = map(Picks.concatenate, picks)
    return _Reading(*counts, names, Sample(kept, rejected, winners))


def _names(
    found: Extract, rows: pa.Table, distinct: Keys, first: NDArray[np.intp]
) -> dict[int, MicrographName]:
    """Map micrograph key to name. For micrographs identified by uid, the name is in `PATH_COLUMN`."""
    if found.micrographs.names or PATH_COLUMN not in rows.column_names:
        return {each.key: each for each in found.micrographs.named()}
    codes, texts = Columns(rows.take(from_numpy(first)), "").texts(PATH_COLUMN)
    describe = found.micrographs.groups.describe
    every = zip(distinct.tolist(), codes.tolist(), first.tolist(), strict=True)
    return {
        key: MicrographName(key, texts[code], describe(row))
        for key, code, row in every
        if code >= 0
    }


_WINNERS = pa.schema(
    [
        ("winner_uid", pa.uint64()),
        ("winner_score", pa.float64()),
        ("distance_A", pa.float64()),
        ("winner_input", pa.string()),
        ("winner_file", pa.string()),
        ("winner_row", pa.int64()),
    ]
)


def _read_winners(paths: tuple[Path, ...]) -> pa.Table:
    parts = [
        pq.ParquetFile(**parquet_source(path)).read(_WINNERS.names).cast(_WINNERS) for path in paths
    ]
    return pa.concat_tables([_WINNERS.empty_table(), *parts])


def _join(samples: list[Sample]) -> Sample:
    return Sample(
        Picks.concatenate([sample.kept for sample in samples]),
        Picks.concatenate([sample.rejected for sample in samples]),
        pa.concat_tables([_WINNERS.empty_table(), *(sample.winners for sample in samples)]),
    )


def nearest_distances(picks: Picks, reach: float) -> Floats:
    """Return the distance from each pick to its nearest neighbour, or infinity beyond `reach`."""
    if not len(picks):
        return np.empty(0)
    _, micrograph = np.unique(picks.micrograph, return_inverse=True)
    axes = (picks.x, picks.y, picks.z) if picks.z.any() else (picks.x, picks.y)
    points = np.column_stack(axes)
    centres = Centres(micrograph.astype(np.int64), points, None, np.full(len(picks), np.nan))
    return Cloud(centres, reach).nearest_own()


def found_by(sample: Sample, inputs: list[str]) -> dict[tuple[int, ...], int]:
    """Map each combination of input numbers to the count of kept particles that exactly these inputs found.

    A particle was found by its own input and by the inputs of its rejected duplicates.
    """
    number = {path: source for source, path in enumerate(inputs)}
    names = ("winner_input", "winner_file", "winner_row")
    winners = zip(*(sample.winners[name].to_pylist() for name in names), strict=True)
    finders: dict[tuple[str, str, int], set[int]] = {}
    for source, winner in zip(sample.rejected.source.tolist(), winners, strict=True):
        finders.setdefault(winner, {number[winner[0]]}).add(source)
    found = Counter(tuple(sorted(sources)) for sources in finders.values())
    alone = Counter(sample.kept.source.tolist())
    alone.subtract(number[path] for path, _, _ in finders)
    found.update({(source,): count for source, count in alone.items()})
    return {sources: count for sources, count in found.items() if count}
