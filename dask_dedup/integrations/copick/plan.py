"""Choose the sets of picks that are compared with each other, and the names of the result."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.integrations.copick.sets import Group, SetName, listed, reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from copick.models import CopickPicks, CopickRoot

#: User of an output without a user.
USER = "dask-dedup"

log = logging.getLogger("dask_dedup")


def find_inputs(
    root: CopickRoot, inputs: Sequence[str], run_names: Sequence[str]
) -> dict[str, dict[SetName, list[CopickPicks]]]:
    """Find the sets of each input by name, in all runs. A set that matches several inputs belongs to the first."""
    from copick.util.uri import resolve_copick_objects

    missing = [name for name in run_names if root.get_run(name) is None]
    if missing:
        known = listed(run.name for run in root.runs)
        raise InputError(f"run {missing[0]}: no such run in the project, which has {known}.")
    found: dict[str, dict[SetName, list[CopickPicks]]] = {}
    taken: set[SetName] = set()
    for uri in inputs:
        try:
            every = [
                picks
                for run in (dict.fromkeys(run_names) or (None,))
                for picks in resolve_copick_objects(uri, root, "picks", run_name=run)
            ]
        except ValueError as error:
            raise InputError(f"{uri}: {reason(error)}. Write OBJECT:USER/SESSION.") from error
        if not every:
            names = {SetName.of(picks) for run in root.runs for picks in run.picks}
            known = listed(map(str, sorted(names))) or "no picks"
            where = "these runs" if run_names else "the project"
            raise InputError(f"{uri}: no such picks in {where}. The project has {known}.")
        by_name: dict[SetName, list[CopickPicks]] = {}
        for picks in every:
            by_name.setdefault(SetName.of(picks), []).append(picks)
        found[uri] = {name: by_name[name] for name in sorted(by_name) if name not in taken}
        taken |= set(by_name)
    return found


def plan_groups(
    found: dict[str, dict[SetName, list[CopickPicks]]],
    output: str,
    rejected: str | None,
    *,
    combine_objects: bool,
) -> list[Group]:
    """Group the sets that are compared with each other. Remove sets that are outputs from `found`."""
    objects = dict.fromkeys(name.object for each in found.values() for name in each)
    kept = {each: _output_name("output", output, each) for each in objects}
    aside = {
        each: _output_name("rejected", rejected, kept[each].object) if rejected else None
        for each in objects
    }
    written = {*kept.values(), *filter(None, aside.values())}
    for uri, sets in found.items():
        for name in written & set(sets):
            if str(name) == uri:
                raise InputError(f"{name} is an input and an output. Choose another output.")
            log.info("%s matches %s, which is an output and is not read", uri, name)
            del sets[name]
    inputs = [name for each in found.values() for name in each]
    if not inputs:
        raise InputError(f"{', '.join(found)}: only the output picks.")
    objects = dict.fromkeys(name.object for name in inputs)
    named = {name.object for each in objects for name in (kept[each], aside[each]) if name}
    if combine_objects:
        if len(named) > 1:
            raise InputError(
                f"{parameter('combine_objects')} needs outputs of one object, but the outputs are of "
                f"{listed(sorted(named))}. Write {parameter('output')} as OBJECT:USER/SESSION."
            )
        first = next(iter(objects))
        groups = [Group(inputs, kept[first], aside[first])]
    else:
        if not named <= set(objects) or any(kept[each].object != each for each in objects):
            raise InputError(
                f"the inputs are picks of {listed(objects)}, the output is of {listed(sorted(named))}. "
                f"Write the output as :USER/SESSION, so that each object has its own output, or pass "
                f"{parameter('combine_objects')} to compare and store all as one object."
            )
        groups = [
            Group([name for name in inputs if name.object == each], kept[each], aside[each])
            for each in objects
        ]
    for group in groups:
        if group.kept == group.rejected:
            raise InputError(
                f"{group.kept} is the name of both outputs. Change {parameter('rejected')}."
            )
    return groups


def _output_name(option: str, text: str, of_object: str) -> SetName:
    """Return the name of an output as copick stores it. If the text has no object, use the object `of_object`."""
    from copick.util.escape import sanitize_name
    from copick.util.uri import expand_output_uri, parse_copick_uri

    try:
        given = f"{of_object}{text}" if text.startswith(":") else text
        uri = expand_output_uri(given, f"{of_object}:{USER}/1", "picks", "picks", USER)
        parsed = parse_copick_uri(uri, "picks")
        names = [parsed[key] for key in ("object_name", "user_id", "session_id")]
        if parsed["pattern_type"] != "glob" or any(set(name) & set("*?[]{}") for name in names):
            raise ValueError("a pattern is not a name")
        stored = SetName(*(sanitize_name(name, suppress_warnings=True) for name in names))
    except ValueError as error:
        raise InputError(
            f"{parameter(option)} {text!r}: {reason(error)}. Write OBJECT:USER/SESSION."
        ) from error
    if list(stored) != names:
        log.info("%s is stored as %s, because copick allows no other characters", uri, stored)
    return stored


def check_outputs(
    root: CopickRoot,
    groups: Sequence[Group],
    sets: Mapping[SetName, Sequence[CopickPicks]],
    *,
    overwrite: bool,
) -> None:
    """Raise InputError if the project does not have the object of an output, or a run has the output already."""
    known = [each.name for each in root.config.pickable_objects]
    for group in groups:
        runs = {picks.run.name: picks.run for name in group.inputs for picks in sets[name]}
        for name in group.outputs:
            if name.object not in known:
                raise InputError(
                    f"{name}: the project has no object {name.object}, but {listed(known)}."
                )
            there = {
                run: picks[0]
                for run, each in runs.items()
                if (picks := each.get_picks(name.object, name.user, name.session))
            }
            if there and not overwrite:
                raise InputError(
                    f"{name} exists in {counted(len(there), 'run')} ({listed(there)}). Choose another "
                    f"output, or pass {parameter('overwrite')} to replace it."
                )
            fixed = [run for run, picks in there.items() if getattr(picks, "read_only", False)]
            if fixed:
                raise InputError(f"{name} is read only in {listed(fixed)}. Choose another output.")
