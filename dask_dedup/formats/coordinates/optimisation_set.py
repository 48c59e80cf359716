"""Optimisation sets of RELION tomography: a STAR file with the paths of particles, tomograms and other files.

The particles are read and written as a STAR table. For kept and for rejected particles, a new set is written. All
other entries are copied from the set of the input. In sets of RELION, paths are relative to the project folder. In
sets of WarpTools, paths are relative to the folder of the set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import OutputFile, ParticleTable, read_whole, with_edits, write_blocks
from dask_dedup.formats.coordinates.lines import first_row, star_loops
from dask_dedup.formats.star import table as star
from dask_dedup.storage.files import is_file, read_bytes
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.formats.base import Fragment

PARTICLES = "rlnTomoParticlesFile"
#: A label with a value. Labels of a loop have a number or no value.
_ITEM = re.compile(rb"^[ \t]*_(rlnTomo\w+File)[ \t]+([^\s#]\S*)", re.MULTILINE)
_FILES = re.compile(r"rlnTomo\w+File")
_VALUE = re.compile(rb"\S+")


@dataclass(frozen=True, slots=True)
class SetDetail:
    """The particle table of a set, and the paths in the set.

    Attributes
    ----------
    particles : ParticleTable
    entries : tuple of (str, int, int)
        Label, start byte and stop byte of each path.
    folder : str
        Folder to which the paths are relative.
    """

    particles: ParticleTable
    entries: tuple[tuple[str, int, int], ...]
    folder: str


def is_set(head: bytes) -> bool:
    """Return whether a STAR file that begins with `head` is an optimisation set."""
    return re.search(rb"^[ \t]*_%s\b" % PARTICLES.encode(), head, re.MULTILINE) is not None


def open_table(path: Path, source: int) -> ParticleTable:
    """Open the particle table of a set."""
    text, info = read_whole(path)
    entries = _find_entries(text)
    span = next(((start, stop) for label, start, stop in entries if label == PARTICLES), None)
    target = _unquoted(text[slice(*span)]) if span else ""
    if not target:
        raise InputError(
            f"{path}: has no path of particles ({PARTICLES}). Pass the particle file instead."
        )
    folders = [path.absolute().parent, *path.absolute().parents, Path.cwd()]
    folder = next((each for each in folders if is_file(each / target)), None)
    if folder is None and is_file(folders[0] / Path(target).name):  # the set was moved
        folder, target = folders[0], Path(target).name
    if folder is None:
        raise InputError(
            f"{path}: the particle file {target} does not exist. Its path is relative to the project folder or to the "
            "folder of the set. Put the file there, or pass the particle file instead."
        )
    particles = star.open_table(folder / target, source)
    return replace(
        particles,
        format="optimisation_set",
        path=str(path),
        files=(*particles.files, info),
        detail=SetDetail(particles, tuple(entries), str(folder)),
    )


def _find_entries(text: bytes) -> list[tuple[str, int, int]]:
    """Return the label and the byte range of each path in a set. A set can be a loop or a list of labels."""
    entries = [(item[1].decode(), item.start(2), item.end(2)) for item in _ITEM.finditer(text)]
    entries = [each for each in entries if not text[each[1] :].startswith(b"#")]
    for _, labels, start in star_loops(text):
        row = first_row(text, start)
        offset = text.index(row, start) if row else start
        values = [(offset + value.start(), offset + value.end()) for value in _VALUE.finditer(row)]
        if PARTICLES in labels and len(values) == len(labels):
            pairs = zip(labels, values, strict=True)
            entries += [(label, *span) for label, span in pairs if _FILES.fullmatch(label)]
    return sorted(entries, key=lambda entry: entry[1])


def _unquoted(value: bytes) -> str:
    return value.decode(errors="replace").strip("'\"")


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a fragment of the particles."""
    return star.read(_particles(table), fragment, columns)


def read_text(
    table: ParticleTable, fragment: Fragment, labels: Sequence[str]
) -> dict[str, pa.Array]:
    """Read columns of a fragment as the text in the file."""
    return star.read_text(_particles(table), fragment, labels)


def _particles(table: ParticleTable) -> ParticleTable:
    """Return the particle table of a set, with the columns of `table`."""
    detail: SetDetail = table.detail
    return replace(detail.particles, stored_schema=table.stored_schema)


def split(
    table: ParticleTable, fragment: Fragment, keep: NDArray[np.bool_], kept: Path, rejected: Path
) -> None:
    """Write the lines of kept and rejected particles to two part files."""
    star.split(_particles(table), fragment, keep, kept, rejected)


def assemble(
    table: ParticleTable,
    parts: Sequence[Path],
    rows: int,
    folder: Path,
    name: str,  # noqa: ARG001
) -> list[OutputFile]:
    """Write the particles to a file with the name of the input's particle file."""
    particles = _particles(table)
    return star.assemble(particles, parts, rows, folder, Path(particles.path).name)


def write_lists(table: ParticleTable, folder: Path, name: str, final: Path) -> list[OutputFile]:
    """Write a set for the new particle file. After the run, both files are in the folder `final`.

    The new paths are relative to the project folder if the old paths were, and if the project folder contains
    `final`. Else the new paths are absolute.
    """
    detail: SetDetail = table.detail
    # `table.path` may be relative to another working folder.
    old_set, output_folder = at(table.files[-1].path), final.absolute()
    text = read_bytes(old_set)
    project = Path(detail.folder)
    relative = output_folder.is_relative_to(project) and project != old_set.absolute().parent
    edits = []
    for label, start, stop in detail.entries:
        target = _unquoted(text[start:stop])
        if label == PARTICLES:
            target = str(output_folder / Path(detail.particles.path).name)
        if target:
            path = project / target
            new = path.relative_to(project) if relative and path.is_relative_to(project) else path
            edits.append((start, stop, new.as_posix().encode()))
    return [write_blocks(folder, name, 0, [with_edits(text, edits)])]
