"""Read the outcome of each row of a part of the result from ``duplicates`` and ``votes``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.dedup.rank import score_key
from dask_dedup.errors import RunError
from dask_dedup.output.layout import KEPT, REJECTED
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.sample import NO_ROW
from dask_dedup.storage.files import parquet_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.result_file import Part

    Ints = NDArray[np.int64]

_COLUMNS = ("distance_A", "uid", "file", "row")
_WINNER_COLUMNS = ("winner_uid", "winner_input", "winner_file", "winner_row")
_VOTE_COLUMNS = ("votes", "file", "row")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome of each row of a part, in the order of the input.

    Attributes
    ----------
    first_row : int
        Number of the first row in the input.
    kept : (n,) bool
    winner_source, winner_row : (n,) int64
        Input of the winner, and the winner's row in this input; `NO_ROW` without a winner.
    distance : (n,) float64
        Distance to the winner in angstrom; NaN without a winner.
    tied : (n,) bool
        Whether a row is rejected and has the same score (or standing) and uid as its winner. If the tables have no
        uids, only the content hashes show whether the order of rows decided.
    votes : (n,) uint16
        As in `SampledPicks`.
    """

    first_row: int
    kept: NDArray[np.bool_]
    winner_source: Ints
    winner_row: Ints
    distance: NDArray[np.float64]
    tied: NDArray[np.bool_]
    votes: NDArray[np.uint16]


def rows_of_parts(run: FinishedRun) -> list[range]:
    """Return the range of row numbers that each part has in its input."""
    of_file = {
        file.path: file.rows
        for dataset in (KEPT, REJECTED)
        for file in run.files_of(dataset)
        if file.fragment is not None
    }
    next_row: defaultdict[int, int] = defaultdict(int)
    ranges = []
    for part in run.parts:
        first = next_row[part.source]
        rows = run.manifest["inputs"][part.source]["rows"]
        written = [of_file[path] for path in (*part.kept, *part.rejected) if path in of_file]
        if written:
            rows = sum(written)
        ranges.append(range(first, first + rows))
        next_row[part.source] += rows
    return ranges


def first_rows_of_files(run: FinishedRun) -> dict[tuple[int, str], int]:
    """Map input number and path of each file to the row number in the input of the file's first row."""
    found = {}
    for source, entry in enumerate(run.manifest["inputs"]):
        row = 0
        for file in entry["files"]:
            found[source, file["path"]] = row
            row += file["rows"]
    return found


def read_outcomes(
    run: FinishedRun, part: Part, rows: range, first_rows: dict[tuple[int, str], int]
) -> Outcomes:
    """Read the outcomes of the rows of a part. See `rows_of_parts` and `first_rows_of_files`."""
    ranked_by = "standing" if run.params.uses_standing else "score"
    scores = (ranked_by, f"winner_{ranked_by}")
    columns = _read(part.duplicates, (*_COLUMNS, *_WINNER_COLUMNS, *scores))
    at = _rows_of(columns, part, rows, first_rows)
    codes, paths = columns.texts("winner_input")
    inputs = {entry["path"]: source for source, entry in enumerate(run.manifest["inputs"])}
    winner_source = np.array([*(inputs[path] for path in paths), 0], dtype=np.int64)[codes]
    winner_row = _row_numbers(columns, "winner_file", "winner_row", winner_source, first_rows)
    distance = np.where(winner_row == NO_ROW, np.nan, columns.floats("distance_A"))
    score, winner_score = map(columns.floats, scores)
    tied = (winner_row != NO_ROW) & (columns.integers("uid") == columns.integers("winner_uid"))
    tied &= score_key(score, higher_is_better=True) == score_key(
        winner_score, higher_is_better=True
    )
    if run.params.prefer_input_order:
        tied &= winner_source == part.source
    outcomes = Outcomes(
        first_row=rows.start,
        kept=np.ones(len(rows), dtype=bool),
        winner_source=np.zeros(len(rows), dtype=np.int64),
        winner_row=np.full(len(rows), NO_ROW, dtype=np.int64),
        distance=np.full(len(rows), np.nan),
        tied=np.zeros(len(rows), dtype=bool),
        votes=np.zeros(len(rows), dtype=np.uint16),
    )
    outcomes.kept[at] = False
    outcomes.winner_source[at] = winner_source
    outcomes.winner_row[at] = winner_row
    outcomes.distance[at] = distance
    outcomes.tied[at] = tied
    if part.votes:
        columns = _read(part.votes, _VOTE_COLUMNS)
        outcomes.votes[_rows_of(columns, part, rows, first_rows)] = columns.integers("votes")
    return outcomes


def _read(paths: Sequence[Path], names: Sequence[str]) -> Columns:
    tables = []
    for path in paths:
        with pq.ParquetFile(**parquet_source(path)) as file:
            tables.append(file.read(list(names), use_threads=False))
    return Columns(pa.concat_tables(tables), str(paths[0].parent))


def _rows_of(
    columns: Columns, part: Part, rows: range, first_rows: dict[tuple[int, str], int]
) -> Ints:
    """Return the row number in the part for each file and row in `columns`. Raise RunError if a row is outside."""
    sources = np.full(len(columns), part.source, dtype=np.int64)
    at = _row_numbers(columns, "file", "row", sources, first_rows) - rows.start
    if at.size and not (at.min() >= 0 and at.max() < len(rows)):
        raise RunError(f"{columns.table}: lists rows that its inputs do not have.")
    return at


def _row_numbers(
    columns: Columns, file: str, row: str, sources: Ints, first_rows: dict[tuple[int, str], int]
) -> Ints:
    """Return the row number in the input for each file and row in `columns`; `NO_ROW` where these are null."""
    codes, paths = columns.texts(file)
    pairs = sources * (len(paths) + 1) + codes
    distinct, number = np.unique(pairs, return_inverse=True)
    known = [
        first_rows.get((pair // (len(paths) + 1), [*paths, ""][pair % (len(paths) + 1)]), 0)
        for pair in distinct.tolist()
    ]
    first = np.array([*known, 0], dtype=np.int64)[number]
    return np.where(columns.nulls(row), NO_ROW, first + columns.integers(row).astype(np.int64))
