"""Pixel sizes of pick files, from the table of micrographs in the settings of their RELION job."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from dask_dedup.dedup.per_input import PerInput, as_input
from dask_dedup.errors import InputError
from dask_dedup.formats import micrographs_of_job, open_table, read
from dask_dedup.formatting import number_range
from dask_dedup.hints import parameter
from dask_dedup.particles.column_names import RELION
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.pixel_sizes import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import JobMicrographs, ParticleTable

_COLUMN = "rlnMicrographPixelSize"


class JobPixelSizes(NamedTuple):
    """Parameters completed with the pixel sizes of RELION jobs, and the source job of each input."""

    params: DedupParams
    sources: dict[str, JobMicrographs]


def pixel_sizes_of_jobs(
    tables: Sequence[ParticleTable], params: DedupParams, exposures: ParticleTable | None
) -> JobPixelSizes:
    """Find the pixel sizes of pick files in RELION job folders, for inputs without a pixel size.

    A micrograph table, a column or a parameter has priority. The result becomes the parameter
    `micrograph_pixel_size` of the input, so it is in the run id and in the manifest. If the user passed this
    parameter, it is compared with the micrographs of the job.

    Raises
    ------
    InputError
        If the micrographs of a job cannot be read, have several pixel sizes, or contradict the parameter.
    """
    if exposures is not None or not params.measures:
        return JobPixelSizes(params, {})
    found: dict[str, float] = {}
    sources: dict[str, JobMicrographs] = {}
    for table in tables:
        overridden = params.for_input("coordinate_pixel_size", table.path) is not None
        if overridden or not set(RELION.psize_mic).isdisjoint(table.schema.names):
            continue
        named = micrographs_of_job(table)
        if named is None:
            continue
        given = params.for_input("micrograph_pixel_size", table.path)
        if given is not None:
            _check_option(given, table, named)
            continue
        try:
            sizes = _read_sizes(named.path)
        except InputError as error:
            raise InputError(
                f"{table.path}: cannot read the micrographs of its job: {error.raw.removesuffix('.')}. "
                f"Pass {parameter('micrographs')} or {parameter('micrograph_pixel_size')}."
            ) from error
        if not sizes.size:
            continue
        if sizes.size > 1:
            raise InputError(
                f"{table.path}: the micrographs of its job have pixel sizes from {sizes[0]:g} to "
                f"{sizes[-1]:g} A ({named.path}). Pass {parameter('micrographs', named.path)}."
            )
        found[as_input(table.path)] = float(sizes[0])
        sources[table.path] = named
    if not found:
        return JobPixelSizes(params, {})
    stored = cast("PerInput[float]", params.micrograph_pixel_size)
    sizes_of = PerInput([*stored, *found.items()])
    return JobPixelSizes(replace(params, micrograph_pixel_size=sizes_of), sources)


def _check_option(given: float, table: ParticleTable, named: JobMicrographs) -> None:
    """Raise InputError if the parameter `micrograph_pixel_size` of an input contradicts the micrographs of its job."""
    sizes = np.empty(0)
    with suppress(InputError):  # the parameter replaces sizes that cannot be read
        sizes = _read_sizes(named.path)
    if sizes.size and (np.abs(sizes / given - 1) > TOLERANCE).all():
        raise InputError(
            f"{table.path}: {parameter('micrograph_pixel_size', f'{given:g}')} contradicts the micrographs of its job, "
            f"which have {number_range(sizes[0], sizes[-1])} A ({named}). Leave it out for this input, or pass "
            f"{parameter('coordinate_pixel_size')}, which overrides the table."
        )


def _read_sizes(path: str) -> NDArray[np.float64]:
    """Return the distinct pixel sizes in a table of micrographs, sorted."""
    table = open_table(path)
    if _COLUMN not in table.schema.names:
        return np.empty(0)
    parts = [
        Columns(read(table, fragment, [_COLUMN]), path).floats(_COLUMN)
        for fragment in table.fragments
    ]
    sizes: NDArray[np.float64] = np.unique(np.concatenate([np.empty(0), *parts]))
    return np.asarray(sizes[np.isfinite(sizes)])
