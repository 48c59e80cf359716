"""Coordinate files of RELION, one per micrograph, and the lists that RELION's Extract reads.

As in RELION's coordinate files, the table has no name, and there are no optics groups. Extract reads only the first
table of a file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.arrow import from_numpy
from dask_dedup.conversion.micrographs import (
    EXTENSION,
    SCORE_OF_CRYOSPARC,
    MicrographNames,
    check_kept_rows,
    check_positions,
    find_names,
    micrograph_pixel_sizes,
    name_warnings,
    scanned_pixel_sizes,
)
from dask_dedup.conversion.text import (
    NO_CLASS,
    NO_VALUE,
    as_text,
    choose_text,
    constant,
    header,
    join_lines,
    quote,
    to_bytes,
)
from dask_dedup.errors import InputError
from dask_dedup.formats import by_source, read, read_text
from dask_dedup.formats.base import read_index, write_blocks, write_index
from dask_dedup.formats.coordinates.column_map import COORDINATES, MICROGRAPH, SCORE
from dask_dedup.formats.coordinates.relion_job import JOB_FOLDER
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.storage.files import exists, read_bytes
from dask_dedup.storage.paths import at, is_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, OutputFile, ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

X, Y = COORDINATES[:2]
CLASS, PSI = "rlnClassNumber", "rlnAnglePsi"
LABELS = (X, Y, SCORE, CLASS, PSI)
#: Names of the lists: for RELION 4 and later, and for RELION 3.1.
LIST, SUFFIX_LIST = "autopick.star", "coords_suffix_autopick.star"
LIST_LABELS = (MICROGRAPH, "rlnMicrographCoordinates")
_SUFFIX = "_autopick.star"
#: A project folder of RELION has one of these two files. A job folder has a copy of the first file, and `_JOB_FILE`.
_PROJECT_FILES, _JOB_FILE = ("default_pipeline.star", ".gui_projectdir"), "job.star"
#: Rounded pixel sizes of the same micrograph may differ by this fraction.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class CoordinatesConversion:
    """Conversion to coordinate files.

    Attributes
    ----------
    names : MicrographNames
    files : tuple of str
        For each micrograph in `names`, the path of its coordinate file in the output folder.
    micrographs : str
        Path of the STAR file with the micrographs, for the list of RELION 3.1. Empty without such a file.
    """

    names: MicrographNames
    files: tuple[str, ...]
    micrographs: str = ""

    def split(
        self,
        inputs: Inputs,
        fragment: Fragment,
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Write the lines of a fragment, ordered by micrograph.

        Next to a part file, an ``.index`` file has the micrograph, bytes and rows of each group of lines.
        """
        table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
        rows = read(table, fragment, roles.columns)
        found = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
        lines = join_lines(_columns(inputs, table, fragment, found, roles))
        number = self.names.numbers(found.picks.micrograph)
        for path, mask in ((kept, keep), (rejected, ~keep)):
            chosen = np.flatnonzero(mask & (number >= 0))
            order = chosen[np.argsort(number[chosen], kind="stable")]
            distinct, start = np.unique(number[order], return_index=True)
            index = []
            with path.open("wb") as file:
                groups = np.split(order, start[1:])  # without rows: one empty group
                for micrograph, group in zip(distinct.tolist(), groups, strict=False):
                    text = to_bytes(lines.take(from_numpy(group)))
                    file.write(text)
                    index.append((micrograph, len(text), group.size))
            write_index(path, index)

    def assemble(self, parts: Sequence[Path], folder: Path, final: Path) -> list[OutputFile]:
        """Write the coordinate files of all micrographs with rows, and the lists."""
        pieces: dict[int, list[tuple[Path, int, int, int]]] = {}
        for part in parts:
            offset = 0
            for micrograph, length, rows in read_index(part, 3):
                piece = (part, offset, offset + length, rows)
                pieces.setdefault(micrograph, []).append(piece)
                offset += length
        content: dict[Path, bytes] = {}
        written = []
        folder.mkdir(parents=True, exist_ok=True)
        numbers = sorted(pieces, key=lambda number: self.files[number])
        for number in numbers:
            (folder / self.files[number]).parent.mkdir(parents=True, exist_ok=True)
            blocks = [header("", LABELS)]
            rows = 0
            for part, start, stop, count in pieces[number]:
                if part not in content:
                    content[part] = read_bytes(part)
                blocks.append(content[part][start:stop])
                rows += count
            written.append(write_blocks(folder, self.files[number], rows, [*blocks, b"\n"]))
        return [*written, *self._write_lists(numbers, folder, final)]

    def _write_lists(self, numbers: Sequence[int], folder: Path, final: Path) -> list[OutputFile]:
        names = [self.names.names[number] for number in numbers]
        project = find_project(final, names)
        output_folder = final if is_uri(str(final)) else final.absolute()
        base = output_folder.relative_to(project).as_posix() if project else str(output_folder)
        paths = [f"{base}/{self.files[number]}" for number in numbers]
        lines = [
            f"{name} {path}\n" for name, path in zip(_quoted(names), _quoted(paths), strict=True)
        ]
        text = header("coordinate_files", LIST_LABELS) + "".join(lines).encode() + b"\n"
        files = [write_blocks(folder, LIST, 0, [text])]
        if self.micrographs:
            table = at(self.micrographs)
            table = table if is_uri(str(table)) else table.absolute()
            inside = project is not None and table.is_relative_to(project)
            shown = table.relative_to(project) if project and inside else table
            files.append(write_blocks(folder, SUFFIX_LIST, 0, [f"{shown}\n".encode()]))
        return files


def _quoted(texts: Sequence[str]) -> list[str]:
    quoted: list[str] = quote(pa.array(list(texts), pa.string())).to_pylist()
    return quoted


def _columns(
    inputs: Inputs, table: ParticleTable, fragment: Fragment, found: Extract, roles: ColumnRoles
) -> list[pa.Array]:
    """Return the columns `LABELS` of a fragment as text."""
    names = table.schema.names
    found_text = read_text(table, fragment, [label for label in LABELS if label in names])
    stored = {label: column.cast(pa.string()) for label, column in found_text.items()}
    size = micrograph_pixel_sizes(found, roles, inputs)
    columns = [
        choose_text(centre / size, stored.get(label))
        for label, centre in ((X, found.picks.x), (Y, found.picks.y))
    ]
    score = SCORE_OF_CRYOSPARC if roles.convention == "cryosparc" else SCORE
    for label, column, missing in (
        (SCORE, score, NO_VALUE),
        (CLASS, CLASS, NO_CLASS),
        (PSI, PSI, NO_VALUE),
    ):
        if column not in names:
            columns.append(constant(missing, fragment.rows))
            continue
        values = Columns(read(table, fragment, [column]), table.path).floats(column)
        text = choose_text(values, stored.get(label), missing=missing)
        if label == CLASS:
            whole = np.nan_to_num(values, nan=float(NO_CLASS)).astype(np.int64)
            text = as_text(from_numpy(whole))
        columns.append(text)
    return columns


def file_of(micrograph: str) -> str:
    """Return the path that RELION gives to a micrograph's coordinate file, relative to the job folder.

    Examples
    --------
    >>> file_of("MotionCorr/job002/Movies/mic1.mrc")
    'Movies/mic1_autopick.star'
    """
    path = PurePosixPath(JOB_FOLDER.sub("", micrograph.replace("\\", "/")).split("://")[-1])
    parts = [part for part in path.parts if part not in ("/", "..", ".")]
    stem = PurePosixPath(*parts) if parts else PurePosixPath("micrograph")
    return f"{EXTENSION.sub('', str(stem))}{_SUFFIX}"


def find_project(final: Path, micrographs: Sequence[str]) -> Path | None:
    """Return the RELION project folder that contains the folder `final`, or None.

    A project folder has RELION's list of jobs, or the file of the first micrograph.
    """
    if is_uri(str(final)):
        return None
    relative = [name for name in micrographs[:1] if name and not PurePosixPath(name).is_absolute()]
    for folder in final.absolute().parents:
        if exists(folder / _JOB_FILE):
            continue
        if any(exists(folder / name) for name in (*_PROJECT_FILES, *relative)):
            return folder
    return None


def make_coordinates(
    inputs: Inputs, summaries: Sequence[ScanSummary], exposures: ParticleTable | None
) -> tuple[CoordinatesConversion, list[str]]:
    """Return the conversion to coordinate files.

    Raises
    ------
    InputError
        If the inputs have tomograms, several pixel sizes, or two micrographs with the same coordinate file.
    """
    check_positions(inputs, "relion-coordinates")
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        if len(roles.position) == 3:
            raise InputError(
                f"{table.path}: has tomograms. RELION has no coordinate files of this kind for tomograms. Pass "
                f"{parameter('output_format', 'star')}."
            )
    _check_pixel_sizes(inputs, summaries)
    check_kept_rows(inputs, summaries, set(range(len(inputs.tables))))
    for summary in summaries:
        if "micrograph" in summary.invalid:
            raise InputError(
                f"{inputs.tables[summary.source].path}: {counted(summary.invalid['micrograph'], 'row', 'have no')} "
                f"micrograph. Coordinate files need one. Remove these rows, or pass "
                f"{parameter('output_format', 'star')}."
            )
    names = find_names(inputs, summaries, exposures)
    files = tuple(map(file_of, names.names))
    twice = [file for file, count in Counter(map(str.casefold, files)).items() if count > 1]
    if twice:
        clash = [
            name
            for name, file in zip(names.names, files, strict=True)
            if file.casefold() == twice[0]
        ]
        raise InputError(
            f"the micrographs {clash[0]} and {clash[1]} have the same coordinate file ({twice[0]}). Rename one "
            f"with {parameter('rename_micrographs')}."
        )
    is_star = exposures is not None and exposures.format == "star"
    micrographs = exposures.path if exposures and is_star else ""
    return CoordinatesConversion(names, files, micrographs), name_warnings(names.names)


def _check_pixel_sizes(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if the micrographs have different pixel sizes and there is no micrograph table."""
    if inputs.micrographs is not None:
        return
    means = {
        source: float(np.mean(sizes))
        for source, mine in by_source(summaries).items()
        if (sizes := scanned_pixel_sizes(inputs.roles[source], mine))
    }
    if len(means) < 2:
        return
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    if means[high] > means[low] * (1 + _TOLERANCE):
        raise InputError(
            f"the pixel sizes of the micrographs differ: {inputs.tables[low].path} {means[low]:g} A, "
            f"{inputs.tables[high].path} {means[high]:g} A. A coordinate file needs a single pixel size. Pass "
            f"{parameter('micrographs')}, and {parameter('coordinate_pixel_size')} for the inputs picked on "
            "binned micrographs."
        )
