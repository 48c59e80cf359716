"""Combine single pick files into inputs, and adapt the parameters that contain paths or numbers of inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.params import PER_INPUT, RENAMES
from dask_dedup.dedup.per_input import NAMED_PICKERS, as_input
from dask_dedup.errors import InputError
from dask_dedup.formats import group_files
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.formats import GroupedInput


def group_inputs(
    paths: Sequence[str | Path], names: Mapping[str, str], params: DedupParams
) -> tuple[list[str | Path], DedupParams]:
    """Combine `paths` into inputs (see `group_files`). Return the inputs, and the parameters for these inputs.

    Raises
    ------
    InputError
        If a parameter is only for some of the files of an input.
    """
    groups = group_files(paths, names, params)
    if [group.path for group in groups] != list(paths):
        flipped = set(params.flip_y)
        flip_y = [n for n, group in enumerate(groups) if _is_flipped(group, flipped, paths)]
        # Numbers without an input stay invalid, and `check_inputs` refuses them.
        unknown = [max(n, len(groups)) for n in params.flip_y if not 0 <= n < len(paths)]
        changes: dict[str, Any] = {
            name: _for_groups(name, getattr(params, name), groups, paths)
            for name in (*PER_INPUT, RENAMES)
        }
        group_of = {as_input(paths[n]): str(group.path) for group in groups for n in group.ordinals}
        for name in NAMED_PICKERS:
            changes[name] = tuple(group_of.get(text, text) for text in getattr(params, name))
        params = replace(params, **changes, flip_y=(*flip_y, *unknown))
    return [group.path for group in groups], params


def _is_flipped(group: GroupedInput, flipped: set[int], paths: Sequence[str | Path]) -> bool:
    given = [n for n in group.ordinals if n in flipped]
    if given and len(given) < len(group.ordinals):
        other = next(n for n in group.ordinals if n not in flipped)
        raise _one_input_error("flip_y", paths[given[0]], paths[other], group)
    return bool(given)


def _for_groups(
    name: str,
    pairs: Sequence[tuple[str, Any]],
    groups: Sequence[GroupedInput],
    paths: Sequence[str | Path],
) -> tuple[tuple[str, Any], ...]:
    """Return the (input, value) pairs of a parameter. Replace the inputs in `paths` by the inputs in `groups`."""
    values: dict[str, list[Any]] = {}
    for path, value in pairs:
        values.setdefault(path, []).append(value)
    of_groups = {as_input(group.path) for group in groups}
    found: dict[str, list[Any]] = {}
    for group in groups:
        members = [as_input(paths[n]) for n in group.ordinals]
        given = next((each for each in members if each in values), None)
        if given is None or as_input(group.path) in values:
            continue
        other = next((each for each in members if values.get(each) != values[given]), None)
        if other is not None:
            raise _one_input_error(name, given, other, group)
        found[as_input(group.path)] = values[given]
    gone = {as_input(path) for path in paths} - of_groups
    kept = {path: each for path, each in values.items() if path not in gone}
    return tuple((path, value) for path, each in (kept | found).items() for value in each)


def _one_input_error(name: str, given: object, other: object, group: GroupedInput) -> InputError:
    return InputError(
        f"{parameter(name)} has a value for {given} that {other} lacks, but both are files of one input, "
        f"{group.path}. Pass it for {group.path}, or pass the folders in place of the files."
    )
