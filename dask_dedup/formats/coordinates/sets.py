"""Check that a folder has a single set of picks, if its pick files contain the names of micrographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.column_map import MICROGRAPH, TOMOGRAM
from dask_dedup.formats.coordinates.detail import member_of
from dask_dedup.formats.coordinates.programs import MAP_OF
from dask_dedup.formats.coordinates.reader import read

if TYPE_CHECKING:
    from dask_dedup.formats.base import ParticleTable
    from dask_dedup.formats.coordinates.detail import CoordinatesDetail


def check_sets(table: ParticleTable) -> None:
    """Check that the picks of each micrograph are in a single file. Other files than these with names are skipped.

    Raises
    ------
    InputError
        If two files have picks of the same micrograph.
    """
    detail: CoordinatesDetail = table.detail
    named = [
        "micrograph" in layout.columns and not MAP_OF[layout.map].by_run
        for layout in detail.layouts
    ]
    if not any(named) or sum(member.rows > 0 for member in detail.members) < 2:
        return
    column = TOMOGRAM if detail.tomograms else MICROGRAPH
    file_of: dict[str, int] = {}
    for fragment in table.fragments:
        rows = read(table, fragment, [column])[column].combine_chunks()
        names, codes, start = rows.dictionary.to_pylist(), rows.indices.to_numpy(), 0
        for part in fragment.slices:
            member = member_of(part)
            for code in np.unique(codes[start : start + part.rows]).tolist():
                other = file_of.setdefault(names[code], member)
                if other != member:
                    one, two = (detail.members[each].name for each in (other, member))
                    raise InputError(
                        f"{table.path}: has two sets of picks of {names[code]}: {one} and {two}. Pass each set as an "
                        "input, or one of them."
                    )
            start += part.rows
