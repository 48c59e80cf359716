"""The datasets of a finished run, opened again: what was kept and what was rejected, as picks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import DedupError
from dask_dedup.formats import open_table, read
from dask_dedup.output.local import read_manifest
from dask_dedup.particles.conventions import (
    ColumnRoles,
    compare_roles,
    needs_pixel_size,
    resolve_roles,
)
from dask_dedup.particles.extract import Extract, extract
from dask_dedup.particles.invalid import Reason
from dask_dedup.particles.micrographs import MicrographTable, read_micrographs
from dask_dedup.pipeline.stages import DUPLICATES, KEPT, REJECTED
from dask_dedup.storage.paths import at, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats import ParticleTable

#: Where CryoSPARC keeps the file name of a micrograph that goes by its uid.
PATH_COLUMN = "location/micrograph_path"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one input that were written together.

    Attributes
    ----------
    source : int
        Ordinal of the input.
    kept, rejected : Path
    duplicates : tuple of Path
        A row for each rejected one, in the same order.
    """

    source: int
    kept: Path
    rejected: Path
    duplicates: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run.

    Attributes
    ----------
    place : Path
    manifest : dict
    params : DedupParams
    roles : tuple of Roles
        One an input.
    micrographs : MicrographTable or None
    parts : tuple of Part
    """

    place: Path
    manifest: dict[str, Any]
    params: DedupParams
    roles: tuple[ColumnRoles, ...]
    micrographs: MicrographTable | None
    parts: tuple[Part, ...]

    @property
    def unmeasurable(self) -> str:
        """Why no distances can be measured; empty if they can."""
        for entry, roles in zip(self.manifest["inputs"], self.roles, strict=True):
            sources = (roles.psize_mic, self.params.micrograph_pixel_size, self.micrographs)
            if needs_pixel_size(roles, self.params) and all(found is None for found in sources):
                return (
                    f"the micrograph table {self.manifest['micrographs']}, which gave "
                    f"{entry['path']} its pixel sizes, is not there any more"
                )
        return ""

    def compared(self, found: Extract) -> NDArray[np.bool_]:
        """Tell which rows the run compared."""
        reasons = ~Reason(0)
        if self.micrographs is None and self.manifest["micrographs"]:
            # The table that gave sizes and shapes is gone: what it lacked cannot be told any more.
            reasons &= ~(Reason.PIXEL_SIZE | Reason.SHAPE | Reason.TOO_FAR)
        return np.asarray((found.picks.invalid & np.uint16(reasons)) == 0)

    def extracts(
        self, part: Part, path: Path, further: Sequence[str] = ()
    ) -> Iterator[tuple[Extract, pa.Table]]:
        """Read what matters of the kept or rejected rows of a part, some rows at a time.

        Parameters
        ----------
        part : Part
        path : Path
            `Part.kept` or `Part.rejected`.
        further : sequence of str
            Columns to read besides; those that are not there are left out.

        Yields
        ------
        found : Extract
        rows : pyarrow.Table
        """
        roles = self.roles[part.source]
        table = open_table(path, part.source, allow_outside=True)
        names = (*roles.columns, *(name for name in further if name in table.schema.names))
        for fragment in table.fragments:
            rows = read(table, fragment, tuple(dict.fromkeys(names)))
            yield extract(rows, fragment, roles, self.params, self.micrographs), rows


def open_result(output: str | Path) -> Result:
    """Open the result of a finished run; the inputs are not needed.

    Raises
    ------
    InputError
        If there is no finished run.
    """
    place = at(output)
    manifest = read_manifest(place)
    params = DedupParams.from_dict(manifest["parameters"])
    inputs = [(entry["path"], entry["column_names"]) for entry in manifest["inputs"]]
    roles = [resolve_roles(names, params, path) for path, names in inputs]
    roles = compare_roles(roles, inputs, params)
    exposures = _open_micrographs(manifest)
    return Result(
        place=place,
        manifest=manifest,
        params=params,
        roles=tuple(roles),
        micrographs=read_micrographs(exposures, match=roles[0].match) if exposures else None,
        parts=tuple(_parts(place, manifest)),
    )


def _open_micrographs(manifest: dict[str, Any]) -> ParticleTable | None:
    if not manifest["micrographs"]:
        return None
    try:
        given = at(manifest["micrographs"])
        path = given if is_remote(given) else Path(manifest["directory"], given)
        return open_table(path, allow_outside=True)
    except (DedupError, OSError):
        # Only the figures that need it are left out, and say so.
        return None


def _parts(place: Path, manifest: dict[str, Any]) -> Iterator[Part]:
    """Pair the files of the three datasets."""
    files: dict[str, dict[int, dict[str, Any]]] = {KEPT: {}, REJECTED: {}, DUPLICATES: {}}
    native: dict[str, dict[int, Path]] = {KEPT: {}, REJECTED: {}}
    for entry in manifest["outputs"]:
        folder = entry["path"].split("/", 1)[0]
        if "fragment" in entry:
            files[folder][entry["fragment"]] = entry
        elif Path(entry["path"]).suffix == Path(manifest["inputs"][entry["input"]]["path"]).suffix:
            native[folder].setdefault(entry["input"], place / entry["path"])
    for number, entry in files[KEPT].items():
        rejected, told = (place / files[name][number]["path"] for name in (REJECTED, DUPLICATES))
        yield Part(entry["input"], place / entry["path"], rejected, (told,))
    for source, path in native[KEPT].items():
        mine = sorted(
            number for number, entry in files[DUPLICATES].items() if entry["input"] == source
        )
        told_of = tuple(place / files[DUPLICATES][number]["path"] for number in mine)
        yield Part(source, path, native[REJECTED][source], told_of)
