"""The particle table of a STAR file: column types, and columns from optics groups.

The module `particles.column_roles` defines the meaning of the columns.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.formats.base import EmptyTableError
from dask_dedup.formats.pick_suffixes import PICK_SUFFIX
from dask_dedup.formats.star.values import is_missing, is_number, is_whole_number, read_tokens
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from dask_dedup.formats.star.blocks import Layout, Loop

OPTICS_GROUP = "rlnOpticsGroup"
DETECTOR_PIXEL_SIZE, MAGNIFICATION = "rlnDetectorPixelSize", "rlnMagnification"

#: Blocks that can have the particle table, by priority.
_PARTICLE_BLOCKS = ("particles", "images", "micrographs", "tomograms", "", "global")
#: Blocks that never have particles.
_OTHER_BLOCKS = re.compile(r"optics|general|job.*|pipeline.*|model.*|sampling.*|optimiser.*")
#: Labels outside a loop with the path of the particle file, and the kind of STAR file that has such a label.
_NAMING = {
    "rlnTomoParticlesFile": "an optimisation set",
    "rlnExperimentalDataStarFile": "an optimiser file",
}
#: Blocks of RELION's files without particles, and the file to pass instead.
_NO_PARTICLES = {
    "joboptions_values": "the settings of a RELION job. Pass the particles.star of the job.",
    "pipeline_processes": "RELION's list of jobs. Pass the particles.star of one of them.",
    "model_classes": "a model file. Pass the file of the same job and iteration that ends in _data.star.",
    "sampling_general": "a sampling file. Pass the file of the same job and iteration that ends in _data.star.",
}
#: For labels without a known type, the type is inferred from the values in this many bytes of the first rows.
_SAMPLE_BYTES = 2**16

_REAL = re.compile(
    r"wrp(Coordinate[XYZ]|Angle(Rot|Tilt|Psi))\d+"
    r"|rln((Centered)?Coordinate[XYZ](Angst)?|Origin[XYZ](Angst)?|(Angle|TomoSubtomogram)(Rot|Tilt|Psi)"
    r"|.*PixelSize|Magnification|.*FigureOfMerit|LCCmax|LogLikeliContribution"
    r"|MaxValueProbDistribution|ParticleSelectZScore)"
)
_TEXT = re.compile(r".*(Name|Hash|File|Path|Image|Metadata|Spectrum|Tomogram|Comment)")
_WHOLE = re.compile(
    r"rln(BeamTiltClass|ClassNumber|CtfDataAreCtfPremultiplied|FrameNumber|GroupNumber|HelicalTubeID"
    r"|ImageSize|ImageDimensionality|NrOfFrames|NrOfSignificantSamples|ParticleNumber|RandomSubset"
    r"|TomoParticleId)|wrpRandomSubset"
)
_OPTICS_COLUMNS = (
    "rlnMicrographPixelSize",
    "rlnImagePixelSize",
    "rlnTomoTiltSeriesPixelSize",
    "rlnMicrographOriginalPixelSize",
)
#: Values of ``data_general`` that become columns.
_GENERAL_COLUMNS = ("rlnTomoSubTomosAre2DStacks",)
_POSITIONS = {"rlnCoordinateX", "rlnCenteredCoordinateXAngst"}
_MICROGRAPH, _TOMOGRAM, _IMAGE = "rlnMicrographName", "rlnTomoName", "rlnImageName"


@dataclass(frozen=True, slots=True)
class StarDetail:
    """Details for reading and writing the rows of a particle table.

    Attributes
    ----------
    labels : tuple of str
        Labels of the columns, in file order.
    start, stop : int
        Byte range of the rows in the file.
    optics_groups : tuple of int
        Group numbers, ascending.
    optics_columns : dict of str to tuple of float
        Columns that only the optics table has: one value for each optics group.
    general_columns : dict of str to int
        Columns with the same value in all rows, from ``data_general``.
    computed_pixel_size : str or None
        Column with the pixel size that is computed from detector pixel size and magnification.
    micrograph : str or None
        Name of the micrograph, if only the file name has it.
    optics : dict of str to tuple of str
        Table ``data_optics`` as text: for each label, one value per group.
    general : dict of str to str
        Values in ``data_general`` as text.
    """

    labels: tuple[str, ...]
    start: int
    stop: int
    optics_groups: tuple[int, ...]
    optics_columns: dict[str, tuple[float, ...]]
    general_columns: dict[str, int]
    computed_pixel_size: str | None
    micrograph: str | None
    optics: dict[str, tuple[str, ...]]
    general: dict[str, str]


def choose_particles(path: Path, layout: Layout) -> Loop:
    """Return the particle table of a STAR file. Raise `InputError` unless exactly one table can have the particles."""
    loops = [loop for loop in layout.loops if not _OTHER_BLOCKS.fullmatch(loop.block.lower())]
    blocks = {loop.block for loop in loops}
    named = next((name for name in _PARTICLE_BLOCKS if name in blocks), None)
    if named is not None:
        loops = [loop for loop in loops if loop.block == named]
    if len(loops) != 1:
        other = _describe_other_file(path, layout)
        if other:
            raise InputError(other)
        found = [f"data_{loop.block} ({counted(loop.span.rows, 'row')})" for loop in layout.loops]
        found += [f"data_{block} (not a loop)" for block in layout.items]
        count = "several tables" if loops else "no table"
        kind = InputError if found else EmptyTableError
        raise kind(
            f"{path}: {count} could hold the particles (found: {', '.join(found) or 'nothing'}). "
            "Put the particles into one table, in a block named data_particles."
        )
    _check_labels(path, loops[0])
    return loops[0]


def _describe_other_file(path: Path, layout: Layout) -> str | None:
    """Return a message if the file is a STAR file of RELION that never has particles, else None."""
    for items in layout.items.values():
        for label, kind in _NAMING.items():
            name = items.get(label, b"").strip(b"'\"").decode(errors="replace")
            if name:
                return f"{path}: {kind}. Pass its particle file: {name}"
    blocks = {*layout.items, *(loop.block for loop in layout.loops)}
    found = next((text for block, text in _NO_PARTICLES.items() if block in blocks), None)
    return found and f"{path}: {found}"


def _check_labels(path: Path, loop: Loop) -> None:
    twice = next((label for label in loop.labels if loop.labels.count(label) > 1), None)
    if twice is not None:
        location = f" in data_{loop.block}" if loop.block == "optics" else ""
        raise InputError(
            f"{path}: the label _{twice} occurs more than once{location}. Remove one of the columns."
        )


def describe(path: Path, layout: Layout, loop: Loop) -> StarDetail:
    """Return the details of a particle table: byte range of the rows, optics groups, computed columns."""
    labels = set(loop.labels)
    optics = _optics_table(path, layout) if OPTICS_GROUP in labels else {}
    groups, columns = _read_optics(path, optics, labels)
    computed = micrograph = None
    if {DETECTOR_PIXEL_SIZE, MAGNIFICATION} <= labels:
        of_micrographs = _MICROGRAPH in labels and not labels & {*_POSITIONS, _IMAGE}
        computed = "rlnMicrographPixelSize" if of_micrographs else "rlnImagePixelSize"
        if computed in labels or computed in columns:
            computed = None
    named = labels & {_MICROGRAPH, _TOMOGRAM, _IMAGE}
    if labels & _POSITIONS and not named and PICK_SUFFIX.search(path.stem):
        micrograph = PICK_SUFFIX.sub("", path.stem) + ".mrc"
    span = loop.span
    complete = labels >= {"rlnCoordinateX", "rlnCoordinateY"}
    if complete and not (span.rows or named or micrograph):
        raise EmptyTableError(f"{path}: the particle table has no rows and no micrograph names")
    return StarDetail(
        labels=loop.labels,
        start=span.start,
        stop=span.stop,
        optics_groups=groups,
        optics_columns=columns,
        general_columns=_read_general(layout, labels),
        computed_pixel_size=computed,
        micrograph=micrograph,
        optics={
            label: tuple(value.decode(errors="replace") for value in values)
            for label, values in optics.items()
        },
        general={
            label: value.strip(b"'\"").decode(errors="replace")
            for label, value in layout.items.get("general", {}).items()
        },
    )


def schema_of(loop: Loop, detail: StarDetail) -> pa.Schema:
    """Return the Arrow schema: columns of the table, then columns from other blocks, then computed columns."""
    fields = {label: _type_of(label, values) for label, values in _sample(loop).items()}
    fields |= dict.fromkeys(detail.optics_columns, pa.float64())
    fields |= dict.fromkeys(detail.general_columns, pa.int64())
    if detail.computed_pixel_size:
        fields[detail.computed_pixel_size] = pa.float64()
    if detail.micrograph:
        fields[_MICROGRAPH] = pa.string()
    return pa.schema(list(fields.items()))


def _sample(loop: Loop) -> Mapping[str, list[bytes]]:
    """Map each column label to the unparsed values in the first rows of a table."""
    if not loop.span.rows:
        return {label: [] for label in loop.labels}
    _, block = next(loop.span.blocks())
    cut = block.find(b"\n", _SAMPLE_BYTES) + 1
    return read_tokens(block[:cut] if cut else block, loop.labels, loop.span)


def as_texts(schema: pa.Schema, detail: StarDetail, columns: Collection[str]) -> pa.Schema:
    """Change the type of `columns` to text, except for columns with a type that RELION defines.

    Text keeps all digits and leading zeros. Its type does not depend on the other values of the column.
    """
    texts = {name for name in columns if name in detail.labels and not _has_known_type(name)}
    return pa.schema(
        [each.with_type(pa.string()) if each.name in texts else each for each in schema]
    )


def _has_known_type(label: str) -> bool:
    return label == OPTICS_GROUP or bool(_REAL.fullmatch(label) or _WHOLE.fullmatch(label))


def _type_of(label: str, values: list[bytes]) -> pa.DataType:
    """Infer a column's Arrow type from its label and first values. Names such as 001 remain text."""
    if _REAL.fullmatch(label):
        return pa.float64()
    if label == OPTICS_GROUP:
        return pa.int64()
    numbers = [value for value in values if not is_missing(value)]
    if _TEXT.fullmatch(label) or not all(map(is_number, numbers)) or (values and not numbers):
        return pa.string()
    whole = _WHOLE.fullmatch(label) and all(map(is_whole_number, numbers))
    return pa.int64() if whole else pa.float64()


def _read_optics(
    path: Path, table: Mapping[str, list[bytes]], labels: set[str]
) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
    """Return the sorted group numbers in ``data_optics``, and a dict of pixel size columns that rows do not have."""
    names = [name for name in _OPTICS_COLUMNS if name in table and name not in labels]
    if not names or OPTICS_GROUP not in table:
        return (), {}
    for name in (OPTICS_GROUP, *names):
        valid = is_whole_number if name == OPTICS_GROUP else is_number
        missing = name != OPTICS_GROUP
        bad = next((t for t in table[name] if not (valid(t) or (missing and is_missing(t)))), None)
        if bad is not None:
            shown = bad.decode(errors="replace")
            raise InputError(f"{path}: data_optics has {shown!r} for {name}, which is not a number")
    sizes_of: dict[int, tuple[float, ...]] = {}
    for group, *values in zip(*(table[name] for name in (OPTICS_GROUP, *names)), strict=True):
        number, sizes = int(float(group)), tuple(map(_size, values))
        if sizes_of.setdefault(number, sizes) != sizes:
            raise InputError(
                f"{path}: data_optics lists optics group {number} twice, with different pixel sizes"
            )
    groups = tuple(sorted(sizes_of))
    columns = zip(*(sizes_of[group] for group in groups), strict=True)
    return groups, dict(zip(names, columns, strict=True))


def _size(token: bytes) -> float:
    return math.nan if is_missing(token) else float(token)


def _read_general(layout: Layout, labels: set[str]) -> dict[str, int]:
    """Return the integers in ``data_general`` that become columns. Skip columns that the rows have already."""
    items = layout.items.get("general", {})
    found = {name: items[name] for name in _GENERAL_COLUMNS if name in items and name not in labels}
    return {name: int(value) for name, value in found.items() if value in (b"0", b"1")}


def _optics_table(path: Path, layout: Layout) -> Mapping[str, list[bytes]]:
    """Map each label in ``data_optics`` to its unparsed values. If there is a single group, the loop may be missing."""
    for loop in layout.loops:
        if loop.block == "optics" and loop.span.rows:
            _check_labels(path, loop)
            block = b"".join(block for _, block in loop.span.blocks())
            return read_tokens(block, loop.labels, loop.span)
    items = layout.items.get("optics", {})
    return {label: [value.strip(b"'\"")] for label, value in items.items()}
