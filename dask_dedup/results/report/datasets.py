"""Fill the contents of a report from the datasets of a finished run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import sched_getaffinity
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup.arrays import unique_inverse
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.errors import RunError
from dask_dedup.particles.micrographs.named import find_micrograph
from dask_dedup.particles.report_contents import ReportContents, bin_distances, count_by_winner
from dask_dedup.particles.sample import (
    MOST_ON_ONE,
    NO_ROW,
    SAMPLE_PICKS,
    SampledMicrographs,
    SampledPicks,
    bounds_of,
    choose_sample,
    join_bounds,
    pack_rows,
)
from dask_dedup.particles.sampled_rows import (
    first_names,
    sampled_columns,
    sampled_micrographs,
    sampled_paths,
)
from dask_dedup.results.report.outcomes import first_rows_of_files, read_outcomes, rows_of_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from dask_dedup.particles.micrographs.names import MicrographName
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.report.outcomes import Outcomes
    from dask_dedup.results.result_file import Part

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Keys = NDArray[np.uint64]
    #: Returns a mask of the picks to sample, from their micrographs, x and y.
    Choose = Callable[[Keys, Floats, Floats], Bools]
    #: Returns a mask of the picks with micrographs to describe.
    Describe = Callable[[Keys], Bools]

#: Maximum number of threads that read.
MAX_THREADS = 8
#: The first pass keeps about this many times the number of picks in the sample.
_MARGIN = 3.0


def read_contents(run: FinishedRun, named: Sequence[str] = ()) -> ReportContents:
    """Read the datasets of a run, and return the contents of its report.

    The datasets are read a second time if the first pass did not keep all picks of the sample. This happens if a
    micrograph of `named` would not be in the sample, or if there are few or very large micrographs.
    """
    rows = run.manifest["totals"]["rows"]
    share = min(1.0, _MARGIN * SAMPLE_PICKS / max(1, rows))
    limit = np.uint64(min(share * 2.0**64, 2.0**64 - 2048))

    def likely(keys: Keys, *_: Floats) -> Bools:
        distinct, number = unique_inverse(keys)
        few = np.bincount(number, minlength=distinct.size) <= MOST_ON_ONE
        return np.asarray((few & ((share == 1) | (splitmix64(distinct) < limit)))[number])

    read = _read_all(run, likely, likely, paths_of_all=bool(named))
    keys = np.unique(np.concatenate([np.empty(0, np.uint64), *(each.keys for each in read)]))
    kept, rejected, bounds = _per_micrograph(keys, read)
    names = first_names(name for each in read for name in each.names)
    paths = first_names(name for each in read for name in each.paths)
    wanted = [find_micrograph(run.output, keys.tolist(), paths | names, name) for name in named]
    choice = choose_sample(keys, kept + rejected, bounds, wanted)
    picks_of_choice = (kept + rejected)[np.searchsorted(keys, choice.keys)]
    if not likely(np.repeat(choice.keys, picks_of_choice)).all():
        read = _read_all(run, choice.chosen, lambda keys: choice.find(keys) >= 0)
        paths = first_names(name for each in read for name in each.paths)
    sample = SampledPicks.concatenate([each.sample for each in read])
    sampled = SampledMicrographs.concatenate([each.sampled for each in read])
    inputs = len(run.manifest["inputs"])
    return ReportContents(
        rejected_by_winner=sum(
            (each.rejected_by_winner for each in read), np.zeros((inputs, inputs), np.int64)
        ),
        decided_by_row_order=_count_by_row_order(read),
        distances=sum((each.distances for each in read), bin_distances(np.empty(0), 0.0)),
        micrographs=keys,
        kept=kept,
        rejected=rejected,
        names={key: paths[key] for key in choice.keys.tolist() if key in paths} | names,
        choice=choice,
        sample=sample.take(choice.chosen(sample.micrograph, sample.x, sample.y)).in_order(),
        sampled=sampled.take(choice.find(sampled.key) >= 0).firsts(),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """The data of one part of the result. Arrays about micrographs have one item for each of `keys`."""

    keys: Keys
    kept: Ints
    rejected: Ints
    #: Bounds of the picks of each micrograph, see `bounds_of`, (m, 4).
    bounds: Floats
    rejected_by_winner: Ints
    distances: Ints
    #: Uid or content hash of the rejected rows that the order of rows may have decided.
    ties: Keys
    #: Input and row of the winner of each of these rows.
    tie_winners: Keys
    #: Input and row of the kept rows, and the uid or content hash of these rows. Empty for inputs with uids.
    kept_rows: Keys
    kept_uids: Keys
    names: list[MicrographName]
    paths: list[MicrographName]
    sample: SampledPicks
    sampled: SampledMicrographs


def _read_all(
    run: FinishedRun, choose: Choose, describe: Describe, *, paths_of_all: bool = False
) -> list[_Read]:
    first_rows = first_rows_of_files(run)

    def read(part: Part, rows: range) -> _Read:
        outcomes = read_outcomes(run, part, rows, first_rows)
        return _read_part(run, choose, describe, part, outcomes, paths_of_all=paths_of_all)

    threads = min(len(sched_getaffinity(0)), MAX_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(read, run.parts, rows_of_parts(run)))


def _read_part(
    run: FinishedRun,
    choose: Choose,
    describe: Describe,
    part: Part,
    outcomes: Outcomes,
    *,
    paths_of_all: bool,
) -> _Read:
    """Read the kept and the rejected rows of a part."""
    roles, inputs = run.roles[part.source], run.manifest["inputs"]
    columns = sampled_columns(roles, inputs[part.source]["column_names"])
    picks: list[Picks] = []
    numbers = [np.empty(0, np.int64)]
    sampled: list[SampledMicrographs] = []
    names: list[MicrographName] = []
    paths: list[MicrographName] = []
    for is_kept in (True, False):
        row = np.flatnonzero(outcomes.kept == is_kept)
        for found, table in run.read_picks(part, columns, kept=is_kept):
            mine, row = row[: len(found.picks)], row[len(found.picks) :]
            if len(mine) != len(found.picks):
                raise RunError(
                    f"{run.output}: has other rows than the run wrote. Verify the result."
                )
            compared = run.compared(found)
            described = compared & describe(found.picks.micrograph)
            names += found.micrographs.named()
            paths += sampled_paths(found, table, compared if paths_of_all else described).values()
            in_input = mine + outcomes.first_row
            size = sampled_micrographs(found, table, roles, run.micrographs, described, in_input)
            sampled.append(size)
            picks.append(found.picks.take(compared))
            numbers.append(mine[compared])
    every, row = Picks.concatenate(picks), np.concatenate(numbers)
    kept = outcomes.kept[row]
    keys, number = unique_inverse(every.micrograph)
    chosen = choose(every.micrograph, every.x, every.y)
    duplicate = row[~kept & (outcomes.winner_row[row] != NO_ROW)]
    winner_source = outcomes.winner_source[duplicate]
    separation = run.params.min_separation if run.params.measures else 0.0
    tied = outcomes.tied[row] & ~kept
    named = kept & (roles.uid is None)
    source = np.full(row.size, part.source, dtype=np.int64)
    return _Read(
        keys=keys,
        kept=np.bincount(number[kept], minlength=keys.size),
        rejected=np.bincount(number[~kept], minlength=keys.size),
        bounds=bounds_of(every.micrograph, every.x, every.y, keys),
        rejected_by_winner=count_by_winner(
            np.full(duplicate.size, part.source), winner_source, len(inputs)
        ),
        distances=bin_distances(outcomes.distance[duplicate], separation),
        ties=every.uid[tied],
        tie_winners=pack_rows(outcomes.winner_source[row[tied]], outcomes.winner_row[row[tied]]),
        kept_rows=pack_rows(source[named], row[named] + outcomes.first_row),
        kept_uids=every.uid[named],
        names=list(first_names(names).values()),
        paths=list(first_names(paths).values()),
        sample=_sample(every.take(chosen), row[chosen], outcomes),
        sampled=SampledMicrographs.concatenate(sampled),
    )


def _sample(picks: Picks, row: Ints, outcomes: Outcomes) -> SampledPicks:
    """Combine picks with their outcomes. `row` counts from the first row of the part."""
    more = {
        name: getattr(outcomes, name)[row] for name in ("kept", "winner_row", "distance", "votes")
    }
    more["winner_source"] = outcomes.winner_source[row].astype(np.uint16)
    more["row"] = row + outcomes.first_row
    return SampledPicks.from_columns({**picks.columns(), **more})


def _per_micrograph(keys: Keys, read: Sequence[_Read]) -> tuple[Ints, Ints, Floats]:
    """Add up the kept and the rejected picks of each micrograph, and join the bounds."""
    kept, rejected = np.zeros(keys.size, np.int64), np.zeros(keys.size, np.int64)
    for each in read:
        at = np.searchsorted(keys, each.keys)
        kept[at] += each.kept
        rejected[at] += each.rejected
    return kept, rejected, join_bounds(keys, ((each.keys, each.bounds) for each in read))


def _count_by_row_order(read: Sequence[_Read]) -> int:
    """Count the rejected rows with the same values for the rank as their winner, except for the row number."""
    ties, winners, kept_rows, uids = (
        np.concatenate([np.empty(0, np.uint64), *(getattr(each, name) for each in read)])
        for name in ("ties", "tie_winners", "kept_rows", "kept_uids")
    )
    if not (ties.size and kept_rows.size):
        return int(ties.size)
    order = np.argsort(kept_rows)
    at = order[np.searchsorted(kept_rows[order], winners).clip(max=kept_rows.size - 1)]
    # Winners from inputs with uids are not in `kept_rows`, because the uids were compared before.
    return int(np.count_nonzero((kept_rows[at] != winners) | (uids[at] == ties)))
