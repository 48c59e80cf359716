"""The picks that are checked in one pass over the inputs, and the rows of the result that describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from dask_dedup import formats
from dask_dedup.dedup.picks import Picks
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs.names import is_missing
from dask_dedup.results.verify.content import content_hashes
from dask_dedup.results.verify.validity import find_reasons

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.verify.dataset_files import DatasetFiles

    Bools = NDArray[np.bool_]
    Indices = NDArray[np.intp]

#: The fraction of a second in a time as text.
_FRACTION = re.compile(r"\.\d+")


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of ``duplicates`` or ``votes``.

    Attributes
    ----------
    table : pyarrow.Table
        The rows.
    picks : (n,) intp
        Index of the pick that each row describes, ascending.
    stored : pyarrow.Table
        For the same picks: the micrograph, the uid and the group values as stored in the input.
    """

    table: pa.Table
    picks: Indices
    stored: pa.Table

    @classmethod
    def read(
        cls, inputs: Inputs, columns: pa.Table, fragment: Fragment, files: DatasetFiles
    ) -> Self:
        """Read the rows that describe picks of a fragment. `columns` are columns of the input."""
        table, rows = files.read(fragment)
        names = files.schema.names
        groups = names[len(names) - len(inputs.params.group_columns) :]
        stored = _stored(inputs, inputs.roles[fragment.source], columns, rows, groups)
        return cls(table, rows, stored)

    @classmethod
    def concatenate(cls, parts: Sequence[Self], counts: Sequence[int]) -> Self:
        """Join the rows of all parts. `counts` are the numbers of picks of the parts."""

        def joined(tables: list[pa.Table]) -> pa.Table:
            return pa.concat_tables(tables).unify_dictionaries().combine_chunks()

        before = np.cumsum([0, *counts])
        return cls(
            joined([part.table for part in parts]),
            np.concatenate([part.picks + n for part, n in zip(parts, before, strict=False)]),
            joined([part.stored for part in parts]),
        )

    def take(self, selected: Bools) -> Self:
        """Select the rows of the picks in a mask."""
        rows = selected[self.picks]
        number = np.cumsum(selected) - 1
        mask = pa.array(rows)
        picks = number[self.picks[rows]]
        return type(self)(self.table.filter(mask), picks, self.stored.filter(mask))


@dataclass(frozen=True, slots=True)
class Batch:
    """The picks checked in one pass over the inputs.

    Attributes
    ----------
    picks : Picks
    reason : (n,) object
        The reason why a pick cannot be compared; "" for a valid pick.
    duplicates : Listing
    votes : Listing or None
        None if votes are not counted.
    """

    picks: Picks
    reason: NDArray[np.object_]
    duplicates: Listing
    votes: Listing | None

    @classmethod
    def read(
        cls,
        inputs: Inputs,
        fragment: Fragment,
        duplicates: DatasetFiles,
        votes: DatasetFiles | None,
    ) -> Self:
        """Read the picks of one fragment."""
        roles = inputs.roles[fragment.source]
        columns = formats.read(inputs.tables[fragment.source], fragment, roles.columns)
        picks = extract(columns, fragment, roles, inputs.params, inputs.micrographs).picks
        if roles.uid is None:
            picks = replace(picks, uid=content_hashes(columns, roles))
        reason = find_reasons(inputs, fragment.source, columns, picks)
        listed = Listing.read(inputs, columns, fragment, duplicates)
        found = Listing.read(inputs, columns, fragment, votes) if votes else None
        return cls(picks, reason, listed, found)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the picks of all parts, in order, in new memory."""
        counts = [len(part.picks) for part in parts]
        votes = [part.votes for part in parts if part.votes is not None]
        return cls(
            Picks.concatenate([part.picks for part in parts]),
            np.concatenate([part.reason for part in parts]),
            Listing.concatenate([part.duplicates for part in parts], counts),
            Listing.concatenate(votes, counts) if votes else None,
        )

    def take(self, selected: Bools) -> Self:
        """Select picks by mask."""
        return type(self)(
            self.picks.take(selected),
            self.reason[selected],
            self.duplicates.take(selected),
            self.votes and self.votes.take(selected),
        )

    def of_pass(self, number: int, passes: int) -> Self:
        """Select the picks of the micrographs that are checked in pass `number` of `passes`."""
        # Keys can have a pattern. Hashes of keys are spread evenly over the passes.
        return self.take(splitmix64(self.picks.micrograph) % np.uint64(passes) == number)

    @property
    def rejected(self) -> Indices:
        """The indices of the rejected picks."""
        return self.duplicates.picks

    @property
    def kept(self) -> Bools:
        """Mask of the kept picks, (n,) bool."""
        kept = np.ones(len(self.picks), dtype=bool)
        kept[self.rejected] = False
        return kept


def _stored(
    inputs: Inputs,
    roles: ColumnRoles,
    columns: pa.Table,
    rows: Indices,
    groups: Sequence[str],
) -> pa.Table:
    """Return the micrograph, the uid and the values of the columns `groups` in the given rows."""
    names = columns.column(roles.micrograph).take(pa.array(rows)).cast(pa.string())
    uid = pa.nulls(rows.size, pa.uint64())
    if roles.uid:
        decoded = Columns(columns, "the input")
        uid = pa.array(decoded.integers(roles.uid)[rows], mask=decoded.nulls(roles.uid)[rows])
    stored = pa.table({"micrograph": names.dictionary_encode(), "uid": uid})
    for name, values in zip(groups, _group_values(inputs, columns, rows), strict=True):
        stored = stored.append_column(name, values)
    return stored


def _group_values(inputs: Inputs, columns: pa.Table, rows: Indices) -> Iterator[pa.Array]:
    """Yield the values of each group column in the given rows as text."""
    for column in inputs.params.group_columns:
        values = columns.column(column).take(pa.array(rows))
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        texts = values.cast(pa.string()).to_pylist()
        if pa.types.is_timestamp(values.type) or pa.types.is_time(values.type):
            texts = [text and _FRACTION.sub(_shorten, text) for text in texts]
        known = [None if text is None or is_missing(text) else text for text in texts]
        yield pa.array(known, pa.string()).dictionary_encode()


def _shorten(fraction: re.Match[str]) -> str:
    return fraction[0].rstrip("0").rstrip(".")
