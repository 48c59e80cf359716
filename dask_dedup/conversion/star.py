"""One STAR file of RELION for the particles of all inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dask_dedup.arrow import from_numpy
from dask_dedup.conversion.micrographs import (
    SCORE_OF_CRYOSPARC,
    MicrographNames,
    check_kept_rows,
    check_positions,
    find_names,
    micrograph_pixel_sizes,
    scanned_pixel_sizes,
)
from dask_dedup.conversion.optics import (
    GROUP,
    PIXEL_SIZES,
    MergedOptics,
    check_micrographs,
    find_optics,
    star_detail,
)
from dask_dedup.conversion.text import (
    NO_VALUE,
    as_text,
    choose_text,
    constant,
    header,
    join_lines,
    quote,
    write_lines,
)
from dask_dedup.errors import InputError
from dask_dedup.formats import by_source, read, read_text
from dask_dedup.formats.base import read_parts, write_blocks
from dask_dedup.formats.coordinates.column_map import (
    COORDINATES,
    FILAMENT,
    MICROGRAPH,
    SCORE,
    TOMOGRAM,
)
from dask_dedup.formatting import counted
from dask_dedup.hints import Message, parameter
from dask_dedup.particles.column_names import RELION_SHIFT_ANGSTROM, RELION_SUBTOMOGRAM
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.pixel_sizes import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, OutputFile, ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.particles.scan_summary import ScanSummary

#: Name of the file in particles_kept and particles_rejected.
FILE = "particles.star"
PARTICLE = "rlnTomoParticleName"
#: Columns that are written as 0 for inputs that lack them.
_ZERO = {*RELION_SHIFT_ANGSTROM, *RELION_SUBTOMOGRAM}
_LABEL = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class StarConversion:
    """Conversion to one STAR file.

    Attributes
    ----------
    names : MicrographNames
    labels : tuple of str
        Columns of the file, except for the last column, the optics group.
    micrograph : str
        Label of the micrograph or tomogram.
    optics : MergedOptics
    first_tubes : tuple of int
        Number to add to the tube ids of each input.
    general : tuple of (str, str)
        Values of ``data_general``.
    """

    names: MicrographNames
    labels: tuple[str, ...]
    micrograph: str
    optics: MergedOptics
    first_tubes: tuple[int, ...]
    general: tuple[tuple[str, str], ...] = ()

    def split(
        self,
        inputs: Inputs,
        fragment: Fragment,
        keep: NDArray[np.bool_],
        kept: Path,
        rejected: Path,
    ) -> None:
        """Write the rows of a fragment as lines of the new file."""
        lines = join_lines(self._columns(inputs, fragment))
        write_lines(lines, keep, kept)
        write_lines(lines, ~keep, rejected)

    def _columns(self, inputs: Inputs, fragment: Fragment) -> list[pa.Array]:
        table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
        optics = self.optics.inputs[fragment.source]
        wanted = [*roles.columns, *optics.columns, *([GROUP] if optics.numbers.size else [])]
        rows = read(table, fragment, list(dict.fromkeys(wanted)))
        keys = RowMicrographs.of(Columns(rows, table.path), roles).keys
        texts = self._texts(inputs, fragment, rows)
        texts[self.micrograph] = self.names.texts(keys)
        if FILAMENT in self.labels and self.first_tubes[fragment.source]:
            tubes = Columns(read(table, fragment, [FILAMENT]), table.path).floats(FILAMENT)
            new = tubes + self.first_tubes[fragment.source]
            whole = np.where(np.isnan(new), 0, new).astype(np.int64)
            texts[FILAMENT] = as_text(from_numpy(whole))
        numbers = self.optics.numbers(fragment, keys, rows)
        zeros = constant("0.000000", fragment.rows)
        columns = [texts.get(label, zeros) for label in self.labels]
        return [*columns, as_text(from_numpy(numbers))]

    def _texts(self, inputs: Inputs, fragment: Fragment, rows: pa.Table) -> dict[str, pa.Array]:
        """Return the columns of `labels` that the input has, as text."""
        table, roles = inputs.tables[fragment.source], inputs.roles[fragment.source]
        own = [
            label
            for label in labels_of(table, roles.convention)
            if label in self.labels and label != self.micrograph
        ]
        if table.format in ("star", "optimisation_set"):
            found = read_text(table, fragment, own)
            return {label: as_text(column) for label, column in found.items()}
        if roles.convention == "relion" and table.format != "coordinates":
            found = read(table, fragment, own)
            return {label: as_text(found.column(label)) for label in own}
        extracted = extract(rows, fragment, roles, inputs.params, inputs.micrographs)
        size = micrograph_pixel_sizes(extracted, roles, inputs)
        picks = extracted.picks
        centres = dict(zip(COORDINATES, (picks.x, picks.y, picks.z), strict=True))
        stored = read_text(table, fragment, own)
        texts = {}
        for label in own:
            if label in centres:
                texts[label] = choose_text(centres[label] / size, stored.get(label))
                continue
            of_cryosparc = label == SCORE and roles.convention == "cryosparc"
            name = SCORE_OF_CRYOSPARC if of_cryosparc else label
            column = read(table, fragment, [name]).column(name)
            whole = pa.types.is_integer(column.type) and not column.null_count
            if whole or pa.types.is_dictionary(column.type):
                texts[label] = as_text(column)
            else:
                values = Columns(pa.table({label: column}), table.path).floats(label)
                texts[label] = choose_text(values, stored.get(label), missing=NO_VALUE)
        return texts

    def assemble(self, parts: Sequence[Path], folder: Path, final: Path) -> list[OutputFile]:  # noqa: ARG002
        """Write the file: optics groups, then the rows of all parts."""
        rows = 0

        def blocks() -> Iterator[bytes | memoryview]:
            nonlocal rows
            version = "50001" if self.micrograph == TOMOGRAM else "30001"
            comment = f"\n# version {version}\n".encode()
            if self.general:
                items = "".join(f"_{label} {value}\n" for label, value in self.general)
                yield comment + f"\ndata_general\n\n{items}".encode()
            yield comment + header("optics", self.optics.labels)
            for row in self.optics.rows:
                yield " ".join(quote(pa.array(row)).to_pylist()).encode() + b"\n"
            yield b"\n" + comment + header("particles", (*self.labels, GROUP))
            for block in read_parts(parts):
                rows += bytes(block).count(b"\n")
                yield block
            yield b"\n"

        folder.mkdir(parents=True, exist_ok=True)
        return [replace(write_blocks(folder, FILE, 0, blocks()), rows=rows)]


def labels_of(table: ParticleTable, convention: str) -> list[str]:
    """Return RELION's labels for the columns of a table that can be written."""
    detail = star_detail(table)
    if detail is not None:
        return list(detail.labels)
    names = table.schema.names
    if convention == "cryosparc":
        scored = [SCORE] if SCORE_OF_CRYOSPARC in names else []
        return [MICROGRAPH, *COORDINATES[:2], *scored]
    labels = [name for name in names if name.startswith("rln") and _LABEL.fullmatch(name)]
    if table.format == "coordinates":
        labels = [label for label in labels if label not in PIXEL_SIZES]
    return labels


def make_star(
    inputs: Inputs, summaries: Sequence[ScanSummary], exposures: ParticleTable | None
) -> tuple[StarConversion, list[str]]:
    """Return the conversion to a STAR file, and warnings."""
    check_positions(inputs, "star")
    _check_same_positions(inputs, summaries)
    computed = {
        table.source
        for table, roles in zip(inputs.tables, inputs.roles, strict=True)
        if table.format == "coordinates" or roles.convention == "cryosparc"
    }
    check_kept_rows(inputs, summaries, computed)
    names = find_names(inputs, summaries, exposures)
    of_input = by_source(summaries)
    sizes = [_one_size(inputs, roles, of_input[n]) for n, roles in enumerate(inputs.roles)]
    optics = find_optics(inputs, exposures, sizes)
    if exposures is not None:
        check_micrographs(optics, inputs, summaries, exposures.path)
    every = [
        labels_of(table, roles.convention)
        for table, roles in zip(inputs.tables, inputs.roles, strict=True)
    ]
    flat = [label for labels in every for label in labels]
    own = [roles.micrograph for roles in inputs.roles]
    micrograph = TOMOGRAM if TOMOGRAM in own else MICROGRAPH
    labels = [
        label
        for label in dict.fromkeys((micrograph, *flat))
        if label != GROUP
        and (label in (*_ZERO, micrograph) or all(label in each for each in every))
    ]
    dropped = [
        label for label in dict.fromkeys(flat) if label not in labels and label not in (GROUP, *own)
    ]
    general = _general(inputs)
    first_tubes = _first_tubes(inputs) if FILAMENT in labels else (0,) * len(inputs.tables)
    conversion = StarConversion(names, tuple(labels), micrograph, optics, first_tubes, general)
    warnings = []
    if dropped:
        warnings.append(f"{FILE} has the columns of all inputs. Left out: {', '.join(dropped)}.")
    lost = [label for label in optics.dropped if label != GROUP]
    if lost:
        warnings.append(
            f"the optics groups in {FILE} have the columns of all inputs. Left out: {', '.join(lost)}."
        )
    if PARTICLE in labels:
        warnings += _name_warnings(inputs)
    return conversion, [Message(text) for text in warnings]


def _name_warnings(inputs: Inputs) -> list[str]:
    """Return a list with one warning if a particle name occurs more than once in the inputs, else []."""
    names = [
        as_text(read(table, fragment, [PARTICLE]).column(PARTICLE))
        for table in inputs.tables
        for fragment in table.fragments
    ]
    counts = pc.value_counts(pa.chunked_array(names, pa.string()))
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if not repeated:
        return []
    return [
        f"{counted(len(repeated), 'value')} of {PARTICLE} {'occur' if len(repeated) > 1 else 'occurs'} more than once "
        f"in the inputs (first: {min(repeated)}). RELION finds the trajectories of particles by name, so do not use "
        f"the trajectories of one input with {FILE}."
    ]


def _check_same_positions(inputs: Inputs, summaries: Sequence[ScanSummary]) -> None:
    """Raise InputError if the positions of the inputs cannot be written to the same columns."""
    native = f"Pass {parameter('output_format', 'native')}"
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        copied = table.format != "coordinates" and roles.convention == "relion"
        if copied and (table.source in inputs.params.flip_y or roles.overrides_psize):
            name = "flip_y" if table.source in inputs.params.flip_y else "coordinate_pixel_size"
            raise InputError(
                f"{table.path}: {parameter(name)} changes its positions, but the STAR file would have the "
                f"old positions. {native}."
            )
        shift = [name for name in roles.shift if name not in RELION_SHIFT_ANGSTROM]
        if copied and shift:
            raise InputError(
                f"{table.path}: has the shifts of RELION 3.0 ({shift[0]}). Convert it with relion_convert_star."
            )
    positions = {
        roles.position if roles.convention == "relion" else COORDINATES[:2]
        for roles in inputs.roles
    }
    if len(positions) > 1:
        listed = " and ".join(sorted(each[0] for each in positions))
        raise InputError(
            f"the inputs have different positions ({listed}), so one table cannot have both. {native}."
        )
    of_image = {summary.source for summary in summaries if IMAGE in summary.psize}
    others = {summary.source for summary in summaries if set(summary.psize) - {IMAGE}}
    if of_image and others:
        raise InputError(
            f"{inputs.tables[min(of_image)].path}: its coordinates are in pixels of the images, but the coordinates "
            f"of {inputs.tables[min(others)].path} are not. {native}."
        )


def _one_size(inputs: Inputs, roles: ColumnRoles, summaries: Sequence[ScanSummary]) -> float | None:
    """Return the pixel size of an input's micrographs, or None if there are several."""
    if len(roles.position) == 3:
        return None
    if inputs.micrographs is not None:
        found = set(np.unique(inputs.micrographs.psize).tolist())
    else:
        found = set(scanned_pixel_sizes(roles, summaries))
    return found.pop() if len(found) == 1 else None


def _general(inputs: Inputs) -> tuple[tuple[str, str], ...]:
    """Return the values of ``data_general``. Raise InputError if two inputs have different values."""
    found = [getattr(star_detail(table), "general", {}) for table in inputs.tables]
    other = next((n for n, each in enumerate(found) if each != found[0]), None)
    if other is not None:
        raise InputError(
            f"{inputs.tables[other].path}: has another data_general block than {inputs.tables[0].path}, but one file "
            f"can have only one. Pass {parameter('output_format', 'native')}."
        )
    return tuple(found[0].items())


def _first_tubes(inputs: Inputs) -> tuple[int, ...]:
    """Return a number for each input. It is added to the tube ids, so that ids of different inputs differ."""
    first, offsets = 0, []
    for table in inputs.tables:
        offsets.append(first)
        for fragment in table.fragments:
            tubes = Columns(read(table, fragment, [FILAMENT]), table.path).floats(FILAMENT)
            first = max(first, offsets[-1] + int(np.nan_to_num(tubes, nan=0.0).max(initial=0.0)))
    return tuple(offsets)
