"""Compare sets of picks of a copick project in memory, and store the result as new sets of picks.

Points are stored as they were read. The centre of a particle is the location of its point plus the
translation of its transformation, in angstrom.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.params import PER_INPUT, DedupParams
from dask_dedup.dedup.per_input import NAMED_PICKERS, as_input
from dask_dedup.dedup.score_field import DEFAULT_SCORE
from dask_dedup.errors import InputError
from dask_dedup.formatting import counted
from dask_dedup.frames import reject_rows
from dask_dedup.hints import Message, parameter
from dask_dedup.integrations.copick.plan import check_outputs, find_inputs, plan_groups
from dask_dedup.integrations.copick.sets import (
    Group,
    LoadedSet,
    SetName,
    as_table,
    by_run,
    find_copies,
    listed,
    load,
    logging_progress,
    reason,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa
    from copick.models import CopickPicks, CopickRoot

#: Value of `score_field` for the score of copick's points.
SCORE = "score:higher"

log = logging.getLogger("dask_dedup")
data_warnings = logging.getLogger("dask_dedup.warnings")


@dataclass(frozen=True, slots=True)
class CopickResult:
    """Sets of picks that `remove_duplicate_picks` has read and stored.

    Attributes
    ----------
    sets : list of LoadedSet
        The sets that were read.
    kept, rejected : list of SetName
        Names of the sets that were stored in each run, one set for each object.
    """

    sets: list[LoadedSet]
    kept: list[SetName]
    rejected: list[SetName]

    def counts(self, key: Callable[[LoadedSet], str]) -> list[tuple[str, int, int]]:
        """Return the numbers of all and of rejected points for each value of `key`."""
        counts: dict[str, tuple[int, int]] = {}
        for each in self.sets:
            points, rejected = counts.get(key(each), (0, 0))
            counts[key(each)] = (points + len(each.points), rejected + int(each.rejected.sum()))
        return [(name, *both) for name, both in counts.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts of each set, and the names of the outputs, as a dict for JSON."""
        return {
            "kept": [*map(str, self.kept)],
            "rejected": [*map(str, self.rejected)],
            "sets": [
                {
                    "input": str(each.name),
                    "run": each.run,
                    "points": len(each.points),
                    "rejected": int(each.rejected.sum()),
                }
                for each in self.sets
            ],
        }


def remove_duplicate_picks(
    project: str | Path | CopickRoot,
    inputs: Sequence[str],
    output: str,
    params: DedupParams | None = None,
    *,
    rejected: str | None = None,
    run_names: Sequence[str] = (),
    combine_objects: bool = False,
    renumber_filaments: bool = False,
    overwrite: bool = False,
    **keywords: Any,
) -> CopickResult:
    """Remove duplicates from the picks of a copick project, and store the result as new sets of picks.

    Parameters
    ----------
    project : path or CopickRoot
        The project, or its configuration file.
    inputs : sequence of str
        Names of sets, ``object:user/session``. The patterns of copick are allowed: ``*``, ``?``, or a regular
        expression after ``re:``. A run may lack some of the sets.
    output : str
        Name of the set of the kept points. Without an object, as in ``:user/session``, each object gets its own set.
    params : DedupParams, optional
        In parameters of single inputs, use the names in `inputs`.
    rejected : str, optional
        Name of the set of the rejected points.
    run_names : sequence of str
        Runs to read and write. Default: all.
    combine_objects : bool
        Compare the picks of all objects with each other, and store them as the object of `output`.
    renumber_filaments : bool
        Change the instance ids of the second and later inputs, so that all filaments have different ids.
    overwrite : bool
        Replace sets that have the names of `output` and `rejected`.
    **keywords
        The parameters of `DedupParams`, instead of `params`.

    Returns
    -------
    CopickResult

    Raises
    ------
    InputError
        If an input is missing or cannot be compared, an output exists, or a parameter is wrong. Nothing was stored.
    RunError
        If a set cannot be stored. Sets that were stored before the error stay.
    """
    params = DedupParams.given(params, keywords)
    root = open_project(project)
    found = find_inputs(root, inputs, run_names)
    groups = plan_groups(found, output, rejected, combine_objects=combine_objects)
    sets = {name: picks for each in found.values() for name, picks in each.items()}
    check_outputs(root, groups, sets, overwrite=overwrite)
    params = _for_sets(params, found)
    loaded = _load_all([picks for each in sets.values() for picks in each])
    result = [(group, [each for name in group.inputs for each in loaded[name]]) for group in groups]
    for group, chosen in result:
        _decide(chosen, params.without_inputs(*_left_out([*sets], group.inputs)))
        _check_together(root, group, chosen, renumber=renumber_filaments)
    store(result, renumber=renumber_filaments)
    return CopickResult(
        [each for _, chosen in result for each in chosen],
        [group.kept for group in groups],
        [group.rejected for group in groups if group.rejected],
    )


def open_project(project: str | Path | CopickRoot) -> CopickRoot:
    """Open a project by its configuration file. Return an open project as it is."""
    import copick

    if not isinstance(project, str | Path):
        return project
    try:
        return copick.from_file(str(project))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{project}: cannot be read as the configuration of a copick project: {reason(error)}"
        ) from error


def _for_sets(
    params: DedupParams, found: Mapping[str, Mapping[SetName, Sequence[CopickPicks]]]
) -> DedupParams:
    """Convert parameters for inputs to parameters for the sets of each input. Use the score of copick."""
    params.check_inputs(found)
    members = {as_input(uri): [str(name) for name in sets] for uri, sets in found.items()}
    changes: dict[str, Any] = {
        name: tuple(
            (member, SCORE if value == DEFAULT_SCORE else value)
            for uri, value in getattr(params, name)
            for member in members.get(uri, [uri])
        )
        for name in PER_INPUT
    }
    changes |= {
        name: tuple(
            member for uri in getattr(params, name) for member in members.get(as_input(uri), [uri])
        )
        for name in NAMED_PICKERS
    }
    return replace(params, **changes)


def _left_out(sets: Sequence[SetName], chosen: Iterable[SetName]) -> tuple[list[str], set[int]]:
    """Return the names of all sets, and the numbers of the sets that are not chosen."""
    return [*map(str, sets)], {n for n, name in enumerate(sets) if name not in set(chosen)}


def _load_all(every: Sequence[CopickPicks]) -> dict[SetName, list[LoadedSet]]:
    """Load the points of all sets. Return the sets of each name."""
    runs = {picks.run.name for picks in every}
    log.info("reading %s of picks in %s", counted(len(every), "set"), counted(len(runs), "run"))
    loaded: dict[SetName, list[LoadedSet]] = {}
    for picks in logging_progress(every, "read"):
        each = load(picks)
        loaded.setdefault(each.name, []).append(each)
    return loaded


def _decide(loaded: Sequence[LoadedSet], params: DedupParams) -> None:
    """Find the rejected points of sets. `loaded` has the sets of one input after the sets of another input."""
    inputs: dict[str, dict[str, pa.Table]] = {}
    for each in loaded:
        inputs.setdefault(str(each.name), {})[each.run] = as_table(each.points, each.run)
    for each, mask in zip(loaded, reject_rows(inputs, params), strict=True):
        each.rejected = mask


def _check_together(
    root: CopickRoot, group: Group, loaded: Sequence[LoadedSet], *, renumber: bool
) -> None:
    """Warn about copied inputs, about orientations that are not trusted, and about repeated filament numbers."""
    if copies := find_copies(loaded):
        data_warnings.warning(
            "all points of %s are also in other inputs, with the same score and orientation. Leave out results of "
            "earlier calls: a copy is a duplicate of its original, and counts as a vote for the original.",
            listed(map(str, copies)),
        )
    if len({each.trusted for each in loaded if each.points}) > 1:
        without = listed(str(each.name) for each in loaded if not each.trusted)
        data_warnings.warning(
            "%s: orientations are marked as not trusted, because the orientations of %s are not trusted",
            group.kept,
            without,
        )
    clashing = [
        run
        for run, sets in by_run(loaded).items()
        if sum(len(each.filaments) for each in sets)
        > len(set().union(*(each.filaments for each in sets)))
    ]
    if clashing and not renumber and root.get_object(group.kept.object).is_filament:
        data_warnings.warning(
            "%s",
            Message(
                f"{group.kept}: filaments of different inputs have the same instance_id in "
                f"{counted(len(clashing), 'run')} (first: {clashing[0]}). Consider "
                f"{parameter('renumber_filaments')}."
            ),
        )
