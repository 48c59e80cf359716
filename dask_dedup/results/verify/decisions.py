"""Check which particles a run kept and rejected, by deriving these decisions from the inputs.

Only ``duplicates``, which lists the rejected rows, is read from the result. The centres, labels and
micrograph keys (`particles.extract`) and the order of the rank keys (`dedup.rank`) are trusted. The content
hashes of particles without a uid are computed again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup import formats
from dask_dedup.dedup.picks import Picks, fragment_of, row_of
from dask_dedup.dedup.rank import rank_keys, splitmix64
from dask_dedup.output.layout import DUPLICATES
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs.names import is_missing
from dask_dedup.pipeline.duplicates import duplicates_schema, group_names
from dask_dedup.pipeline.job import ALGORITHM
from dask_dedup.results.verify.close_pairs import (
    NOT_FOUND,
    Points,
    best_within,
    closest_pair,
    distances,
    nearest_other,
)
from dask_dedup.results.verify.content import content_hashes
from dask_dedup.results.verify.duplicates import DuplicateFiles, differs, expected_duplicates
from dask_dedup.results.verify.rows import find_parts
from dask_dedup.results.verify.validity import InvalidCounts, compare_counts, find_reasons
from dask_dedup.results.verify.verification import FAULTS, Check, MismatchError, UncheckedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
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
#: The closest pair of kept particles is searched up to this many separations.
LOOK_AHEAD = 2.0
#: Of seconds, in a time as text.
_FRACTION = re.compile(r"\.\d+")


@dataclass(slots=True)
class Faults:
    """The number of rows that fail a check, and a description of the first such row."""

    rows: int = 0
    first: str = ""

    def add(self, rows: Indices, describe: Callable[[int], str]) -> None:
        """Count rows that fail the check. `describe` returns the message for a row."""
        if rows.size and not self.rows:
            self.first = describe(int(rows[0]))
        self.rows += rows.size

    def check(self, finding: str) -> str:
        """Return `finding` if there are no faults, else raise a `MismatchError`."""
        if self.rows:
            more = f" (and {self.rows - 1:,} more)" if self.rows > 1 else ""
            raise MismatchError(f"{self.first}{more}")
        return finding


@dataclass(slots=True)
class Findings:
    """Results of the decision checks on all micrographs examined so far.

    Attributes
    ----------
    closest : float
        Distance in angstrom of the closest two kept particles that may be duplicates; infinite if
        no two are within `LOOK_AHEAD` separations.
    rejected : int
        Number of rejected rows that could be compared.
    """

    closest: float = np.inf
    rejected: int = 0
    invalid: InvalidCounts = field(default_factory=InvalidCounts)
    validity: Faults = field(default_factory=Faults)
    separation: Faults = field(default_factory=Faults)
    rejections: Faults = field(default_factory=Faults)
    duplicates: Faults = field(default_factory=Faults)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The picks checked in one pass over the inputs.

    Attributes
    ----------
    picks : Picks
    kept : (n,) bool
    reason : (n,) object
        Why a pick cannot be compared; empty if it can.
    duplicates : pyarrow.Table
        The rows of ``duplicates`` for the rejected picks, in their order.
    stored : pyarrow.Table
        For the same picks: the micrograph and the uid as stored in the input.
    """

    picks: Picks
    kept: Bools
    reason: NDArray[np.object_]
    duplicates: pa.Table
    stored: pa.Table

    @classmethod
    def concatenate(cls, parts: Sequence[_Batch]) -> _Batch:
        """Join the picks of all parts, in order, in new memory."""

        def joined(tables: list[pa.Table]) -> pa.Table:
            return pa.concat_tables(tables).unify_dictionaries().combine_chunks()

        return cls(
            Picks.concatenate([part.picks for part in parts]),
            np.concatenate([part.kept for part in parts]),
            np.concatenate([part.reason for part in parts]),
            joined([part.duplicates for part in parts]),
            joined([part.stored for part in parts]),
        )

    def take(self, selected: Bools) -> _Batch:
        """Select picks by mask."""
        listed = pa.array(selected[~self.kept])
        return _Batch(
            self.picks.take(selected),
            self.kept[selected],
            self.reason[selected],
            self.duplicates.filter(listed),
            self.stored.filter(listed),
        )

    @property
    def rejected(self) -> Indices:
        """The indices of the rejected picks."""
        return np.flatnonzero(~self.kept)


def _check_algorithm(run: FinishedRun) -> None:
    """Raise UncheckedError if the run was decided by another algorithm."""
    versions = run.manifest["versions"]
    if versions["algorithm"] != str(ALGORITHM):
        raise UncheckedError(
            f"not checked: made by algorithm {versions['algorithm']}, but this version has algorithm "
            f"{ALGORITHM}. Use version {versions['dask-dedup']}, which made the run"
        )


def check_decisions(
    run: FinishedRun, inputs: Inputs, pool: Executor
) -> tuple[list[Check], float | None]:
    """Run the checks in `DECISION_CHECKS`. Also return the smallest distance between kept particles (angstrom)."""
    try:
        _check_algorithm(run)
        duplicates = DuplicateFiles(find_parts(run, inputs)[DUPLICATES], run.folder)
        findings = examine_decisions(inputs, duplicates, pool)
    except FAULTS as error:
        return [Check.failed(name, error) for name in DECISION_CHECKS], None
    count = findings.rejected

    def check_validity() -> str:
        findings.validity.check("")
        return compare_counts(inputs, run.manifest["totals"], findings.invalid)

    every = "the one rejected particle" if count == 1 else f"all {count:,} rejected particles"
    has = "has" if count == 1 else "have"
    partner = (
        "duplicate" if inputs.params.remove_entirely else "better-ranked duplicate that is kept"
    )
    rejections = f"{every} {has} a {partner}"
    listed = f"{DUPLICATES}/ lists {every} with the right winner and distance"
    if not count:
        rejections = listed = "no particle is rejected as a duplicate"
    separation = _describe_separation(inputs.params, findings.closest)
    checks = [
        Check.of("validity", check_validity),
        Check.of("separation", findings.separation.check, separation),
        Check.of("rejections", findings.rejections.check, rejections),
        Check.of("duplicates", findings.duplicates.check, listed),
    ]
    return checks, float(findings.closest) if np.isfinite(findings.closest) else None


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


def examine_decisions(inputs: Inputs, duplicates: DuplicateFiles, pool: Executor) -> Findings:
    """Derive the decisions from the inputs, and compare them with ``duplicates``."""
    passes = max(1, -(-sum(fragment.rows for fragment in inputs.fragments) // PASS_ROWS))
    findings = Findings()
    for number in range(passes):

        def read(fragment: Fragment, number: int = number) -> _Batch:
            return _read(inputs, fragment, duplicates, number, passes)

        fragments = inputs.fragments
        groups = range(0, len(fragments), MERGED_FRAGMENTS)
        merged = [
            _Batch.concatenate(list(pool.map(read, fragments[first : first + MERGED_FRAGMENTS])))
            for first in groups
        ]
        if merged:
            batch = _Batch.concatenate(merged)
            del merged
            comparable = batch.reason == ""
            _examine_invalid(inputs, batch, findings)
            _examine(inputs, batch if comparable.all() else batch.take(comparable), findings)
    return findings


def _read(
    inputs: Inputs, fragment: Fragment, files: DuplicateFiles, number: int, passes: int
) -> _Batch:
    """Read the picks of one fragment that are checked in pass `number` of `passes`."""
    roles = inputs.roles[fragment.source]
    columns = formats.read(inputs.tables[fragment.source], fragment, roles.columns)
    picks = extract(columns, fragment, roles, inputs.params, inputs.micrographs).picks
    if roles.uid is None:
        picks = replace(picks, uid=content_hashes(columns, roles))
    reason = find_reasons(inputs, fragment.source, columns, picks)
    duplicates, rows = files.read(fragment)
    if duplicates.schema.names != duplicates_schema(inputs.params).names:
        names = ", ".join(duplicates.schema.names)
        raise MismatchError(f"{files.paths[fragment.number]}: its columns are {names}")
    names = columns.column(roles.micrograph).take(pa.array(rows)).cast(pa.string())
    uid = pa.nulls(rows.size, pa.uint64())
    if roles.uid:
        decoded = Columns(columns, "the input")
        uid = pa.array(decoded.integers(roles.uid)[rows], mask=decoded.nulls(roles.uid)[rows])
    stored = pa.table({"micrograph": names.dictionary_encode(), "uid": uid})
    for name, values in _group_values(inputs, columns, rows):
        stored = stored.append_column(name, values)
    kept = np.ones(len(picks), dtype=bool)
    kept[rows] = False
    batch = _Batch(picks, kept, reason, duplicates, stored)
    if passes == 1:
        return batch
    # Keys may have a pattern; their hashes spread evenly over the passes.
    return batch.take(splitmix64(picks.micrograph) % np.uint64(passes) == number)


def _group_values(
    inputs: Inputs, columns: pa.Table, rows: Indices
) -> Iterator[tuple[str, pa.Array]]:
    """Yield the name in ``duplicates`` of each group column, and its values in the given rows as text."""
    every = zip(group_names(inputs.params), inputs.params.group_columns, strict=True)
    for name, column in every:
        values = columns.column(column).take(pa.array(rows))
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        texts = values.cast(pa.string()).to_pylist()
        if pa.types.is_timestamp(values.type) or pa.types.is_time(values.type):
            texts = [text and _FRACTION.sub(_shorten, text) for text in texts]
        known = [None if text is None or is_missing(text) else text for text in texts]
        yield name, pa.array(known, pa.string()).dictionary_encode()


def _shorten(fraction: re.Match[str]) -> str:
    return fraction[0].rstrip("0").rstrip(".")


def _name(inputs: Inputs, picks: Picks, row: int) -> str:
    row_id = picks.row_id[row : row + 1]
    fragment = inputs.fragments[fragment_of(row_id)[0]]
    path, row_in_file = fragment.locate(int(row_of(row_id)[0]))
    return f"{path} row {row_in_file}"


def _examine_invalid(inputs: Inputs, batch: _Batch, findings: Findings) -> None:
    """Check that the invalid rows, and only these, were treated as the parameter `invalid` requires."""
    picks, invalid = batch.picks, batch.reason != ""
    faults, option = findings.validity, inputs.params.invalid
    pairs = zip(picks.source[invalid].tolist(), batch.reason[invalid].tolist(), strict=True)
    findings.invalid.update(pairs)

    def add(rows: Bools, fault: str) -> None:
        def describe(row: int) -> str:
            reason = f" ({batch.reason[row]})" if batch.reason[row] else ""
            return f"{_name(inputs, picks, row)} {fault}{reason}"

        faults.add(np.flatnonzero(rows), describe)

    set_aside = np.zeros(len(picks), dtype=bool)
    set_aside[batch.rejected] = Columns(batch.duplicates, DUPLICATES).nulls("distance_A")
    add(set_aside & ~invalid, "was set aside, but is valid")
    low = batch.reason == "score"
    add(low & batch.kept, "has a score worse than the limit, but is kept")
    others = invalid & ~low
    if option == "error":
        add(others, "cannot be compared, but was not refused")
    else:
        outcome = "kept" if option == "reject" else "rejected"
        misplaced = others & (batch.kept != (option == "keep"))
        add(misplaced, f"cannot be compared, but is {outcome}")
    aside = batch.take(invalid & ~batch.kept)
    count = len(aside.picks)
    if not count:
        return
    every, not_found = np.arange(count), np.full(count, NOT_FOUND)
    expected = expected_duplicates(inputs, aside.picks, every, not_found, np.full(count, np.nan))
    expected["reason"] = pa.array(aside.reason.tolist(), pa.string()).dictionary_encode()
    _compare(inputs, aside, expected, every, faults)


def _examine(inputs: Inputs, batch: _Batch, findings: Findings) -> None:
    """Check that valid rows were rightly kept or rejected, and that ``duplicates`` has the right winners."""
    params, picks = inputs.params, batch.picks
    name = partial(_name, inputs, picks)
    _, micrograph = np.unique(picks.micrograph, return_inverse=True)
    centres, limit = picks.points(params)
    points = Points(micrograph, centres, picks.exclusions(params))
    kept, rejected = np.flatnonzero(batch.kept), batch.rejected
    findings.rejected += rejected.size
    pair = closest_pair(points.take(kept), LOOK_AHEAD * limit)
    if pair is not None:
        gap, i, j = pair
        findings.closest = min(findings.closest, gap)
        findings.separation.add(
            kept[[i]] if gap <= limit else kept[:0],
            lambda row: f"{name(row)} and {name(kept[j])} are kept, but {gap:.6g} A apart",
        )

    if params.remove_entirely:
        nearest = nearest_other(points, limit)
        distance, winner = nearest[rejected], np.full(rejected.size, NOT_FOUND)
        right = np.isfinite(distance)
        findings.separation.add(
            kept[np.isfinite(nearest[kept])],
            lambda row: f"{name(row)} is kept, but another particle is at {nearest[row]:.6g} A",
        )
        fault = "no other particle is within the separation"
    else:
        rank = np.empty(len(picks), dtype=np.intp)
        keys = rank_keys(picks, params, inputs.higher_is_better)
        rank[np.lexsort(keys[::-1])] = np.arange(len(picks))
        best = best_within(points.take(rejected), points.take(kept), rank[kept], limit)
        winner = np.append(kept, NOT_FOUND)[best]
        distance = distances(centres[rejected], centres[winner])
        right = (winner != NOT_FOUND) & (rank[winner] < rank[rejected])
        fault = "no better-ranked particle within the separation is kept"
    findings.rejections.add(rejected[~right], lambda row: f"{name(row)} is rejected, but {fault}")

    expected = expected_duplicates(inputs, picks, rejected, winner, distance)
    _compare(inputs, batch, expected, np.flatnonzero(right), findings.duplicates)


def _compare(
    inputs: Inputs, batch: _Batch, expected: dict[str, pa.Array], rows: Indices, faults: Faults
) -> None:
    """Compare the given rows of ``duplicates`` with the expected columns. Add rows that differ to `faults`."""
    found = Columns(batch.duplicates, DUPLICATES)
    stored = {name: batch.stored.column(name) for name in batch.stored.column_names}
    right = Columns(pa.table(expected | stored), "the expected rows")
    for column in duplicates_schema(inputs.params).names:
        wrong = differs(found, right, column)

        def describe(n: int, column: str = column) -> str:
            row = _name(inputs, batch.picks, int(batch.rejected[n]))
            is_, should_be = (table.rows.column(column)[n] for table in (found, right))
            return f"{row}: {column} is {is_} in {DUPLICATES}, but should be {should_be}"

        faults.add(rows[wrong[rows]], describe)
