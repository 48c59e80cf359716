"""Check which particles a run kept and rejected, by deriving these decisions from the inputs.

Only ``duplicates``, which lists the rejected rows, and ``votes`` are read from the result. The centres, labels
and micrograph keys (`particles.extract`) and the order of the rank keys (`dedup.rank`) are trusted. The content
hashes of particles without a uid, and standings, are computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.picks import fragment_of, row_of
from dask_dedup.output.layout import DUPLICATES, VOTES
from dask_dedup.particles.column_values import Columns
from dask_dedup.pipeline.duplicates import DUPLICATES_SCHEMA, OUTVOTED, with_groups
from dask_dedup.pipeline.job import ALGORITHM
from dask_dedup.pipeline.votes import VOTES_SCHEMA
from dask_dedup.results.verify.batch import Batch
from dask_dedup.results.verify.close_pairs import (
    NOT_FOUND,
    Points,
    best_within,
    closest_pair,
    distances,
    nearest_other,
)
from dask_dedup.results.verify.dataset_files import DatasetFiles
from dask_dedup.results.verify.duplicates import expected_duplicates
from dask_dedup.results.verify.faults import Faults
from dask_dedup.results.verify.outcome import FAULTS, Check, UncheckedError
from dask_dedup.results.verify.ranks import rank_picks
from dask_dedup.results.verify.rows import find_parts
from dask_dedup.results.verify.validity import InvalidCounts, compare_counts
from dask_dedup.results.verify.votes import VoteResults, examine_votes

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.dedup.picks import Picks
    from dask_dedup.formats import Fragment
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]

#: The checks of this module, in order.
DECISION_CHECKS = ("validity", "separation", "rejections", "duplicates")
#: Picks in memory at a time; each further pass reads the columns of the inputs again.
PASS_ROWS = 4_000_000
#: The picks of this many fragments are merged at once: small tables need several times the memory of their rows.
MERGED_FRAGMENTS = 64
#: The closest pair of kept particles is searched up to this multiple of the separation.
LOOK_AHEAD = 2.0


@dataclass(slots=True)
class DecisionResults:
    """Results of the decision checks on all micrographs examined so far.

    Attributes
    ----------
    closest : float
        Smallest distance between two kept particles, in angstrom. Pairs that are never duplicates, such as pairs of
        one filament, do not count. Infinite if no distance is at most `LOOK_AHEAD` times the separation.
    rejected : int
        Number of rejected rows that could be compared.
    outvoted : int
        Number of these rows that were rejected for their votes.
    """

    closest: float = np.inf
    rejected: int = 0
    outvoted: int = 0
    invalid: InvalidCounts = field(default_factory=InvalidCounts)
    validity: Faults = field(default_factory=Faults)
    separation: Faults = field(default_factory=Faults)
    rejections: Faults = field(default_factory=Faults)
    duplicates: Faults = field(default_factory=Faults)
    votes: VoteResults = field(default_factory=VoteResults)


def _check_algorithm(run: FinishedRun) -> None:
    """Raise UncheckedError if the run was decided by another algorithm."""
    versions = run.manifest["versions"]
    if versions["algorithm"] != str(ALGORITHM):
        raise UncheckedError(
            f"not checked: made by algorithm {versions['algorithm']}, but this version has algorithm "
            f"{ALGORITHM}. Use version {versions['dask-dedup']}, which made the run"
        )


def decision_checks(run: FinishedRun) -> tuple[str, ...]:
    """Return the names of the checks of this module, in order."""
    # The manifest may be damaged.
    outputs = run.manifest.get("outputs", [])
    counts_votes = any(entry.get("path", "").startswith(f"{VOTES}/") for entry in outputs)
    return (*DECISION_CHECKS, "votes") if counts_votes else DECISION_CHECKS


def check_decisions(
    run: FinishedRun, inputs: Inputs, pool: Executor
) -> tuple[list[Check], float | None]:
    """Run the checks of decisions. Also return the smallest distance between kept particles (angstrom)."""
    params = inputs.params
    try:
        totals = run.manifest["totals"]
        _check_algorithm(run)
        parts = find_parts(run, inputs)
        duplicates = DatasetFiles(
            parts[DUPLICATES], with_groups(DUPLICATES_SCHEMA, params), run.folder
        )
        votes = None
        if inputs.voting:
            votes = DatasetFiles(
                parts[VOTES], with_groups(VOTES_SCHEMA, params), run.folder, repeated=True
            )
        results = examine_decisions(inputs, duplicates, votes, pool)
    except FAULTS as error:
        return [Check.failed(name, error) for name in decision_checks(run)], None

    def check_validity() -> str:
        results.validity.check("")
        return compare_counts(inputs, totals, results.invalid)

    rejections, listed = _describe_rejections(inputs, results)
    separation = _describe_separation(params, results.closest)
    checks = [
        Check.of("validity", check_validity),
        Check.of("separation", results.separation.check, separation),
        Check.of("rejections", results.rejections.check, rejections),
        Check.of("duplicates", results.duplicates.check, listed),
    ]
    if inputs.voting:
        checks.append(Check.of("votes", results.votes.check, totals))
    return checks, float(results.closest) if np.isfinite(results.closest) else None


def _describe_rejections(inputs: Inputs, results: DecisionResults) -> tuple[str, str]:
    """Return the results of the checks "rejections" and "duplicates" as text, if both pass."""

    def every(number: int, what: str) -> str:
        return f"the one {what}" if number == 1 else f"all {number:,} {what}s"

    partner = "better-ranked duplicate that is kept"
    if inputs.params.remove_entirely:
        partner = "duplicate"
    elif inputs.voting:
        partner = "better-ranked representative within the separation"
    number = results.rejected - results.outvoted
    what = "duplicate" if inputs.voting else "rejected particle"
    rejections = f"{every(number, what)} {'has' if number == 1 else 'have'} a {partner}"
    if not number:
        rejections = "no particle is rejected as a duplicate"
    if not results.rejected:
        return rejections, rejections
    listed = every(results.rejected, "rejected particle")
    return rejections, f"{DUPLICATES}/ lists {listed} with the right winner and distance"


def _describe_separation(params: DedupParams, closest: float) -> str:
    kept, limit = "kept particles", params.min_separation
    if params.between_inputs_only:
        kept += " of different inputs"
    if params.ignore_within_filament:
        kept += " of different filaments"
    if np.isfinite(closest):
        return f"the closest two {kept} are {closest:.6g} A apart (limit {limit:g} A)"
    if params.measures:
        return f"no two {kept} are within {LOOK_AHEAD * limit:g} A (limit {limit:g} A)"
    if params.undo_symmetry_expansion:
        return f"no two {kept} are copies of one"
    return f"no two {kept} have the same coordinates"


def examine_decisions(
    inputs: Inputs, duplicates: DatasetFiles, votes: DatasetFiles | None, pool: Executor
) -> DecisionResults:
    """Derive the decisions from the inputs, and compare them with ``duplicates`` and ``votes``."""
    passes = max(1, -(-sum(fragment.rows for fragment in inputs.fragments) // PASS_ROWS))
    results = DecisionResults()
    for number in range(passes):

        def read(fragment: Fragment, number: int = number) -> Batch:
            batch = Batch.read(inputs, fragment, duplicates, votes)
            return batch if passes == 1 else batch.of_pass(number, passes)

        fragments = inputs.fragments
        groups = range(0, len(fragments), MERGED_FRAGMENTS)
        merged = [
            Batch.concatenate(list(pool.map(read, fragments[first : first + MERGED_FRAGMENTS])))
            for first in groups
        ]
        if merged:
            batch = Batch.concatenate(merged)
            del merged
            comparable = batch.reason == ""
            _examine_invalid(inputs, batch, results)
            _examine(inputs, batch if comparable.all() else batch.take(comparable), results)
    return results


def _name(inputs: Inputs, picks: Picks, row: int) -> str:
    row_id = picks.row_id[row : row + 1]
    fragment = inputs.fragments[fragment_of(row_id)[0]]
    path, row_in_file = fragment.locate(int(row_of(row_id)[0]))
    return f"{path} row {row_in_file}"


def _outvoted(batch: Batch) -> Bools:
    """Return a (n,) bool mask of the picks with the reason `votes` in ``duplicates``."""
    codes, names = Columns(batch.duplicates.table, DUPLICATES).texts("reason")
    outvoted = np.zeros(len(batch.picks), dtype=bool)
    outvoted[batch.rejected] = np.array([*(name == OUTVOTED for name in names), False])[codes]
    return outvoted


def _examine_invalid(inputs: Inputs, batch: Batch, results: DecisionResults) -> None:
    """Check that the invalid rows, and only these, were treated as the parameter `invalid` requires."""
    picks, kept, invalid = batch.picks, batch.kept, batch.reason != ""
    faults, option = results.validity, inputs.params.invalid
    pairs = zip(picks.source[invalid].tolist(), batch.reason[invalid].tolist(), strict=True)
    results.invalid.update(pairs)

    def add(rows: Bools, fault: str, faults: Faults = faults) -> None:
        def describe(row: int) -> str:
            reason = f" ({batch.reason[row]})" if batch.reason[row] else ""
            return f"{_name(inputs, picks, row)} {fault}{reason}"

        faults.add(np.flatnonzero(rows), describe)

    set_aside = np.zeros(len(picks), dtype=bool)
    set_aside[batch.rejected] = Columns(batch.duplicates.table, DUPLICATES).nulls("distance_A")
    if inputs.voting:
        set_aside &= ~_outvoted(batch)
    add(set_aside & ~invalid, "was set aside, but is valid")
    low = batch.reason == "score"
    add(low & kept, "has a score worse than the limit, but is kept")
    others = invalid & ~low
    if option == "error":
        add(others, "cannot be compared, but was not refused")
    else:
        outcome = "kept" if option == "reject" else "rejected"
        misplaced = others & (kept != (option == "keep"))
        add(misplaced, f"cannot be compared, but is {outcome}")
    if batch.votes is not None:
        voted = np.zeros(len(picks), dtype=bool)
        voted[batch.votes.picks] = True
        add(voted & invalid, f"cannot be compared, but is in {VOTES}", results.votes.faults)
    aside = batch.take(invalid & ~kept)
    count = len(aside.picks)
    if not count:
        return
    every, no_number = np.arange(count), np.full(count, np.nan)
    no_winner, no_votes = np.full(count, NOT_FOUND), np.zeros(count, dtype=np.intp)
    expected = expected_duplicates(
        inputs, aside.picks, every, no_winner, no_number, no_number, no_votes
    )
    expected["reason"] = pa.array(aside.reason.tolist(), pa.string()).dictionary_encode()
    _compare(inputs, aside, expected, every, faults)


def _examine(inputs: Inputs, batch: Batch, results: DecisionResults) -> None:
    """Check that valid rows were rightly kept or rejected, and that the datasets describe them correctly."""
    params, picks, rejected = inputs.params, batch.picks, batch.rejected
    name = partial(_name, inputs, picks)
    _, micrograph = np.unique(picks.micrograph, return_inverse=True)
    centres, limit = picks.points(params)
    points = Points(micrograph, centres, picks.exclusions(params))
    rank, standing = rank_picks(picks, params, inputs.higher_is_better)
    kept = np.flatnonzero(batch.kept)
    outvoted = _outvoted(batch) if inputs.voting else np.zeros(len(picks), dtype=bool)
    # Representatives are not duplicates: they are kept, or rejected for their votes.
    representative = batch.kept | outvoted
    representatives, duplicates = np.flatnonzero(representative), np.flatnonzero(~representative)
    results.rejected += rejected.size
    results.outvoted += int(outvoted.sum())
    pair = closest_pair(points.take(kept), LOOK_AHEAD * limit)
    if pair is not None:
        results.closest = min(results.closest, pair[0])
    if outvoted.any():
        pair = closest_pair(points.take(representatives), limit)
    if pair is not None:
        apart, i, j = pair
        what = "kept or rejected for their votes" if outvoted.any() else "kept"
        results.separation.add(
            representatives[[i]] if apart <= limit else representatives[:0],
            lambda row: (
                f"{name(row)} and {name(representatives[j])} are {what}, but {apart:.6g} A apart"
            ),
        )

    winner, distance = np.full(len(picks), NOT_FOUND), np.full(len(picks), np.nan)
    right = outvoted.copy()
    if params.remove_entirely:
        nearest = nearest_other(points, limit)
        distance[duplicates] = nearest[duplicates]
        right[duplicates] = np.isfinite(nearest[duplicates])
        results.separation.add(
            kept[np.isfinite(nearest[kept])],
            lambda row: f"{name(row)} is kept, but another particle is at {nearest[row]:.6g} A",
        )
        fault = "no other particle is within the separation"
    else:
        best = best_within(
            points.take(duplicates), points.take(representatives), rank[representatives], limit
        )
        winner[duplicates] = np.append(representatives, NOT_FOUND)[best]
        distance[duplicates] = distances(centres[duplicates], centres[winner[duplicates]])
        found = winner[duplicates] != NOT_FOUND
        right[duplicates] = found & (rank[winner[duplicates]] < rank[duplicates])
        remains = "a representative" if inputs.voting else "kept"
        fault = f"no better-ranked particle within the separation is {remains}"
    results.rejections.add(
        duplicates[~right[duplicates]], lambda row: f"{name(row)} is rejected, but {fault}"
    )

    votes = np.zeros(len(picks), dtype=np.intp)
    if inputs.voting:
        votes = examine_votes(
            inputs, inputs.voting, batch, points, rank, representative, results.votes, name
        )
    expected = expected_duplicates(
        inputs, picks, rejected, winner[rejected], distance[rejected], standing, votes
    )
    _compare(inputs, batch, expected, np.flatnonzero(right[rejected]), results.duplicates)


def _compare(
    inputs: Inputs, batch: Batch, expected: dict[str, pa.Array], rows: Indices, faults: Faults
) -> None:
    """Compare the given rows of ``duplicates`` with the expected columns. Add rows that differ to `faults`."""
    table, stored = batch.duplicates.table, batch.duplicates.stored
    columns = expected | dict(zip(stored.column_names, stored.columns, strict=True))

    def name(row: int) -> str:
        return _name(inputs, batch.picks, int(batch.rejected[row]))

    faults.compare(DUPLICATES, table, columns, rows, name)
