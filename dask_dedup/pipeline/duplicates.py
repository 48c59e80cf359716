"""The table of duplicates: each rejected particle and its winner, with the files and rows of both particles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings
from dask_dedup.dedup.picks import NO_HALF, fragment_of
from dask_dedup.particles.validity import Reason, first_reasons, reason_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.decide import Rejections
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.particles.inputs import Inputs

#: Reasons: the particle was rejected in favour of another particle, or it has too few votes.
DUPLICATE, OUTVOTED = "duplicate", "votes"
DUPLICATES_SCHEMA = pa.schema(
    [
        ("reason", pa.string()),
        ("uid", pa.uint64()),
        ("winner_uid", pa.uint64()),
        ("distance_A", pa.float64()),
        ("score", pa.float64()),
        ("winner_score", pa.float64()),
        ("standing", pa.float64()),
        ("winner_standing", pa.float64()),
        ("votes", pa.int16()),
        ("winner_votes", pa.int16()),
        ("micrograph", pa.string()),
        ("input", pa.string()),
        ("winner_input", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("winner_file", pa.string()),
        ("winner_row", pa.int64()),
        ("half_set", pa.int8()),
        ("winner_half_set", pa.int8()),
    ]
)


def pandas_metadata(schema: pa.Schema) -> str:
    """Return pandas metadata for nullable integers. Without it, pandas reads them as floats and rounds uids."""
    columns = [
        {
            "name": field.name,
            "field_name": field.name,
            "pandas_type": str(field.type),
            "numpy_type": str(field.type).replace("int", "Int").replace("uI", "UI"),
            "metadata": None,
        }
        for field in schema
        if pa.types.is_integer(field.type)
    ]
    return json.dumps({"index_columns": [], "column_indexes": [], "columns": columns})


_PANDAS = pandas_metadata(DUPLICATES_SCHEMA)


def with_groups(schema: pa.Schema, params: DedupParams) -> pa.Schema:
    """Return the schema with the group columns added at the end, as text.

    A group column NAME becomes ``group_NAME`` if the schema already has a column NAME.
    """
    names = [f"group_{name}" if name in schema.names else name for name in params.group_columns]
    return pa.schema([*schema, *(pa.field(name, pa.string()) for name in names)])


def duplicates_table(
    inputs: Inputs,
    rejections: Rejections,
    micrographs: pa.ChunkedArray,
    groups: Sequence[pa.Array],
) -> pa.Table:
    """Make the Arrow table of rejected particles and their winners, with the columns of `DUPLICATES_SCHEMA`.

    The table also has the columns `groups`. `micrographs` and `groups` have a row for each rejected particle.
    """
    has_winner = rejections.has_winner
    with_uid = np.array([roles.uid is not None for roles in inputs.roles])
    with_score = np.array([roles.score is not None for roles in inputs.roles])
    source, winner_source = rejections.source, rejections.winner_source
    every = np.ones(len(rejections), dtype=bool)
    file, row = locate(inputs, rejections.row_id, every)
    winner_file, winner_row = locate(inputs, rejections.winner_row_id, has_winner)
    columns = [
        _reasons(rejections),
        from_numpy(rejections.uid, with_uid[source] & ((rejections.invalid & Reason.UID) == 0)),
        from_numpy(rejections.winner_uid, with_uid[winner_source] & has_winner),
        from_numpy(rejections.distance, ~np.isnan(rejections.distance)),
        from_numpy(rejections.score, with_score[source] & ~np.isnan(rejections.score)),
        from_numpy(rejections.winner_score, has_winner & ~np.isnan(rejections.winner_score)),
        from_numpy(rejections.standing, ~np.isnan(rejections.standing)),
        from_numpy(rejections.winner_standing, ~np.isnan(rejections.winner_standing)),
        from_numpy(rejections.votes.astype(np.int16), rejections.votes > 0),
        from_numpy(rejections.winner_votes.astype(np.int16), rejections.winner_votes > 0),
        micrographs.dictionary_encode().cast(pa.dictionary(pa.int32(), pa.string())),
        input_names(inputs, source, every),
        input_names(inputs, winner_source, has_winner),
        file,
        row,
        winner_file,
        winner_row,
        from_numpy(rejections.half, rejections.half != NO_HALF),
        from_numpy(rejections.winner_half, rejections.winner_half != NO_HALF),
        *groups,
    ]
    names = with_groups(DUPLICATES_SCHEMA, inputs.params).names
    return pa.table(columns, names=names, metadata={"pandas": _PANDAS})


def _reasons(rejections: Rejections) -> pa.DictionaryArray:
    """Return the reason of each rejected row: ``duplicate``, ``votes``, or the `Reason` if it was not compared."""
    reason = first_reasons(rejections.invalid).astype(np.int32)
    reason[rejections.votes > 0] = -1
    distinct, codes = np.unique(reason, return_inverse=True)
    named = {0: DUPLICATE, -1: OUTVOTED}
    names = [named.get(each) or reason_name(each) for each in distinct.tolist()]
    return pa.DictionaryArray.from_arrays(from_numpy(codes.astype(np.int32)), from_strings(names))


def input_names(
    inputs: Inputs, source: NDArray[np.uint16], known: NDArray[np.bool_]
) -> pa.DictionaryArray:
    """Return the path of the input of each row. The path is null where `known` is False."""
    paths = from_strings([table.path for table in inputs.tables])
    return pa.DictionaryArray.from_arrays(from_numpy(source.astype(np.int32), known), paths)


def locate(
    inputs: Inputs, row_id: NDArray[np.uint64], known: NDArray[np.bool_]
) -> tuple[pa.DictionaryArray, pa.Array]:
    """Return the input file of each row id, and the row within this file. Return nulls where `known` is False."""
    at = slice(None) if known.all() else np.flatnonzero(known)
    row_id = row_id[at]
    numbers = np.flatnonzero(np.bincount(fragment_of(row_id)))
    fragments = [inputs.fragments[number] for number in numbers.tolist()]
    starts, first_rows, paths = [], [], []
    for fragment in fragments:
        row = 0
        for piece in fragment.slices:
            starts.append((fragment.number << 32) + row)
            first_rows.append(piece.first_row)
            paths.append(piece.path)
            row += piece.rows
    starts_array = np.array(starts, dtype=np.uint64)
    piece_of = np.searchsorted(starts_array, row_id, side="right") - 1
    distinct = {path: code for code, path in enumerate(dict.fromkeys(paths))}
    code_of = np.array([distinct[path] for path in paths], dtype=np.int32)
    rows, codes = np.zeros(known.size, dtype=np.int64), np.zeros(known.size, dtype=np.int32)
    first_row = np.array(first_rows, dtype=np.int64)[piece_of]
    rows[at] = (row_id - starts_array[piece_of]).astype(np.int64) + first_row
    codes[at] = code_of[piece_of]
    files = pa.DictionaryArray.from_arrays(from_numpy(codes, known), from_strings(list(distinct)))
    return files, from_numpy(rows, known)
