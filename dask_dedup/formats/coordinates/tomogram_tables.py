"""Tables of tomograms (``tomograms.star``). Some pick files need the sizes of tomograms in these tables."""

from __future__ import annotations

import math
import re
from itertools import chain
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formats.base import opening
from dask_dedup.formats.coordinates.lines import star_loops
from dask_dedup.formats.star.values import is_number
from dask_dedup.storage.files import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
BINNING = "rlnTomoTomogramBinning"
_NAME = "rlnTomoName"
#: Number of folders above a pick file that are searched for tables of tomograms.
_LEVELS = 4
_TABLE_OF_SET = re.compile(r"^[ \t]*_rlnTomoTomogramsFile\s+(?:#\d+\s*)?(\S+)", re.MULTILINE)


class TomogramTables:
    """The tables of tomograms near pick files. Tables are cached, so each input needs a new object."""

    def __init__(self) -> None:
        self._near: dict[Path, list[Path]] = {}
        self._rows: dict[Path, dict[str, dict[str, str]]] = {}

    def found(self) -> list[Path]:
        """Return all tables that were found, in the order of the search."""
        return list(dict.fromkeys(chain.from_iterable(self._near.values())))

    def find(
        self, path: Path, name: str, needs: tuple[str, ...]
    ) -> tuple[tuple[float, ...], Path] | None:
        """Return the values `needs` of the tomogram `name`, and the first table near `path` that has these values.

        Tables are searched in the four folders above `path`. A table is also found if an
        ``optimisation_set.star`` in one of these folders has its path.

        Raises
        ------
        InputError
            If a value is not a positive number, or a table cannot be read.
        """
        folder = path.absolute().parent
        if folder not in self._near:
            with opening(folder):
                self._near[folder] = list(dict.fromkeys(_tables_near(folder)))
        for table in self._near[folder]:
            if table not in self._rows:
                with opening(table):
                    self._rows[table] = _read_table(table)
            row = self._rows[table].get(name)
            if row is not None and set(needs) <= row.keys():
                values = (_positive(row[label], f"{table}: {label} of {name}") for label in needs)
                return tuple(values), table
        return None


def _positive(text: str, what: str) -> float:
    value = float(text) if is_number(text.encode()) else math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{what} is {text!r}. Correct it: a positive number is needed.")
    return value


def _tables_near(folder: Path) -> Iterator[Path]:
    for above in (folder, *folder.parents)[:_LEVELS]:
        yield from sorted(above.glob("*tomograms.star"))
        for listed in sorted(above.glob("*optimisation_set.star")):
            for target in _TABLE_OF_SET.findall(listed.read_text(errors="replace")):
                found = (base / target for base in (above, *above.parents))
                yield from (table for table in found if is_file(table))


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a table of tomograms, by tomogram name."""
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
            rows.setdefault(row[_NAME].strip("'\""), row)
    return rows
