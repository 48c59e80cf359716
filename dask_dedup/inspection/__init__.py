"""What is in particle tables, before a run: fields, problems, distances, and whether inputs fit together."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dask_dedup import checks
from dask_dedup.errors import InputError
from dask_dedup.formats import StoredSchema, open_table
from dask_dedup.inspection import words
from dask_dedup.inspection.matching import Match, ShiftTest, compare_shifts, match
from dask_dedup.inspection.neighbours import Centres, Neighbourhood, look_around
from dask_dedup.inspection.survey import Survey, Tally, survey_inputs
from dask_dedup.inspection.views import View, choose_views, find_roles, note
from dask_dedup.job import Job
from dask_dedup.micrographs import bare_name, read_micrographs
from dask_dedup.params import DedupParams
from dask_dedup.roles import check_flip, check_pixel_size

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Angstrom; partners are looked for within this where the parameters ask for equal coordinates.
_SEPARATION = 20.0
_FILAMENTS = ("filament/filament_uid", "rlnHelicalTubeID")
_SYMMETRY = ("sym_expand/src_uid",)


@dataclass(frozen=True, slots=True)
class Score:
    """A column that a user may rank by.

    Attributes
    ----------
    field : str
        The ``--score-field`` that ranks by it.
    column : str
    used : bool
        Whether the parameters ask for it.
    least, greatest : float
        Without what stands for no score; infinite where no row has one.
    warnings : tuple of str
    """

    field: str
    column: str
    used: bool
    least: float
    greatest: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InspectedInput:
    """What one input holds.

    Attributes
    ----------
    path, format, convention : str
    rows, files, bytes, micrographs : int
    per_micrograph : tuple of float
        Least, median and greatest number of particles; empty where there are none.
    fields : dict of str to tuple of str
        Columns by the part they play; empty where the part has no column.
    position_unit : {"fraction", "pixel", "angstrom"}
        Of the stored positions.
    pixel_size : tuple of float
        Least and greatest micrograph pixel size, angstrom; empty where it is not known.
    pixel_size_source : str
    unit : {"A", "px"}
        Of all distances.
    scores : tuple of Score
    half_sets : dict of int to int
        Rows of each; -1 for none.
    neighbourhood : Neighbourhood or None
        None where no two particles could be measured.
    shift : ShiftTest or None
        None where there is no shift.
    """

    path: str
    format: str
    convention: str
    rows: int
    files: int
    bytes: int
    micrographs: int
    per_micrograph: tuple[float, ...]
    fields: dict[str, tuple[str, ...]]
    position_unit: str
    pixel_size: tuple[float, ...]
    pixel_size_source: str
    unit: str
    scores: tuple[Score, ...]
    half_sets: dict[int, int]
    neighbourhood: Neighbourhood | None
    shift: ShiftTest | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two inputs, by ordinal, and how they match; None where they share no measured micrograph."""

    one: int
    other: int
    match: Match | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found.

    Attributes
    ----------
    inputs : tuple of InspectedInput
    pairs : tuple of Pair
        Empty where the inputs cannot be compared.
    together : Neighbourhood or None
        Of all inputs as one, after the flips advised.
    flips : tuple of int
        Ordinals of the inputs to be flipped, since their y runs the other way.
    measured : dict of str to int
        ``picks`` and ``micrographs`` that distances were measured on, and ``of_micrographs``.
    problems : tuple of str
        What a run with the same parameters would refuse.
    warnings : tuple of str
    advice : tuple of str
    """

    inputs: tuple[InspectedInput, ...]
    pairs: tuple[Pair, ...]
    together: Neighbourhood | None
    flips: tuple[int, ...]
    measured: dict[str, int]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain values, for JSON; a number that is not known is None."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def lines(self) -> list[str]:
        """The findings in words, for a terminal of 100 columns."""
        return words.describe(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): _plain(part)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def inspect(
    inputs: Sequence[str | Path] | str | Path,
    *,
    params: DedupParams | None = None,
    micrographs: str | Path | None = None,
) -> Inspection:
    """Tell what is in particle tables, what a run would make of them, and whether they fit together.

    Parameters
    ----------
    inputs : path or sequence of paths
        As for `run`.
    params : DedupParams, optional
        Which columns to look at; partners are looked for within its `min_separation`.
    micrographs : path, optional
        Table that gives each micrograph its pixel size and shape.

    Returns
    -------
    Inspection
        What a run would refuse is among its `problems`. Without a pixel size, distances are in pixels
        and leave shifts out.

    Raises
    ------
    InputError
        If a table cannot be read or has no positions, or the parameters contradict the tables.
    """
    params = params or DedupParams()
    params = replace(
        params,
        min_separation=params.min_separation or _SEPARATION,
        undo_symmetry_expansion=False,
        ignore_within_filament=False,
    )
    paths = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    if not paths:
        raise InputError("no input: name at least one particle table")
    tables = [open_table(path, source) for source, path in enumerate(paths)]
    problems: list[str] = []
    roles, comparable = find_roles(tables, params, problems)
    exposures = None
    if micrographs:
        exposures = read_micrographs(open_table(micrographs), match=roles[0].match)
    for table, role in zip(tables, roles, strict=True):
        if table.source in params.flip_y:
            check_flip(role, params, exposures, table.path)
        note(problems, check_pixel_size, role, params, exposures, table.path)
    fragments = [fragment for table in tables for fragment in table.fragments]
    job = Job(
        tables=tuple(tables),
        fragments=tuple(replace(part, number=n) for n, part in enumerate(fragments)),
        roles=tuple(roles),
        params=params,
        micrographs=exposures,
        stored_schema=StoredSchema.of(pa.schema([])),
        native_names=(),
        output_format="native",
        staging="",
    )
    views = choose_views(job, comparable=comparable)
    found = survey_inputs(job, views)
    for tally in found.tallies:
        for check in (checks.check_rows, checks.check_names, checks.check_uids):
            note(problems, check, job, tally.censuses)
    return _conclude(job, views, found, comparable=comparable, problems=problems)


def _conclude(
    job: Job, views: Sequence[View], found: Survey, *, comparable: bool, problems: list[str]
) -> Inspection:
    samples = found.samples
    around = _look_around(views, samples)
    pairs: tuple[Pair, ...] = ()
    together = None
    if comparable and len(samples) > 1:
        radius = _radius(job, views, around)
        pairs = tuple(
            Pair(one, other, match(samples[one], samples[other], radius))
            for one, other in combinations(range(len(samples)), 2)
        )
    flips = _choose_flips(job, pairs)
    edges = next((one.edges for one in around if one), None)
    if comparable and len(samples) > 1 and edges:
        alike = [_flip(sample, flips.get(n)) for n, sample in enumerate(samples)]
        together = look_around([_joined(alike)], edges)[0]
    inputs = tuple(
        _describe(job, n, view, found.tallies[n], samples[n], around[n])
        for n, view in enumerate(views)
    )
    censuses = [census for tally in found.tallies for census in tally.censuses]
    warnings = checks.find_warnings(job, censuses)
    warnings += _shift_warnings(inputs, pairs)
    if found.uid_share > 1:
        warnings.append(f"uids were compared for one in {found.uid_share}, chosen by hash")
    advice = []
    if pairs and not any(pair.match for pair in pairs):
        advice += _other_names(job, found.tallies)
    if flips:
        advice.append(_flip_advice(job, views, found, flips))
    if together or len(inputs) == 1:
        advice += _separation_advice(together or inputs[0].neighbourhood, views[0].unit)
    return Inspection(
        inputs=inputs,
        pairs=pairs,
        together=together,
        flips=tuple(sorted(flips)),
        measured={
            "picks": sum(map(len, samples)),
            "micrographs": found.measured,
            "of_micrographs": found.micrographs,
        },
        problems=tuple(problems),
        warnings=tuple(warnings),
        advice=tuple(advice),
    )


def _look_around(views: Sequence[View], samples: Sequence[Centres]) -> list[Neighbourhood | None]:
    """Look around within each input; those with one unit have histograms with one set of bins."""
    around: list[Neighbourhood | None] = [None] * len(samples)
    for unit in dict.fromkeys(view.unit for view in views):
        some = [n for n, view in enumerate(views) if view.unit == unit and len(samples[n]) > 1]
        for number, found in zip(some, look_around([samples[n] for n in some]), strict=True):
            around[number] = found
    return around


def _radius(job: Job, views: Sequence[View], around: Sequence[Neighbourhood | None]) -> float:
    """Choose the distance of partners: the separation, or in pixels half of what is between particles."""
    if views[0].unit == "A":
        return job.params.min_separation
    known = [one for one in around if one and one.nearest]
    begin = [one.spacing.neighbours_begin for one in known if one.spacing]
    apart = begin or [one.nearest[50.0] for one in known if one.nearest[50.0] > 0]
    return min(apart) / 2 if apart else 1.0


def _choose_flips(job: Job, pairs: Sequence[Pair]) -> dict[int, float]:
    """Choose the inputs to flip, the fewest, such that y runs one way in all; and about what height.

    Of as many, those are flipped that need no height to be told, or else the later ones.
    """
    known = [
        (pair, pair.match.flip)
        for pair in pairs
        if pair.match and pair.match.flip.verdict != "unclear"
    ]
    heights = {
        number: flip.height
        for pair, flip in known
        for number in (pair.one, pair.other)
        if flip.verdict == "opposite" and flip.height is not None
    }
    flips: dict[int, float] = {}
    turned: dict[int, bool] = {}
    for start in range(len(job.tables)):
        if start in turned:
            continue
        turned[start], group = False, [start]
        for number in group:
            for pair, flip in known:
                if number in (pair.one, pair.other):
                    neighbour = pair.one + pair.other - number
                    if neighbour not in turned:
                        turned[neighbour] = turned[number] ^ (flip.verdict == "opposite")
                        group.append(neighbour)
        sides = [[n for n in group if turned[n] is side] for side in (True, False)]
        fewest = min(
            sides, key=lambda side: (len(side), any(job.roles[n].unit == "pixel" for n in side))
        )
        flips |= {number: heights[number] for number in fewest if number in heights}
    return flips


def _flip(centres: Centres, height: float | None) -> Centres:
    if height is None:
        return centres
    return centres.flipped(None if np.isfinite(centres.height).all() else height)


def _joined(parts: Sequence[Centres]) -> Centres:
    return Centres(
        micrograph=np.concatenate([part.micrograph for part in parts]),
        points=np.concatenate([part.points for part in parts]),
        shift=None,
        height=np.concatenate([part.height for part in parts]),
    )


def _describe(
    job: Job,
    source: int,
    view: View,
    tally: Tally,
    sample: Centres,
    around: Neighbourhood | None,
) -> InspectedInput:
    table, roles = job.tables[source], job.roles[source]
    names = table.schema.names
    columns: dict[str, tuple[str | None, ...]] = {
        "micrograph": (roles.micrograph,),
        "position": roles.position,
        "micrograph shape": (roles.shape,),
        "pixel size": (roles.psize_mic,),
        "shift": (*roles.shift, roles.psize_shift),
        "score": (roles.score,),
        "uid": (roles.uid,),
        "half-set": (roles.half,),
        "filament": _FILAMENTS,
        "symmetry source": _SYMMETRY,
    }
    counts = [count for key, count in tally.counts.items() if key]
    sizes = np.array([census.psize for census in tally.censuses])
    sizes = sizes[np.isfinite(sizes)]
    shift = None
    if sample.shift is not None and len(sample) > 1:
        spacing = around.spacing.neighbours_begin if around and around.spacing else np.inf
        shift = compare_shifts(sample, min(job.params.min_separation, spacing / 2))
    return InspectedInput(
        path=table.path,
        format=table.format,
        convention=roles.convention,
        rows=table.rows,
        files=len(table.files),
        bytes=table.bytes,
        micrographs=len(counts),
        per_micrograph=(min(counts), float(np.median(counts)), max(counts)) if counts else (),
        fields={
            part: tuple(name for name in some if name and name in names)
            for part, some in columns.items()
        },
        position_unit=roles.unit,
        pixel_size=(float(sizes.min()), float(sizes.max())) if sizes.size else (),
        pixel_size_source=_pixel_size_source(job, source),
        unit=view.unit,
        scores=tuple(
            Score(
                field=view.scores[column],
                column=column,
                used=column == roles.score,
                least=found.low,
                greatest=found.high,
                warnings=tuple(checks._score_warnings(column, found)) if found.rows else (),
            )
            for column, found in tally.scores.items()
        ),
        half_sets=dict(sorted(tally.half_sets.items())),
        neighbourhood=around,
        shift=shift,
    )


def _pixel_size_source(job: Job, source: int) -> str:
    roles = job.roles[source]
    if roles.unit == "angstrom":
        return "not needed"
    if job.micrographs is not None:
        return job.micrographs.path
    if roles.psize_mic is not None:
        return roles.psize_mic
    return "--micrograph-pixel-size" if job.params.micrograph_pixel_size else "not known"


def _shift_warnings(inputs: Sequence[InspectedInput], pairs: Sequence[Pair]) -> list[str]:
    tests = [(entry.path, entry.shift) for entry in inputs]
    tests += [
        (f"{inputs[pair.one].path} and {inputs[pair.other].path}", pair.match.shift)
        for pair in pairs
        if pair.match
    ]
    reasons = {
        "plus": "are closest with their shifts added, though subtracting is the rule: what wrote them?",
        "none": "are closest with their shifts left out: were they applied before (then use "
        "--shift-key none), or are they symmetry copies?",
    }
    return [
        f"{which}: the duplicates {reasons[test.verdict]}"
        for which, test in tests
        if test and test.verdict in reasons
    ]


def _other_names(job: Job, tallies: Sequence[Tally]) -> list[str]:
    """Say where micrographs of different paths have the same bare name."""
    if job.roles[0].match != "path":
        return []
    known = [
        {bare_name(name) for census in tally.censuses for name in census.names if name}
        for tally in tallies
    ]
    shared = sum(len(one & other) for one, other in combinations(known, 2))
    if not shared:
        return []
    return [f"{shared:,} micrographs have the same bare name: use --match-micrographs name"]


def _flip_advice(job: Job, views: Sequence[View], found: Survey, flips: dict[int, float]) -> str:
    wanted = sorted(set(job.params.flip_y) ^ set(flips))
    if not wanted:
        return "leave out --flip-y"
    options = [f"--flip-y {job.tables[number].path}" for number in wanted]
    told = job.micrographs is not None and job.micrographs.shape is not None
    for number in wanted:
        if job.roles[number].unit == "pixel" and not told and number in flips:
            size = _mean_pixel_size(views[number], found.tallies[number])
            options.append(f"--micrograph-height {flips[number] / size:.0f}")
            break
    return f"y does not run the same way in all inputs: use {' '.join(options)}"


def _mean_pixel_size(view: View, tally: Tally) -> float:
    if view.unit == "px":
        return 1.0
    return float(np.nanmean([census.psize for census in tally.censuses]))


def _separation_advice(around: Neighbourhood | None, unit: str) -> list[str]:
    if around is None:
        return []
    if around.spacing is None:
        closest = around.nearest.get(5.0, 0.0)
        most = f" (95% have none within {closest:.3g} {unit})" if closest else ""
        return [
            f"no gap shows between duplicates and real neighbours{most}: choose --min-separation by "
            "the particle's diameter"
        ]
    begin, end = around.spacing.neighbours_begin, around.spacing.duplicates_end
    size = " (times the pixel size)" if unit == "px" else ""
    if end:
        return [
            f"duplicates lie within about {end:.3g} {unit}, real neighbours begin at about "
            f"{begin:.3g} {unit}: choose --min-separation between the two{size}"
        ]
    return [
        f"real neighbours begin at about {begin:.3g} {unit}: choose --min-separation below that{size}"
    ]
