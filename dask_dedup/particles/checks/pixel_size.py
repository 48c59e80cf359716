"""Check that the pixel size and the height of an input's micrographs are known before it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter
from dask_dedup.particles.column_names import (
    CRYOSPARC,
    ORIGINAL_PIXEL_SIZE,
    RELION,
    RELION_PARTICLE_PSIZE,
    TOMOGRAM_BINNING,
)
from dask_dedup.particles.column_roles import needs_pixel_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.micrographs.table import MicrographTable


def check_pixel_size(
    roles: ColumnRoles,
    params: DedupParams,
    micrographs: MicrographTable | None,
    table: str,
    columns: Sequence[str] = (),
    known: str = "",
) -> None:
    """Check that the micrograph pixel size and shape are known if they are needed.

    `columns` has the names of all columns for the message, and is empty for pick files. `known` is the path of the
    micrograph table of another input, or empty.
    """
    if not needs_pixel_size(roles, params):
        return
    if roles.binned and (micrographs is None or micrographs.binned is None):
        raise InputError(
            f"{table}: RELION's annotations are in pixels of the binned tomogram. Pass "
            f"{parameter('micrographs')}, a tomograms.star with {TOMOGRAM_BINNING}; or "
            f"{parameter('coordinate_pixel_size')}, which is {RELION.psize_mic[0]} x {TOMOGRAM_BINNING}."
        )
    sources = (roles.psize_mic, micrographs, roles.given_psize, roles.image)
    if all(source is None for source in sources):
        raise no_pixel_size(roles, table, columns, known)
    shape = roles.shape or (micrographs and micrographs.shape is not None)
    if roles.unit == "fraction" and not shape:
        raise InputError(
            f"{table}: no micrograph shape. Add the column {CRYOSPARC.shape[0]}, or pass "
            f"{parameter('micrographs')}, a table with micrograph_blob/shape."
        )


def check_flip(
    roles: ColumnRoles, params: DedupParams, micrographs: MicrographTable | None, table: str
) -> None:
    """Check that the micrograph height is known if y of coordinates in pixels is flipped."""
    in_table = micrographs is not None and micrographs.shape is not None
    if roles.unit == "pixel" and not params.micrograph_height and not in_table:
        raise InputError(
            f"{table}: {parameter('flip_y')} needs the height of the micrographs. Pass "
            f"{parameter('micrograph_height')}, or {parameter('micrographs')}, a table with "
            "micrograph_blob/shape."
        )


def fractions_error(roles: ColumnRoles, table: str) -> InputError:
    """Return the error for a table with pixel coordinates that are all from 0 to 1."""
    names = " ".join(roles.position)
    if len(roles.position) == 2:
        return InputError(
            f"{table}: all of {names} are from 0 to 1, as fractions of the micrograph are. Pass "
            f"{parameter('coordinate_pixel_size')} if they are pixels; otherwise convert them to pixels."
        )
    return InputError(
        f"{table}: all of {names} are from 0 to 1, as in the tables of Warp's template matching, "
        "which are fractions of the tomogram and not pixels. Pass "
        f"{parameter('micrographs')}, a tomograms.star with rlnTomoSizeX, rlnTomoSizeY and "
        f"rlnTomoSizeZ; or {parameter('coordinate_pixel_size')} if they are pixels."
    )


def no_pixel_size(
    roles: ColumnRoles, table: str, columns: Sequence[str], known: str = ""
) -> InputError:
    """Return the error for a table without any pixel size, with the parameters and columns that can provide it.

    `columns` is empty for pick files, because these cannot have a column with the pixel size. `known` is the path of
    the micrograph table of another input, or empty.
    """
    if not columns:
        way = f"{parameter('micrographs')}, such as RELION's micrographs_ctf.star,"
        if known:
            way = f"{parameter('micrographs', known)}, which another input uses,"
        return InputError(
            f"{table}: no micrograph pixel size. Pass {way} or {parameter('micrograph_pixel_size')}."
        )
    program, hint = CRYOSPARC, ""
    if roles.convention == "relion":
        program = RELION
        hint = " RELION's Extract drops that column"
        if ORIGINAL_PIXEL_SIZE in columns:
            hint += (
                f"; {ORIGINAL_PIXEL_SIZE} is the pixel size of the movies, and of the micrographs "
                "unless motion correction binned them"
            )
        particle = next((name for name in RELION_PARTICLE_PSIZE if name in columns), None)
        if particle:
            hint += f"; {particle} is another size if the particles were downsampled"
        hint += "."
    return InputError(
        f"{table}: no micrograph pixel size. Pass {parameter('micrograph_pixel_size')} or "
        f"{parameter('micrographs')} (a table), or add the column {program.psize_mic[-1]}.{hint}"
    )
