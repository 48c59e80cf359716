"""Check that the positions and scores of all inputs can be compared, before any row is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.particles.column_roles import ColumnRoles


def check_positions(
    roles: Sequence[ColumnRoles], tables: Sequence[str], params: DedupParams
) -> None:
    """Raise InputError if only some inputs have z, or if positions are in different units."""
    if len({len(role.position) for role in roles}) > 1:
        pairs = [*zip(tables, roles, strict=True)]
        flat = next(table for table, role in pairs if len(role.position) == 2)
        deep, role = next(pair for pair in pairs if len(pair[1].position) == 3)
        columns = parameter("columns", {deep: "x=...,y=...,score=..."})
        raise InputError(
            f"{deep}: was read as picks in tomograms ({' '.join(role.position)}), but {flat} has no z coordinate. "
            f"Run them separately. If its third column is no z, in a text table, pass {columns}."
        )
    # Positions in angstrom from the corner are read as pixels of 1 A, but only if pixel sizes are applied.
    units = {(role.unit, role.in_angstrom and not params.measures) for role in roles}
    if len(units) > 1 and (("angstrom", False) in units or not params.measures):
        listed = ", ".join(f"{t} {r.position[0]}" for t, r in zip(tables, roles, strict=True))
        raise InputError(
            f"the positions of the inputs are in different units ({listed}). "
            f"{_advice_on_units(roles, tables)}"
        )


def _advice_on_units(roles: Sequence[ColumnRoles], tables: Sequence[str]) -> str:
    """Return advice for positions in different units. RELION 5 may have the same picks in pixels."""
    for table, role in zip(tables, roles, strict=True):
        folder = Path(table).parent / "annotations"
        if role.unit == "angstrom" and folder.is_dir():
            return (
                f"Pass {folder} in place of {table}: it has the same picks in pixels, which "
                f"{parameter('micrographs', 'tomograms.star')} scales."
            )
    return "Convert one of them to the unit of the other, or run them separately."


def check_directions(
    roles: Sequence[ColumnRoles], tables: Sequence[str], params: DedupParams
) -> None:
    """Raise InputError if high scores win in one input and low scores in another, and these scores are compared."""
    scored = [pair for pair in zip(tables, roles, strict=True) if pair[1].score]
    if params.prefer_input_order or params.remove_entirely or params.uses_standing:
        return
    if len({each.higher_is_better for _, each in scored}) > 1:
        listed = ", ".join(f"{table} {each.score_name}" for table, each in scored)
        raise InputError(
            f"the scores of the inputs have different directions ({listed}). Choose columns of one "
            f"direction with {parameter('score_field')}, or pass {parameter('prefer_input_order')} or "
            f"{parameter('score_scale', 'standing')}."
        )


def check_min_scores(
    roles: Sequence[ColumnRoles],
    tables: Sequence[str],
    params: DedupParams,
    scoreless: Collection[str] = (),
) -> None:
    """Raise InputError if `min_score` applies to an input without a score.

    If `min_score` is for all inputs, this is only an error if no input has a score. `scoreless` are the tables of
    pick files without scores. They have an empty score column.
    """
    scored = [
        each.score is not None and table not in scoreless
        for table, each in zip(tables, roles, strict=True)
    ]
    for table, has_score in zip(tables, scored, strict=True):
        if not has_score and params.names_input("min_score", table):
            raise InputError(
                f"{table}: has no score for {parameter('min_score')}. Select its score with "
                f"{parameter('score_field')}, or leave {parameter('min_score')} out for this input."
            )
    if params.min_score and not any(scored):
        raise InputError(
            f"{parameter('min_score')} needs a score, but no input has one. Select it with "
            f"{parameter('score_field')}."
        )
