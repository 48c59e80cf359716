"""RELION's STAR files, version 3.0 to 5: rows stay as they are written, to the byte.

A row is known by its line. Kept and rejected files have the lines of the input unchanged and in its order, and
around them everything else the input has: comments, optics groups and all other tables. Blank lines and comments
between two rows go where the row before them goes.

The columns are the table's labels without the leading underscore. After them come columns that the rows
themselves do not have:

- ``rlnMicrographPixelSize``, ``rlnImagePixelSize``, ``rlnTomoTiltSeriesPixelSize`` and
  ``rlnMicrographOriginalPixelSize`` of each row's optics group (RELION 3.1 and later);
- the pixel size ``1e4 * rlnDetectorPixelSize / rlnMagnification`` (RELION 3.0 and before): of the particle image,
  ``rlnImagePixelSize``; in a table of micrographs, of the micrograph, ``rlnMicrographPixelSize``;
- ``rlnMicrographName`` in a file of coordinates that names no micrograph, tomogram or image. RELION's pickers
  write such a file for each micrograph: ``mic1_autopick.star`` is of ``mic1.mrc``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.errors import InputError, RunError
from dask_dedup.formats.star_blocks import BLOCK_BYTES, Layout, Loop, find_rows, survey, whole_lines
from dask_dedup.formats.star_values import (
    Place,
    is_number,
    is_whole,
    parse_columns,
    tokens_by_column,
)
from dask_dedup.formats.table import (
    Fragment,
    InputFile,
    ParticleTable,
    Piece,
    StoredSchema,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

#: The particle table is the first of these blocks that there is.
_BLOCKS = ("particles", "images", "micrographs", "tomograms", "", "global")
#: Blocks that never hold the particles.
_OTHER_BLOCKS = re.compile(r"optics|general|job.*|pipeline.*|model.*|sampling.*|optimiser.*")
#: The first rows tell the types of columns that are not known by their labels.
_SAMPLE_BYTES = 2**16

_WHOLE = frozenset(
    f"rln{name}"
    for name in (
        "BeamTiltClass",
        "ClassNumber",
        "CtfDataAreCtfPremultiplied",
        "FrameNumber",
        "GroupNumber",
        "HelicalTubeID",
        "ImageSize",
        "ImageDimensionality",
        "NrOfFrames",
        "NrOfSignificantSamples",
        "OpticsGroup",
        "ParticleNumber",
        "RandomSubset",
        "TomoParticleId",
    )
)
_TEXT = re.compile(r".*(Name|File|Path|Image|Metadata|Spectrum|Tomogram|Comment)")
_REAL = re.compile(
    r"rln((Centered)?Coordinate[XYZ](Angst)?|Origin[XYZ](Angst)?|(Angle|TomoSubtomogram)(Rot|Tilt|Psi)"
    r"|.*PixelSize|Magnification|.*FigureOfMerit|LCCmax|LogLikeliContribution"
    r"|MaxValueProbDistribution|ParticleSelectZScore)"
)
_GROUP = "rlnOpticsGroup"
_OF_GROUP = (
    "rlnMicrographPixelSize",
    "rlnImagePixelSize",
    "rlnTomoTiltSeriesPixelSize",
    "rlnMicrographOriginalPixelSize",
)
_DETECTOR, _MAGNIFICATION = "rlnDetectorPixelSize", "rlnMagnification"
_POSITIONS = ("rlnCoordinateX", "rlnCenteredCoordinateXAngst")
_NAMES = ("rlnMicrographName", "rlnTomoName", "rlnImageName")
_PICKER_SUFFIX = re.compile(r"_(autopick|manualpick|topazpicks?)$")


@dataclass(frozen=True, slots=True)
class StarDetail:
    """What reading and writing the rows takes.

    Attributes
    ----------
    labels : tuple of str
        Of the rows' values, in their order.
    start, stop : int
        Bytes of the rows in the file.
    groups : tuple of int
        The optics groups, rising.
    of_group : dict of str to tuple of float
        Columns of the optics table that the rows lack, a value a group.
    ratio : str or None
        Name of the pixel size computed from detector pixel size and magnification.
    micrograph : str or None
        The micrograph, if only the file's name tells it.
    """

    labels: tuple[str, ...]
    start: int
    stop: int
    groups: tuple[int, ...]
    of_group: dict[str, tuple[float, ...]]
    ratio: str | None
    micrograph: str | None


def open_table(path: Path, source: int) -> ParticleTable:
    """Find the particle table of a file, its columns and the optics groups, and cut it into fragments.

    The file is read once from end to end; its fingerprint covers every byte.

    Raises
    ------
    InputError
        If it is not a STAR file, or it is not plain which of its tables holds the particles.
    """
    try:
        status = path.stat()
        layout = survey(path)
        loop = _particles(path, layout)
        sample = _sample(path, loop)
        detail = _detail(path, layout, loop)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    fragments, first_row = [], 0
    for number, stretch in enumerate(loop.stretches):
        piece = Piece(str(path), first_row, stretch.rows, (stretch.start, stretch.stop))
        fragments.append(Fragment(number, source, first_row, stretch.rows, (piece,)))
        first_row += stretch.rows
    file = InputFile(str(path), status.st_size, status.st_mtime_ns, loop.rows, layout.fingerprint)
    return ParticleTable(
        format="star",
        path=str(path),
        source=source,
        stored_schema=StoredSchema.of(_schema(sample, detail)),
        files=(file,),
        fragments=tuple(fragments) or (Fragment(0, source, 0, 0, ()),),
        detail=detail,
    )


def _particles(path: Path, layout: Layout) -> Loop:
    """Choose the table of the particles (or of the micrographs, or tomograms)."""
    loops = [loop for loop in layout.loops if not _OTHER_BLOCKS.fullmatch(loop.block.lower())]
    named = next((name for name in _BLOCKS if any(loop.block == name for loop in loops)), None)
    if named is not None:
        loops = [loop for loop in loops if loop.block == named]
    if len(loops) == 1:
        names = loops[0].labels
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{path}: the label _{twice} occurs more than once")
        return loops[0]
    tables = [f"data_{loop.block} ({loop.rows} rows)" for loop in layout.loops]
    alone = dict.fromkeys(f"data_{item.block} (no loop)" for item in layout.items)
    found = ", ".join([*tables, *alone]) or "nothing"
    problem = "more than one table could be the particles'" if loops else "no table of particles"
    raise InputError(f"{path}: {problem}; name it data_particles (found {found})")


def _sample(path: Path, loop: Loop) -> Mapping[str, list[bytes]]:
    """Give the first rows' values."""
    if not loop.rows:
        return {label: [] for label in loop.labels}
    place = Place(path, loop.start, loop.stop, 0, loop.rows)
    with path.open("rb") as file:
        file.seek(loop.start)
        block = file.read(min(_SAMPLE_BYTES, loop.stretches[0].stop - loop.start))
        block += b"" if block.endswith(b"\n") else file.readline().rstrip(b"\r\n") + b"\n"
    return tokens_by_column(block, loop.labels, place)


def _schema(sample: Mapping[str, list[bytes]], detail: StarDetail) -> pa.Schema:
    fields = {name: _kind(name, values) for name, values in sample.items()}
    fields |= dict.fromkeys(detail.of_group, pa.float64())
    if detail.ratio:
        fields[detail.ratio] = pa.float64()
    if detail.micrograph:
        fields["rlnMicrographName"] = pa.string()
    return pa.schema(list(fields.items()))


def _kind(label: str, values: list[bytes]) -> pa.DataType:
    """Tell a column's type from its label and first values; 001 in a column of names stays text."""
    if _REAL.fullmatch(label):
        return pa.float64()
    if _TEXT.fullmatch(label) or not all(map(is_number, values)):
        return pa.string()
    return pa.int64() if label in _WHOLE and all(map(is_whole, values)) else pa.float64()


def _detail(path: Path, layout: Layout, loop: Loop) -> StarDetail:
    labels = set(loop.labels)
    groups, of_group = _optics(path, layout, labels) if _GROUP in labels else ((), {})
    ratio = micrograph = None
    if {_DETECTOR, _MAGNIFICATION} <= labels:
        of_micrographs = "rlnMicrographName" in labels and not labels & {*_POSITIONS, _NAMES[2]}
        ratio = "rlnMicrographPixelSize" if of_micrographs else "rlnImagePixelSize"
        if ratio in labels or ratio in of_group:
            ratio = None
    if labels & set(_POSITIONS) and not labels & set(_NAMES):
        micrograph = _PICKER_SUFFIX.sub("", path.stem) + ".mrc"
    return StarDetail(loop.labels, loop.start, loop.stop, groups, of_group, ratio, micrograph)


def _optics(
    path: Path, layout: Layout, labels: set[str]
) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
    """Give the optics groups, rising, and the pixel sizes that the rows themselves lack."""
    table: dict[str, list[bytes]] = {}
    for loop in layout.loops:
        if loop.block == "optics" and loop.rows:
            place = Place(path, loop.start, loop.stop, 0, loop.rows)
            with path.open("rb") as file:
                file.seek(loop.start)
                block = b"".join(whole_lines(file, loop.stop - loop.start))
            table = {**tokens_by_column(block, loop.labels, place), **table}
    for item in layout.items:
        if item.block == "optics":
            table.setdefault(item.label, [item.value.strip(b"'\"")])
    names = [name for name in _OF_GROUP if name in table and name not in labels]
    if not names or _GROUP not in table:
        return (), {}
    for name in (_GROUP, *names):
        bad = next((token for token in table[name] if not is_number(token)), None)
        if bad is not None:
            shown = bad.decode(errors="replace")
            raise InputError(f"{path}: data_optics has {shown!r} for {name}, not a number")
    rows: dict[float, tuple[float, ...]] = {}
    for group, *values in zip(*(table[name] for name in (_GROUP, *names)), strict=True):
        row = tuple(map(float, values))
        if rows.setdefault(float(group), row) != row:
            raise InputError(
                f"{path}: data_optics lists the group {group.decode()} twice, differently"
            )
    order = sorted(rows)
    sizes = zip(*(rows[group] for group in order), strict=True)
    return tuple(int(group) for group in order), dict(zip(names, sizes, strict=True))


def read(table: ParticleTable, fragment: Fragment, columns: Sequence[str]) -> pa.Table:
    """Parse columns of a fragment, and compute those that are not written; text comes as dictionaries."""
    detail: StarDetail = table.detail
    schema = table.schema
    needed = {name: schema.field(name).type for name in columns if name in detail.labels}
    if detail.of_group.keys() & set(columns):
        needed[_GROUP] = pa.int64()
    if detail.ratio in columns:
        needed |= dict.fromkeys((_DETECTOR, _MAGNIFICATION), pa.float64())
    place = Place(_unchanged(table), *_range(fragment), fragment.first_row, fragment.rows)
    parsed = parse_columns(place, detail.labels, needed)
    result = {}
    for name in columns:
        if name in detail.labels:
            result[name] = parsed[name]
        elif name in detail.of_group:
            position = _position_of_group(parsed[_GROUP], detail, place)
            result[name] = pa.array(np.array(detail.of_group[name])[position])
        elif name == detail.ratio:
            with np.errstate(divide="ignore", invalid="ignore"):
                size = 1e4 * parsed[_DETECTOR].to_numpy() / parsed[_MAGNIFICATION].to_numpy()
            result[name] = pa.array(size)
        else:
            zeros = pa.array(np.zeros(fragment.rows, dtype=np.int32))
            result[name] = pa.DictionaryArray.from_arrays(zeros, [detail.micrograph])
    return pa.table(result)


def _range(fragment: Fragment) -> tuple[int, int]:
    """Give the bytes of a fragment's rows."""
    if not fragment.pieces:
        return 0, 0
    start, stop = fragment.pieces[0].blocks
    return start, stop


def _unchanged(table: ParticleTable) -> Path:
    """Give a table's file, if it still has the size it had when it was opened."""
    path = Path(table.path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    if size != table.bytes:
        raise RunError(f"{path}: the file has changed meanwhile; run again")
    return path


def _position_of_group(groups: pa.Array, detail: StarDetail, place: Place) -> NDArray[np.intp]:
    """Give the place of each row's optics group among the known ones."""
    known, group = np.array(detail.groups), groups.to_numpy()
    position = np.searchsorted(known, group).clip(max=known.size - 1)
    missing = known[position] != group
    if missing.any():
        row = int(missing.argmax())
        listed = ", ".join(map(str, detail.groups))
        raise place.error(
            row, f"is of optics group {group[row]}, which data_optics lacks (it has {listed})"
        )
    return position


@dataclass(frozen=True, slots=True)
class StarPayload:
    """A fragment's lines, which stay in the file: reading them again costs less than holding them.

    Attributes
    ----------
    table : ParticleTable
    fragment : Fragment
    """

    table: ParticleTable
    fragment: Fragment

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Parse columns; text comes as dictionaries."""
        return read(self.table, self.fragment, names)

    def split(self, keep: NDArray[np.bool_], kept: Path, rejected: Path) -> None:
        """Write the lines of the kept and of the rejected rows."""
        row, path = 0, _unchanged(self.table)
        start, stop = at, _ = _range(self.fragment)
        with path.open("rb") as file, kept.open("wb") as good, rejected.open("wb") as bad:
            file.seek(start)
            for block in whole_lines(file, stop - start):
                starts, _ = find_rows(block, path, at)
                chosen = keep[row : row + starts.size]
                if chosen.size < starts.size:
                    break
                # What stands before the block's first row belongs to the row before it.
                chosen = np.append(keep[row - 1] if row else True, chosen)
                edges = np.concatenate([[0], starts, [min(len(block), stop - at)]])
                lines = pa.Array.from_buffers(
                    pa.binary(),
                    chosen.size,
                    [None, pa.py_buffer(edges.astype(np.int32)), pa.py_buffer(block)],
                )
                for out, mask in ((good, chosen), (bad, ~chosen)):
                    out.write(lines.filter(pa.array(mask)).buffers()[2] or b"")
                row += starts.size
                at += len(block)
        if row != keep.size:
            raise RunError(f"{self.fragment}: the rows are not those of the start; run again")


def load(table: ParticleTable, fragment: Fragment) -> StarPayload:
    """Give access to a fragment whole."""
    return StarPayload(table, fragment)


def assemble(
    table: ParticleTable, pieces: Sequence[Path], rows: int, folder: Path, name: str
) -> list[Written]:
    """Join pieces, in order, between what stands before and after the rows in the input.

    May be called again after a crash at any point of it: the file appears whole, by rename, and only then the
    pieces are removed.
    """
    detail: StarDetail = table.detail
    target, draft = folder / name, folder / f"{name}.draft"
    if target.exists() and not any(piece.exists() for piece in pieces):
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return [Written(name, rows, target.stat().st_size, digest.hexdigest())]
    digest, size = hashlib.sha256(), 0
    with _unchanged(table).open("rb") as original, draft.open("wb", buffering=0) as out:
        for block in _whole(original, detail, pieces, table.bytes):
            digest.update(block)
            size += len(block)
            out.write(block)
    draft.rename(target)
    for piece in pieces:
        piece.unlink()
    return [Written(name, rows, size, digest.hexdigest())]


def _whole(
    original: BinaryIO, detail: StarDetail, pieces: Sequence[Path], size: int
) -> Iterator[memoryview]:
    """Give what stands before the rows, the pieces, and what stands after the rows."""
    yield from _blocks(original, detail.start)
    for piece in pieces:
        with piece.open("rb", buffering=0) as part:
            yield from _blocks(part, piece.stat().st_size)
    original.seek(detail.stop)
    yield from _blocks(original, size - detail.stop)


def _blocks(file: BinaryIO, length: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    while length > 0:
        count = file.readinto(buffer[: min(length, BLOCK_BYTES)])
        if not count:
            raise RunError(f"{file.name}: has become shorter meanwhile; run again")
        yield buffer[:count]
        length -= count
