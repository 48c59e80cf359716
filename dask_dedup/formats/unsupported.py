"""Advice for files in formats that cannot be read."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_STAR = (
    "Write the picks to a .star or Parquet file with the columns rlnMicrographName, rlnCoordinateX and "
    "rlnCoordinateY: centres in pixels of the micrograph"
)
_TOMOGRAM = (
    "Write the picks to a .star or Parquet file with the columns rlnTomoName, rlnCoordinateX, rlnCoordinateY and "
    "rlnCoordinateZ: centres in pixels of the tomogram"
)

_TEXT = (
    f"Name its columns with {parameter('columns')} (x=NAME,y=NAME, or numbers from 1). Picks are centres "
    "in pixels of the micrograph"
)

#: Map file extension to a description of the format and to advice.
_FORMATS = {
    ".tloc": ("TomoTwin picks", _TOMOGRAM),
    ".em": (
        "an .em file without a motive list of 20 rows",
        f"{_TOMOGRAM}. The package cryocat converts motive lists",
    ),
    ".mod": (
        "a .mod file without a readable IMOD model",
        f"{_TOMOGRAM}. IMOD's model2point writes the points as text",
    ),
    ".mat": ("a MATLAB file", f"{_TOMOGRAM}. emClarity's csv files have them, too"),
    ".xml": ("a particle list of PyTom or DeepFinder", _TOMOGRAM),
    ".json": ("JSON of another program than EMAN2 and copick", f"{_STAR}. For VIA: its own export"),
    ".sqlite": ("a Scipion set", "Export the particles from Scipion in RELION's format"),
    ".db": ("a database", "Export the particles from Scipion in RELION's format"),
    ".plt": ("cisTEM coordinates", "Export a RELION .star file from cisTEM's Refine Package"),
    ".par": ("cisTEM or Frealign parameters", "Export a RELION .star file from cisTEM"),
    ".txt": ("text without known columns", _TEXT),
    ".csv": ("text without known columns", _TEXT),
    ".tsv": ("text without known columns", _TEXT),
    ".pkl": ("a pickle", _STAR),
    ".pickle": ("a pickle", _STAR),
    ".npy": ("a NumPy array", _STAR),
    ".h5": ("HDF5", _STAR),
    ".hdf": ("HDF5", _STAR),
    ".mrc": ("an image", "Pass the table of particles"),
    ".mrcs": ("images", "Pass the table of particles that lists them"),
    ".tif": ("an image", "Pass the table of particles"),
    ".tiff": ("an image", "Pass the table of particles"),
    ".rec": ("a tomogram", "Pass the table of particles"),
}


def describe_unsupported(path: Path, known: str) -> str:
    """Return a message about a file that is no particle table. `known` lists the formats that can be read."""
    kind, advice = _FORMATS.get(path.suffix.lower(), ("", _STAR))
    found = f" but {kind}" if kind else ""
    return f"{path}: not a particle table ({known} or Parquet){found}. {advice}."


def advise_on_files(names: Iterable[str]) -> str:
    """Return advice about the first file with a known extension, or an empty text."""
    for name in names:
        kind, advice = _FORMATS.get(PurePath(name).suffix.lower(), ("", ""))
        if kind:
            verb = "is" if kind.startswith(("a ", "an ")) else "contains"
            return f"{name} {verb} {kind}. {advice}."
    return ""
