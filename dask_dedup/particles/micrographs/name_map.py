"""Read a map of micrograph names from a CSV file, or from a ``.doc`` file of Dynamo."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from dask_dedup.dedup.renaming import MicrographMap
from dask_dedup.errors import InputError
from dask_dedup.formats.base import opening
from dask_dedup.formats.coordinates.programs.dynamo import NAMES_EXTENSION
from dask_dedup.storage.files import read_bytes
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = ["from", "to"]


def read_micrograph_map(path: str | Path) -> MicrographMap:
    """Read a file with two columns: the old and the new name of each micrograph.

    Parameters
    ----------
    path : str or Path
        A CSV file, or a ``.doc`` file of Dynamo. The first line of a CSV file may be the header ``from,to``. Each
        line of a ``.doc`` file has the number and the path of a tomogram. Empty lines are ignored.

    Returns
    -------
    MicrographMap
        Value for the parameter `micrograph_map`.

    Raises
    ------
    InputError
        If the file cannot be read, a line does not have two names, or a name has two new names.
    """
    with opening(path):
        content = read_bytes(at(path))
    try:
        lines = content.decode("utf-8-sig").splitlines()
        of_dynamo = str(path).lower().endswith(NAMES_EXTENSION)
        cells = (
            (line.split(None, 1) for line in lines) if of_dynamo else csv.reader(lines, strict=True)
        )
        rows = [[cell.strip() for cell in row] for row in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}).") from error
    pairs: list[tuple[str, str]] = []
    for number, row in enumerate(rows, start=1):
        if not any(row) or (number == 1 and [cell.lower() for cell in row] == _HEADER):
            continue
        if len(row) != 2 or not all(row):
            wanted = "a number and a path" if of_dynamo else "two names: from,to"
            raise InputError(
                f"{path}: line {number} is {','.join(row)!r}. Each line needs {wanted}."
            )
        pairs.append((row[0], row[1]))
    if not pairs:
        raise InputError(f"{path}: has no names. Each line needs two names: from,to.")
    return MicrographMap.of({"pairs": pairs, "path": str(path)})
