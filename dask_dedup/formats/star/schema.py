"""Which table of a STAR file holds the particles, which columns it has, and what the optics groups add."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from dask_dedup.errors import InputError
from dask_dedup.formats.star.values import Place, is_number, is_whole_number, tokens_by_column
from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_dedup.formats.star.blocks import Layout, Loop

GROUP, DETECTOR, MAGNIFICATION = "rlnOpticsGroup", "rlnDetectorPixelSize", "rlnMagnification"

#: The particle table is the first of these blocks that there is.
_BLOCKS = ("particles", "images", "micrographs", "tomograms", "", "global")
#: Blocks that never hold the particles.
_OTHER_BLOCKS = re.compile(r"optics|general|job.*|pipeline.*|model.*|sampling.*|optimiser.*")
#: The first rows tell the types of columns that are not known by their labels.
_SAMPLE_BYTES = 2**16

_REAL = re.compile(
    r"rln((Centered)?Coordinate[XYZ](Angst)?|Origin[XYZ](Angst)?|(Angle|TomoSubtomogram)(Rot|Tilt|Psi)"
    r"|.*PixelSize|Magnification|.*FigureOfMerit|LCCmax|LogLikeliContribution"
    r"|MaxValueProbDistribution|ParticleSelectZScore)"
)
_TEXT = re.compile(r".*(Name|File|Path|Image|Metadata|Spectrum|Tomogram|Comment)")
_WHOLE = re.compile(
    r"rln(BeamTiltClass|ClassNumber|CtfDataAreCtfPremultiplied|FrameNumber|GroupNumber|HelicalTubeID"
    r"|ImageSize|ImageDimensionality|NrOfFrames|NrOfSignificantSamples|ParticleNumber|RandomSubset"
    r"|TomoParticleId)"
)
_OF_GROUP = (
    "rlnMicrographPixelSize",
    "rlnImagePixelSize",
    "rlnTomoTiltSeriesPixelSize",
    "rlnMicrographOriginalPixelSize",
)
_POSITIONS = {"rlnCoordinateX", "rlnCenteredCoordinateXAngst"}
_MICROGRAPH, _TOMOGRAM, _IMAGE = "rlnMicrographName", "rlnTomoName", "rlnImageName"
_PICKER_SUFFIX = re.compile(r"_(autopick|manualpick|topazpicks?)$")


@dataclass(frozen=True, slots=True)
class StarDetail:
    """What reading and writing the rows of a particle table takes.

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


def choose_particles(path: Path, layout: Layout) -> Loop:
    """Choose the table of the particles (or of the micrographs, or tomograms).

    Raises
    ------
    InputError
        If there is none, or more than one; lists the tables.
    """
    loops = [loop for loop in layout.loops if not _OTHER_BLOCKS.fullmatch(loop.block.lower())]
    named = next((name for name in _BLOCKS if any(loop.block == name for loop in loops)), None)
    if named is not None:
        loops = [loop for loop in loops if loop.block == named]
    if len(loops) != 1:
        tables = [f"data_{loop.block} ({counted(loop.rows, 'row')})" for loop in layout.loops]
        tables += dict.fromkeys(f"data_{item.block} (not a loop)" for item in layout.items)
        raise InputError(
            f"{path}: {'several tables' if loops else 'no table'} could hold the particles "
            f"(found {', '.join(tables) or 'none at all'}); one alone must be in a block data_particles"
        )
    labels = loops[0].labels
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: the label _{twice} occurs more than once")
    return loops[0]


def describe(path: Path, layout: Layout, loop: Loop) -> StarDetail:
    """Find what the rows of the particle table lack and the file tells elsewhere."""
    labels = set(loop.labels)
    groups, of_group = _optics(path, layout, labels) if GROUP in labels else ((), {})
    ratio = micrograph = None
    if {DETECTOR, MAGNIFICATION} <= labels:
        of_micrographs = _MICROGRAPH in labels and not labels & {*_POSITIONS, _IMAGE}
        ratio = "rlnMicrographPixelSize" if of_micrographs else "rlnImagePixelSize"
        if ratio in labels or ratio in of_group:
            ratio = None
    named = labels & {_MICROGRAPH, _TOMOGRAM, _IMAGE}
    if labels & _POSITIONS and not named and _PICKER_SUFFIX.search(path.stem):
        micrograph = _PICKER_SUFFIX.sub("", path.stem) + ".mrc"
    return StarDetail(loop.labels, loop.start, loop.stop, groups, of_group, ratio, micrograph)


def schema_of(path: Path, loop: Loop, detail: StarDetail) -> pa.Schema:
    """Tell the columns and their types: those written in the rows, then those that are not."""
    fields = {label: _kind(label, values) for label, values in _sample(path, loop).items()}
    fields |= dict.fromkeys(detail.of_group, pa.float64())
    if detail.ratio:
        fields[detail.ratio] = pa.float64()
    if detail.micrograph:
        fields[_MICROGRAPH] = pa.string()
    return pa.schema(list(fields.items()))


def _sample(path: Path, loop: Loop) -> Mapping[str, list[bytes]]:
    """Give the first rows' values."""
    if not loop.rows:
        return {label: [] for label in loop.labels}
    place = Place(path, loop.start, loop.stop, 0, loop.rows)
    _, block = next(place.blocks())
    cut = block.find(b"\n", _SAMPLE_BYTES) + 1
    return tokens_by_column(block[:cut] if cut else block, loop.labels, place)


def _kind(label: str, values: list[bytes]) -> pa.DataType:
    """Tell a column's type from its label and first values; 001 in a column of names stays text."""
    if _REAL.fullmatch(label):
        return pa.float64()
    if label == GROUP:
        return pa.int64()
    if _TEXT.fullmatch(label) or not all(map(is_number, values)):
        return pa.string()
    whole = _WHOLE.fullmatch(label) and all(map(is_whole_number, values))
    return pa.int64() if whole else pa.float64()


def _optics(
    path: Path, layout: Layout, labels: set[str]
) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
    """Give the optics groups, rising, and the pixel sizes that the rows themselves lack."""
    table = _optics_table(path, layout)
    names = [name for name in _OF_GROUP if name in table and name not in labels]
    if not names or GROUP not in table:
        return (), {}
    for name in (GROUP, *names):
        valid = is_whole_number if name == GROUP else is_number
        bad = next((token for token in table[name] if not valid(token)), None)
        if bad is not None:
            shown = bad.decode(errors="replace")
            raise InputError(f"{path}: data_optics has {shown!r} for {name}, which is not a number")
    sizes_of: dict[int, tuple[float, ...]] = {}
    for group, *values in zip(*(table[name] for name in (GROUP, *names)), strict=True):
        number, sizes = int(float(group)), tuple(map(float, values))
        if sizes_of.setdefault(number, sizes) != sizes:
            raise InputError(f"{path}: data_optics has the group {number} twice, and they differ")
    groups = tuple(sorted(sizes_of))
    columns = zip(*(sizes_of[group] for group in groups), strict=True)
    return groups, dict(zip(names, columns, strict=True))


def _optics_table(path: Path, layout: Layout) -> Mapping[str, list[bytes]]:
    """Read the optics groups' values; a single group may be written without a loop."""
    for loop in layout.loops:
        if loop.block == "optics" and loop.rows:
            place = Place(path, loop.start, loop.stop, 0, loop.rows)
            block = b"".join(block for _, block in place.blocks())
            return tokens_by_column(block, loop.labels, place)
    items = [item for item in layout.items if item.block == "optics"]
    return {item.label: [item.value.strip(b"'\"")] for item in items}
