"""Names of pickers: given by the user, or those of the folders and files of the inputs."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from dask_dedup.dedup.per_input import as_input, is_picker_name
from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.picker import distinct_name, picker_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_dedup.formats import ParticleTable


def check_names(inputs: Sequence[str | Path], names: Mapping[str, str] | None) -> dict[str, str]:
    """Return the names of pickers by input, with the inputs spelled as in `inputs`.

    Raises
    ------
    InputError
        If a name has other characters, or `names` has an unknown input.
    """
    spelling = {as_input(path): str(path) for path in inputs}
    found = {}
    for path, name in (names or {}).items():
        if not is_picker_name(name):
            raise InputError(
                f"{path}: {name!r} cannot name a picker. Use letters, digits, _ and - only."
            )
        if as_input(path) not in spelling:
            raise InputError(
                f"{path}: has the name {name} of a picker, but is not one of the inputs. Write it as "
                "the input is written."
            )
        found[spelling[as_input(path)]] = name
    return found


def name_pickers(tables: Sequence[ParticleTable]) -> list[str]:
    """Return the name of the picker of each input.

    Inputs to which the user gave one name have one picker. All other names are different.
    """
    taken = {table.picker.casefold() for table in tables if table.picker}
    names = []
    for table in tables:
        name = table.picker
        if not name:
            pick_files = table.format == "coordinates"
            stem = picker_name(table.path) if pick_files else PurePath(table.path).stem
            name = distinct_name(stem, taken)
            taken.add(name.casefold())
        names.append(name)
    return names
