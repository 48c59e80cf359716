"""Column names that CryoSPARC and RELION use for each role of a column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Collection

MICROGRAPH_UID, MICROGRAPH_PATH = "location/micrograph_uid", "location/micrograph_path"


class Position(NamedTuple):
    """Columns of the position, and their unit.

    The unit is fraction, pixel, angstrom (from the middle of the tomogram) or corner angstrom.
    """

    columns: tuple[str, ...]
    unit: str


class ImageColumns(NamedTuple):
    """Columns that show whether a table has coordinates in pixels of exported images, as Warp writes."""

    #: Pixel size of the image.
    psize: str
    #: Name of the image.
    name: str | None
    #: 1 if the images are 2-D stacks.
    stacks: str | None


@dataclass(frozen=True, slots=True)
class Program:
    """Column names that CryoSPARC or RELION uses for each role, the preferred name first.

    ``{group}`` is a placeholder for the alignments with the applied shift: alignments3D or alignments2D.
    """

    convention: str
    positions: tuple[Position, ...]
    micrograph: tuple[str, ...]
    psize_mic: tuple[str, ...]
    filament: str
    half: tuple[str, ...]
    scores: dict[str, tuple[str, ...]]
    shape: tuple[str, ...] = ()
    uid: tuple[str, ...] = ()


CRYOSPARC = Program(
    convention="cryosparc",
    positions=(Position(("location/center_x_frac", "location/center_y_frac"), "fraction"),),
    micrograph=(MICROGRAPH_UID, MICROGRAPH_PATH),
    psize_mic=("location/micrograph_psize_A",),
    filament="filament/filament_uid",
    half=("{group}/split", "alignments3D/split", "alignments2D/split"),
    scores={
        "ncc_score": ("pick_stats/ncc_score",),
        "error": ("{group}/error",),
        "error_min": ("{group}/error_min",),
    },
    shape=("location/micrograph_shape",),
    uid=("uid",),
)
#: Warp writes the same columns. M also writes columns that begin with wrp.
RELION = Program(
    convention="relion",
    positions=(
        Position(tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"), "angstrom"),
        Position(("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"), "pixel"),
        Position(("rlnCoordinateX", "rlnCoordinateY"), "pixel"),
        Position(("wrpCoordinateX1", "wrpCoordinateY1", "wrpCoordinateZ1"), "corner angstrom"),
    ),
    micrograph=("rlnTomoName", "rlnMicrographName", "wrpSourceName"),
    psize_mic=("rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize"),
    filament="rlnHelicalTubeID",
    half=("rlnRandomSubset", "wrpRandomSubset"),
    scores={"ncc_score": ("rlnAutopickFigureOfMerit",)},
)
PROGRAMS = (CRYOSPARC, RELION)


def is_column(name: str) -> bool:
    """Return whether a hive key is a particle column of RELION, Warp or CryoSPARC. Other keys may be sessions."""
    # In a path, the column alignments3D/split has the hive key split.
    return name.startswith(("rln", "wrp")) or "/" in name or name in ("split", "class")


#: CryoSPARC alignments, the preferred alignment first.
ALIGNMENTS = ("alignments3D", "alignments2D")
#: CryoSPARC alignments to several classes, with one shift for each.
SEVERAL_CLASSES = "alignments3D_multi"
#: RELION shifts in angstrom. RELION 3.0 writes them in pixels of the particle image.
RELION_SHIFT_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
RELION_SHIFT_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
RELION_PARTICLE_PSIZE = ("rlnImagePixelSize", "rlnPixelSize")
#: Binning of tomograms reconstructed by RELION 5.
TOMOGRAM_BINNING = "rlnTomoTomogramBinning"
_DETECTOR = "rlnDetectorPixelSize"
#: Pixel size before the binning of motion correction.
ORIGINAL_PIXEL_SIZE = "rlnMicrographOriginalPixelSize"
#: Name of the image, and whether the images are 2-D stacks.
RELION_IMAGE = ("rlnImageName", "rlnTomoSubTomosAre2DStacks")
#: Orientation of a RELION sub-tomogram. Shifts are in this rotated frame.
RELION_SUBTOMOGRAM = tuple(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi"))
#: Distance of a RELION segment along its filament in angstrom. RELION 3.0 writes it in pixels.
TRACK_COLUMNS = ("rlnHelicalTrackLengthAngst", "rlnHelicalTrackLength")
SYMMETRY_SOURCE = "sym_expand/src_uid"

#: Columns in the content hash of particles without a uid, besides position, score and name: shifts, then angles.
#: The value is the number of components per row.
CONTENT_COLUMNS = {
    "cryosparc": {
        "alignments3D/shift": 2,
        "alignments2D/shift": 2,
        "alignments3D/pose": 3,
        "alignments2D/pose": 1,
    },
    "relion": dict.fromkeys(
        (
            *RELION_SHIFT_ANGSTROM,
            *RELION_SHIFT_PIXELS,
            *(f"rlnAngle{angle}" for angle in ("Rot", "Tilt", "Psi")),
            *(f"wrpAngle{angle}1" for angle in ("Rot", "Tilt", "Psi")),
            *RELION_SUBTOMOGRAM,
        ),
        1,
    ),
}
#: Columns with particle names for the content hash, the preferred column first.
PARTICLE_NAME_COLUMNS = ("rlnTomoParticleName", "rlnImageName")

#: Other columns that can be used as a score, and the direction of each.
OTHER_SCORES = {
    "alignments3D/cross_cor": "higher",
    "alignments2D/class_posterior": "higher",
    "alignments2D/class_ess": "lower",
    "rlnMaxValueProbDistribution": "higher",
    "rlnLogLikeliContribution": "higher",
    "rlnLCCmax": "higher",
    "rlnNrOfSignificantSamples": "lower",
    "rlnParticleSelectZScore": "lower",
}

#: For columns of tables without positions: a description of such a table, and the files to pass instead.
WITHOUT_POSITIONS = {
    "rlnMicrographCoordinates": "it is a list of coordinate files. Pass the files in this list, "
    "such as mic1_autopick.star.",
    "rlnTomoImportParticleFile": "it is a list of particle files for RELION's import. Pass the files "
    "in this list.",
    "rlnTomoParticlesFile": "it is an optimisation set. Pass the file in its field "
    "rlnTomoParticlesFile.",
    **dict.fromkeys(
        ("rlnTomoTiltSeriesStarFile", "rlnTomoSizeX"),
        "it is a list of tomograms. Pass a particles.star, and this list with "
        f"{parameter('micrographs')}.",
    ),
    "rlnReferenceImage": "it is a list of class averages. Pass the file of the same job and "
    "iteration that ends in _data.star.",
    **dict.fromkeys(
        ("micrograph_blob/path", "rlnCtfImage", "rlnMicrographMetadata"),
        "it is a list of micrographs. Pass a table of particles, and this list with "
        f"{parameter('micrographs')}.",
    ),
    "cisTEMOriginalXPosition": "it is a cisTEM table. Export the particles from cisTEM for RELION.",
}


def is_annotation(columns: Collection[str], table: str) -> bool:
    """Return whether a table has RELION 5 picks in pixels of the binned tomogram, judged by its path and columns."""
    path = Path(table).absolute()
    psize = (*RELION.psize_mic, *RELION_PARTICLE_PSIZE)
    return (
        "annotations" in path.parts[:-1]
        and path.name.endswith("_particles.star")
        and {"rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"} <= {*columns}
        and not any(name in columns for name in psize)
    )


def own_pixel_size(columns: Collection[str]) -> str | None:
    """Return the column with the pixel size of positions in a table of pytom-match-pick, or None.

    This pixel size is not the pixel size of the micrograph.

    Other programs write `rlnDetectorPixelSize` with a magnification.
    """
    needed = {_DETECTOR, "rlnLCCmax", *RELION.positions[1].columns}
    others = {"rlnMagnification", "rlnImageName", *RELION.psize_mic}
    return _DETECTOR if needed <= {*columns} and others.isdisjoint(columns) else None
