"""Read parameters from options that may have a value for a single input, ``INPUT=value``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.params import PER_INPUT, RENAMES, DedupParams
from dask_dedup.dedup.per_input import as_input, split_input
from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path


def params_by_input(
    paths: Mapping[str, Sequence[str]],
    given: dict[str, Any],
    micrographs: Path | None = None,
    **values: Any,
) -> DedupParams:
    """Make the parameters from the options, which are removed from `given`, and from other `values`.

    `paths` maps each name in ``INPUT=value`` to its inputs.
    """
    for name in DedupParams().to_dict():
        if name not in given:
            continue
        values[name] = given.pop(name)
        if name in PER_INPUT:
            parse = _PARSERS.get(name, _number_for)
            values[name] = _by_path((parse(name, text, [*paths]) for text in values[name]), paths)
        elif name == RENAMES:
            known = [*paths, *([str(micrographs)] if micrographs else [])]
            values[name] = _by_path((_rename_for(text, known) for text in values[name]), paths)
        elif name == "micrograph_map" and values[name]:
            from dask_dedup.particles.micrographs.name_map import read_micrograph_map

            values[name] = read_micrograph_map(values[name])
    return DedupParams(**values)


def _by_path(
    pairs: Iterable[tuple[str, Any]], paths: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, Any], ...]:
    """Replace each name of a picker by the paths of its inputs."""
    return tuple((path, value) for key, value in pairs for path in paths.get(as_input(key), [key]))


def _rename_for(text: str, inputs: list[str]) -> tuple[str, str]:
    """Split ``[INPUT=]s/PATTERN/NEW/`` into an input and a substitution."""
    path, rename = split_input(text, inputs)
    unknown, equals, _ = rename.partition("=s")
    if equals and not (unknown[:1] == "s" and not unknown[1:2].isalnum()):
        _refuse_unknown_input(f"--rename-micrographs {text}", f"{unknown}=", inputs)
    return path, rename


def _number_for(name: str, text: str, inputs: list[str]) -> tuple[str, float]:
    """Parse ``[INPUT=]NUMBER`` to an input and a number. The input is empty if the number is for all inputs."""
    path, number = split_input(text, inputs)
    try:
        return path, float(number)
    except ValueError as error:
        flag = f"--{name.replace('_', '-')} {text}"
        _refuse_unknown_input(flag, number, inputs)
        raise InputError(f"{flag}: {number!r} is not a number.") from error


def _score_for(name: str, text: str, inputs: list[str]) -> tuple[str, str]:
    """Split ``[INPUT=]FIELD`` into an input and a score. The input is empty if the score is for all inputs."""
    path, field = split_input(text, inputs)
    _refuse_unknown_input(f"--{name.replace('_', '-')} {text}", field, inputs)
    return path, field


def _columns_for(name: str, text: str, inputs: list[str]) -> tuple[str, str]:  # noqa: ARG001
    """Split ``[INPUT=]x=COLUMN,y=COLUMN`` into an input and the columns."""
    return split_input(text, inputs)


_PARSERS: dict[str, Callable[[str, str, list[str]], tuple[str, Any]]] = {
    "score_field": _score_for,
    "columns": _columns_for,
}


def _refuse_unknown_input(flag: str, value: str, inputs: Sequence[str]) -> None:
    """Raise InputError if `value` still has the form ``INPUT=value``."""
    unknown, equals, _ = value.rpartition("=")
    if equals:
        shown = ", ".join(inputs[:5]) + (", ..." if len(inputs) > 5 else "")
        raise InputError(
            f"{flag}: {unknown} is not one of the inputs, which are {shown}. Use the path or name of an input."
        )
