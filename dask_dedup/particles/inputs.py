"""The inputs of a run: tables, fragments, the columns to read, parameters and micrographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from dask_dedup.errors import InputError
from dask_dedup.messages import parameter
from dask_dedup.particles.conventions import (
    check_flip,
    check_pixel_size,
    compare_roles,
    resolve_roles,
)
from dask_dedup.particles.micrographs import read_micrographs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.conventions import ColumnRoles
    from dask_dedup.particles.micrographs import MicrographTable


@dataclass(frozen=True, slots=True)
class Inputs:
    """Opened particle tables and how to read particles from them.

    Attributes
    ----------
    tables : tuple of ParticleTable
        In the user's order.
    fragments : tuple of Fragment
        The fragments of all tables, numbered from 0.
    roles : tuple of ColumnRoles
        One per table.
    params : DedupParams
    micrographs : MicrographTable or None
    """

    tables: tuple[ParticleTable, ...]
    fragments: tuple[Fragment, ...]
    roles: tuple[ColumnRoles, ...]
    params: DedupParams
    micrographs: MicrographTable | None = None

    @classmethod
    def of(
        cls,
        tables: Sequence[ParticleTable],
        roles: Sequence[ColumnRoles],
        params: DedupParams,
        micrographs: MicrographTable | None = None,
    ) -> Self:
        """Return inputs with the fragments of all tables numbered from 0."""
        fragments = [fragment for table in tables for fragment in table.fragments]
        numbered = tuple(replace(part, number=n) for n, part in enumerate(fragments))
        return cls(tuple(tables), numbered, tuple(roles), params, micrographs)


def make_inputs(
    tables: Sequence[ParticleTable], exposures: ParticleTable | None, params: DedupParams
) -> Inputs:
    """Return checked inputs; only the micrograph table is read.

    Parameters
    ----------
    tables : sequence of ParticleTable
        In the user's order.
    exposures : ParticleTable or None
        The micrograph table.
    params : DedupParams

    Raises
    ------
    InputError
        If a column is missing, or the parameters contradict the tables.
    """
    roles = find_roles(tables, params)
    micrographs = read_micrographs(exposures, match=roles[0].match) if exposures else None
    inputs = Inputs.of(tables, roles, params, micrographs)
    check_inputs(inputs)
    return inputs


def find_roles(tables: Sequence[ParticleTable], params: DedupParams) -> list[ColumnRoles]:
    """Return the column roles of each table, made comparable between tables.

    Raises
    ------
    InputError
        If a column is missing, or the tables cannot be compared.
    """
    roles = [resolve_roles(table.schema.names, params, table.path) for table in tables]
    return compare_roles(roles, [(table.path, table.schema.names) for table in tables], params)


def check_inputs(inputs: Inputs) -> None:
    """Check that every pixel size is known and that `flip_y` can be applied.

    Raises
    ------
    InputError
    """
    params, count = inputs.params, len(inputs.tables)
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        check_pixel_size(roles, params, inputs.micrographs, table.path)
        if table.source in params.flip_y:
            check_flip(roles, params, inputs.micrographs, table.path)
    unknown = [source for source in params.flip_y if not 0 <= source < count]
    if unknown:
        raise InputError(
            f"{parameter('flip_y')} names input {unknown[0]}; inputs are numbered from 0 "
            f"to {count - 1}."
        )
