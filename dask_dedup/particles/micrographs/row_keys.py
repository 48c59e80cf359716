"""The micrograph of each row: its name or uid, its group, and the 64-bit key of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy, from_strings, is_text
from dask_dedup.dedup.rank import splitmix64
from dask_dedup.particles.micrographs.names import MicrographName, hash_texts, is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray

    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.column_values import Columns
    from dask_dedup.particles.micrographs.names import Naming

    Codes = NDArray[np.intp]
    Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RowGroups:
    """The group of each row: its values in the columns of the parameter ``group_by``.

    Attributes
    ----------
    columns : tuple of str
    codes : tuple of (n,) intp
        For each column, the number of each row's text in `texts`; -1 for null.
    texts : tuple of list of str
        For each column, its distinct values as text.
    """

    columns: tuple[str, ...] = ()
    codes: tuple[Codes, ...] = ()
    texts: tuple[list[str], ...] = ()

    @classmethod
    def of(cls, columns: Columns, names: Sequence[str]) -> Self:
        """Read the group columns."""
        found = [_values(columns, name) for name in names]
        return cls(tuple(names), tuple(c for c, _ in found), tuple(t for _, t in found))

    def mixed_into(self, keys: Keys, columns: Sequence[str]) -> Keys:
        """Return `keys`, combined with the values of the rows in `columns`."""
        for name, codes, texts in zip(self.columns, self.codes, self.texts, strict=True):
            if name in columns:
                hashes = hash_texts([*(f"{name}={text}" for text in texts), name])
                keys = splitmix64(keys ^ hashes[codes])
        return keys

    def values(self, rows: Codes) -> list[pa.DictionaryArray]:
        """Return, for each group column, the values of some rows as text, with nulls."""
        return [
            pa.DictionaryArray.from_arrays(
                from_numpy(codes[rows].astype(np.int32), codes[rows] >= 0), from_strings(texts)
            )
            for codes, texts in zip(self.codes, self.texts, strict=True)
        ]

    def describe(self, row: int) -> str:
        """Return the group of a row as text, such as ``session=A, grid=2``."""
        return ", ".join(
            f"{name}={texts[codes[row]] if codes[row] >= 0 else 'null'}"
            for name, codes, texts in zip(self.columns, self.codes, self.texts, strict=True)
        )


def _values(columns: Columns, name: str) -> tuple[Codes, list[str]]:
    """Return codes and distinct texts of a group column. Texts for a missing value count as null."""
    codes, texts = columns.as_texts(name)
    missing = np.array([*map(is_missing, texts), False])
    return (np.where(missing[codes], -1, codes) if missing.any() else codes), texts


@dataclass(frozen=True, slots=True)
class RowMicrographs:
    """The micrograph of each row.

    Attributes
    ----------
    stored : (n,) uint64
        Key of the name or uid without the group.
    missing : (n,) bool
        Mask of the rows without a micrograph.
    codes : (n,) intp
        Number of each row's name in `names`, -1 for null; empty for uids.
    names : list of str
        The distinct names as stored; empty for uids.
    groups : RowGroups
    paths : tuple of (n,) intp and list of str
        If micrographs are matched by uid, the number of each row's path, and the distinct paths. None if paths are not
        read.
    """

    stored: Keys
    missing: NDArray[np.bool_]
    codes: Codes
    names: list[str]
    groups: RowGroups
    paths: tuple[Codes, list[str]] | None = None

    @classmethod
    def of(cls, columns: Columns, roles: ColumnRoles) -> Self:
        """Read the micrograph column and the group columns of a table, and the paths if the table has them."""
        found = cls.read(columns, roles.micrograph, roles.naming, roles.groups)
        path = roles.micrograph_path or ""
        if path in columns.rows.column_names and is_text(columns.rows.schema.field(path).type):
            return replace(found, paths=columns.texts(path))
        return found

    @classmethod
    def read(
        cls, columns: Columns, name: str, naming: Naming, group_by: Sequence[str] = ()
    ) -> Self:
        """Read the micrograph column `name` and the columns in `group_by`."""
        groups = RowGroups.of(columns, group_by)
        if naming.match == "uid":
            uids = columns.integers(name)
            return cls(uids, columns.nulls(name), np.empty(0, np.intp), [], groups)
        codes, names = columns.texts(name)
        keys = np.append(naming.keys(names), np.uint64(0))[codes]
        missing = np.array([*map(is_missing, names), True])[codes]
        return cls(keys, missing, codes, names, groups)

    @property
    def keys(self) -> Keys:
        """The (n,) uint64 key of each row's micrograph."""
        return self.keys_within(self.groups.columns)

    def keys_within(self, columns: Sequence[str]) -> Keys:
        """Return the keys for groups by `columns`, which are some of the group columns."""
        return self.groups.mixed_into(self.stored, columns)

    def named(self) -> list[MicrographName]:
        """Return the distinct names with their keys and groups. Uids are only included with a group or path."""
        codes_of_path, paths = self.paths or (np.full(self.stored.size, -1, dtype=np.intp), [])
        if not (self.groups.columns or self.paths):
            codes = self.codes[~self.missing] if self.names else np.empty(0, np.intp)
            first = _first_rows(self.codes, np.flatnonzero(np.bincount(codes)))
        else:
            distinct = self.codes
            if not self.names:
                _, distinct = np.unique(self.stored, return_inverse=True)
            for codes, texts in (
                *zip(self.groups.codes, self.groups.texts, strict=True),
                (codes_of_path, paths),
            ):
                distinct = distinct * (len(texts) + 1) + codes
            _, rows = np.unique(distinct, return_index=True)
            first = rows[~self.missing[rows]]
        keys = self.keys[first].tolist()
        return [
            MicrographName(
                key,
                self.names[self.codes[row]] if self.names else "",
                self.groups.describe(row),
                [*paths, ""][codes_of_path[row]],
            )
            for key, row in zip(keys, first.tolist(), strict=True)
        ]


def _first_rows(codes: Codes, wanted: Codes) -> Codes:
    """Return a row number for each of the codes `wanted`. All of these codes must occur."""
    row = np.zeros(int(codes.max(initial=-1)) + 2, dtype=np.intp)
    row[codes] = np.arange(codes.size)
    return row[wanted]
