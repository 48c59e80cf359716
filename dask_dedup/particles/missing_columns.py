"""Texts of messages about tables without positions or micrographs."""

from __future__ import annotations

from pathlib import PurePath

from dask_dedup.particles.column_names import PROGRAMS, WITHOUT_POSITIONS


def explain_no_position(present: set[str], table: str) -> str:
    """Return the end of the message about a table without positions: the missing columns, and the files to pass."""
    kind = next((kind for column, kind in WITHOUT_POSITIONS.items() if column in present), None)
    if kind:
        return f": {kind}"
    known = {name for each in PROGRAMS for found in each.positions for name in found.columns}
    partial = sorted(known & present)
    text = f" (found only {', '.join(partial)})" if partial else ""
    text += (
        ". It needs the columns location/center_x_frac and location/center_y_frac (CryoSPARC), or "
        "rlnCoordinateX and rlnCoordinateY, or rlnCenteredCoordinateXAngst, -YAngst and -ZAngst "
        "(RELION)."
    )
    return text + in_passthrough(present, table)


def explain_no_micrograph(table: str, columns: str) -> str:
    """Return advice for a table with the name of the micrograph in its path, or an empty text."""
    path = PurePath(table)
    hive = next((p for p in path.parts if p.partition("=")[0] in columns and "=" in p), None)
    if hive:
        return f" Pass the folder above {hive}."
    if path.suffix != ".star":
        return ""
    return f" If the picks are of {path.stem}.mrc, rename the file to {path.stem}_autopick.star."


def in_passthrough(present: set[str], table: str) -> str:
    """Return advice on missing columns of a CryoSPARC table that may be in another file, or an empty text."""
    if "uid" in present and table.endswith(".cs"):
        return " If they are in a passthrough file, pass the job's .csg file, which joins the two."
    return ""
