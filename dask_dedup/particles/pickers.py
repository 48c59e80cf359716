"""The pickers of a run, and their votes. Names come from the user, or from folders and files."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from dask_dedup.dedup.per_input import NAMED_PICKERS, as_input, is_picker_name
from dask_dedup.dedup.voting import Voting
from dask_dedup.errors import InputError
from dask_dedup.formats.coordinates.picker import distinct_name, picker_name
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import ParticleTable


def check_names(inputs: Sequence[str | Path], names: Mapping[str, str] | None) -> dict[str, str]:
    """Return the names of pickers by input, with the inputs spelled as in `inputs`.

    Raises
    ------
    InputError
        If a name has characters that are not allowed, or `names` has an unknown input.
    """
    spelling = {as_input(path): str(path) for path in inputs}
    found = {}
    for path, name in (names or {}).items():
        if not is_picker_name(name):
            raise InputError(
                f"{path}: {name!r} cannot be the name of a picker. Use letters, digits, _ and - only."
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

    Inputs with the same name from the user have the same picker. All other names are different.
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


def make_voting(
    pickers: Sequence[tuple[str, str]], params: DedupParams, left_out: Mapping[str, str]
) -> Voting | None:
    """Return the pickers and the rule of their votes, or None if votes are not counted.

    `pickers` has the path of each input and the name of its picker, in order. `left_out` maps the path of each empty
    input to the name of its picker. The name is "" if the user gave none.

    Raises
    ------
    InputError
        If there is only one picker, or the parameters contain an unknown picker.
    """
    if not params.counts_votes:
        return None
    names = [
        *dict.fromkeys(
            [*(name for _, name in pickers), *(name or path for path, name in left_out.items())]
        )
    ]
    if len(names) < 2:
        raise InputError(
            f"{parameter(params.votes_parameter)} needs several pickers, but {names[0]} is the only one. "
            "Add the picks of another picker, or give the inputs different names."
        )
    number = {name: n for n, name in enumerate(names)}
    of_path = {as_input(path): name or path for path, name in [*pickers, *left_out.items()]}
    named = {}
    for which in NAMED_PICKERS:
        found = [of_path.get(text, text) for text in getattr(params, which)]
        unknown = next((text for text in found if text not in number), None)
        if unknown is not None:
            raise InputError(
                f"{parameter(which)} has {unknown}, which is neither an input nor one of the pickers: "
                f"{', '.join(names)}. Write it like the path of the input, or like the name of the picker."
            )
        named[which] = tuple(sorted({number[name] for name in found}))
    return Voting(
        pickers=tuple(names),
        picker_of=tuple(number[name] for _, name in pickers),
        min_votes=params.min_votes,
        relax_unseen=params.relax_unseen,
        **named,
    )
