"""Optimisation sets of RELION tomography: a STAR file that names the particles, the tomograms and other files.

The particles are read and written as a STAR table. Kept and rejected particles get a new set each, with the other
entries of the input's set. RELION writes paths from the project folder, and WarpTools from the set's own folder.
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
#: A label with its value; labels of a loop have a number or nothing.
_ITEM = re.compile(rb"^[ \t]*_(rlnTomo\w+File)[ \t]+([^\s#]\S*)", re.MULTILINE)
_FILES = re.compile(r"rlnTomo\w+File")
_VALUE = re.compile(rb"\S+")


@dataclass(frozen=True, slots=True)
class SetDetail:
    """The particles of a set and the paths in it.

    Attributes
    ----------
    particles : ParticleTable
    entries : tuple of (str, int, int)
        Label, first byte and byte after the last one of each path.
    folder : str
        The folder that paths are relative to.
    """

    particles: ParticleTable
    entries: tuple[tuple[str, int, int], ...]
    folder: str


def is_set(head: bytes) -> bool:
    """Return whether a STAR file that begins with `head` is an optimisation set."""
    return re.search(rb"^[ \t]*_%s\b" % PARTICLES.encode(), head, re.MULTILINE) is not None


def open_table(path: Path, source: int) -> ParticleTable:
    """Open the particles that a set names."""
    text, info = read_whole(path)
    entries = _find_entries(text)
    span = next(((start, stop) for label, start, stop in entries if label == PARTICLES), None)
    target = _unquoted(text[slice(*span)]) if span else ""
    if not target:
        raise InputError(
            f"{path}: names no particles ({PARTICLES}). Pass the particles themselves."
        )
    folders = [path.absolute().parent, *path.absolute().parents, Path.cwd()]
    folder = next((each for each in folders if is_file(each / target)), None)
    if folder is None and is_file(folders[0] / Path(target).name):  # moved with its particles
        folder, target = folders[0], Path(target).name
    if folder is None:
        raise InputError(
            f"{path}: names the particles {target}, which do not exist. The path is relative to the project folder "
            "or to that of the set. Put the file there, or pass the particles themselves."
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
    """Return the label and the byte range of each path in a set, whether it is a loop or a list of items."""
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
    """Return the table of the particles, with the columns of `table`."""
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
    """Write the particles under their own name."""
    particles = _particles(table)
    return star.assemble(particles, parts, rows, folder, Path(particles.path).name)


def write_lists(table: ParticleTable, folder: Path, name: str, final: Path) -> list[OutputFile]:
    """Write the set that names the new particles, which will be in the folder `final`.

    Paths are relative to the project folder if they were and it contains `final`, else absolute.
    """
    detail: SetDetail = table.detail
    # The set itself: the path of the table may be relative to another folder.
    own, home = at(table.files[-1].path), final.absolute()
    text = read_bytes(own)
    project = Path(detail.folder)
    relative = home.is_relative_to(project) and project != own.absolute().parent
    edits = []
    for label, start, stop in detail.entries:
        target = _unquoted(text[start:stop])
        if label == PARTICLES:
            target = str(home / Path(detail.particles.path).name)
        if target:
            path = project / target
            new = path.relative_to(project) if relative and path.is_relative_to(project) else path
            edits.append((start, stop, new.as_posix().encode()))
    return [write_blocks(folder, name, 0, [with_edits(text, edits)])]
