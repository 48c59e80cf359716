"""Tables of tomograms (``tomograms.star``), which have the sizes that some pick files need."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.column_map import star_loops
from dask_dedup.formats.star.values import is_number
from dask_dedup.storage.files import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
BINNING = "rlnTomoTomogramBinning"
_NAME = "rlnTomoName"
#: Folders above a pick file in which the table of tomograms may be.
_LEVELS = 3
_TABLE_OF_SET = re.compile(r"^\s*_rlnTomoTomogramsFile\s+(?:#\d+\s*)?(\S+)", re.MULTILINE)


def find_tomogram(path: Path, name: str, needs: tuple[str, ...]) -> tuple[float, ...] | None:
    """Return the values of the columns `needs` for a tomogram, from the first table near `path` that has them.

    Tables are searched in the three folders above, and where an ``optimisation_set.star`` there names one.

    Raises
    ------
    InputError
        If a value is not a positive number.
    """
    for table in _find_tables(path.absolute().parent):
        row = _read_table(table).get(name)
        if row is not None and set(needs) <= row.keys():
            return tuple(_positive(row[label], f"{table}: {label} of {name}") for label in needs)
    return None


def _positive(text: str, what: str) -> float:
    value = float(text) if is_number(text.encode()) else math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{what} is {text!r}. Correct it: a positive number is needed.")
    return value


def find_table(path: Path) -> Path | None:
    """Return the table of tomograms that `find_tomogram` reads first, if there is one."""
    return next(iter(_find_tables(path.absolute().parent)), None)


@lru_cache(maxsize=16)
def _find_tables(folder: Path) -> list[Path]:
    return list(_tables_near(folder))


def _tables_near(folder: Path) -> Iterator[Path]:
    for above in (folder, *folder.parents)[:_LEVELS]:
        yield from sorted(above.glob("*tomograms.star"))
        for listed in sorted(above.glob("*optimisation_set.star")):
            for target in _TABLE_OF_SET.findall(listed.read_text(errors="replace")):
                found = (base / target for base in (above, *above.parents))
                yield from (table for table in found if is_file(table))


@lru_cache(maxsize=16)
def _read_table(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a table of tomograms by name."""
    text = path.read_bytes() + b"\n"
    rows: dict[str, dict[str, str]] = {}
    for _, labels, start in star_loops(text):
        if _NAME not in labels:
            continue
        for line in text[start:].splitlines():
            values = line.decode(errors="replace").split()
            if len(values) != len(labels):
                break
            row = dict(zip(labels, values, strict=True))
            rows.setdefault(row[_NAME], row)
    return rows
