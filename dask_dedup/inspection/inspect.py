"""Inspect particle tables before a run: columns, problems, distances, and agreement of the inputs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.formats import (
    describe_picks,
    find_notes,
    has_scores,
    open_table,
    open_tables,
    read,
    score_label,
)
from dask_dedup.hints import Message
from dask_dedup.inspection.advice import advise, choose_flips, find_warnings
from dask_dedup.inspection.columns import (
    NO_SHIFT,
    find_roles,
    record,
    score_columns,
    with_stand_ins,
)
from dask_dedup.inspection.contents import InspectedInput, Neighbourhood, Pair, Score
from dask_dedup.inspection.matching import compare_shifts, match
from dask_dedup.inspection.neighbours import Centres, measure_neighbourhoods
from dask_dedup.inspection.report import Inspection
from dask_dedup.inspection.separation import (
    InspectedSample,
    advise_separation,
    check_separations,
)
from dask_dedup.inspection.survey import InputSurvey, Survey, survey_inputs
from dask_dedup.particles import pickers
from dask_dedup.particles.checks import scanned_inputs as checks
from dask_dedup.particles.checks.micrograph_scales import check_micrograph_sizes
from dask_dedup.particles.checks.names import check_groups, check_names, check_new_names
from dask_dedup.particles.checks.pixel_size import check_flip, check_pixel_size
from dask_dedup.particles.checks.scales import check_scales, find_scales
from dask_dedup.particles.checks.scores import score_warnings
from dask_dedup.particles.checks.uids import check_uids
from dask_dedup.particles.column_names import CRYOSPARC, RELION, SYMMETRY_SOURCE
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.grouped_inputs import group_inputs
from dask_dedup.particles.inputs import (
    Inputs,
    prepare_inputs,
)
from dask_dedup.particles.job_pixel_sizes import pixel_sizes_of_jobs
from dask_dedup.particles.pixel_sizes import UNKNOWN, find_pixel_sizes
from dask_dedup.pipeline.plan import count_micrographs
from dask_dedup.storage.access import check_access
from dask_dedup.storage.paths import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dask_dedup.formats import ParticleTable
    from dask_dedup.inspection.separation import SeparationAdvice
    from dask_dedup.particles.checks.scales import InputScale

#: Largest distance between partners, angstrom, if duplicates are particles with equal coordinates.
_SEPARATION = 20.0
_FILAMENTS = (CRYOSPARC.filament, RELION.filament)


def inspect(
    inputs: Sequence[str | Path] | str | Path,
    *,
    params: DedupParams | None = None,
    micrographs: str | Path | None = None,
    names: Mapping[str, str] | None = None,
    separations: Sequence[float] | None = None,
    **keywords: Any,
) -> Inspection:
    """Read particle tables. Report the contents, the problems, and the agreement of the tables.

    Parameters
    ----------
    inputs : path or sequence of paths
        Particle tables, as for `run`.
    params : DedupParams, optional
        Parameters of the run. Picks of two inputs match within `min_separation`.
    micrographs : path, optional
        Table with the pixel size and shape of each micrograph.
    names : mapping, optional
        Names of the pickers of inputs, {input: name}.
    separations : sequence of float, optional
        Separations in angstrom at which to count the particles that a run keeps. By default up to 32 round numbers.
    **keywords
        Parameters by name, such as ``min_separation=100``, instead of `params`.

    Returns
    -------
    Inspection
        `problems` lists the errors that `run` would raise. Without a pixel size, distances are in
        pixels, without shifts.

    Raises
    ------
    InputError
        If a table cannot be read or has no positions, or the parameters contradict the tables.
    """
    params = DedupParams.given(params, keywords)
    check_separations(separations)
    own = 0.0 if params.chooses_separation else params.min_separation
    params = replace(
        params,
        min_separation=own or _SEPARATION,
        undo_symmetry_expansion=False,
    )
    names = pickers.check_names(listed(inputs), names)
    paths, params = group_inputs(listed(inputs), names, params)
    if not paths:
        raise InputError("no input: pass at least one particle table")
    check_access([*paths, *([micrographs] if micrographs else [])])
    problems: list[str] = []
    opened, comparable = _open(paths, names, micrographs, params, problems)
    unit, measured = _choose_unit(opened)
    both = zip(opened.tables, opened.roles, strict=True)
    scores = [score_columns(table, roles, params) for table, roles in both]
    survey = survey_inputs(opened, measured, scores)
    for source, one in enumerate(survey.inputs):
        for check in (check_scales, checks.check_rows, check_names):
            record(problems, check, opened, one.summaries)
        record(problems, check_uids, opened, survey.repeated.of(source))
    every = [summary for one in survey.inputs for summary in one.summaries]
    record(problems, check_new_names, opened, every)
    record(problems, check_groups, opened, every)
    record(problems, check_micrograph_sizes, opened, every)
    advise = partial(advise_separation, measured, survey.picks, unit, separations)
    names_of = {name.key: name for summary in every for name in summary.names}
    sample = InspectedSample(measured, survey.picks, survey.sampled, names_of)
    return _conclude(opened, unit, scores, survey, problems, advise, sample, comparable=comparable)


def _open(
    paths: Sequence[str | Path],
    pickers_of: Mapping[str, str],
    micrographs: str | Path | None,
    params: DedupParams,
    problems: list[str],
) -> tuple[Inputs, bool]:
    """Open the tables as inputs. Also return whether the inputs can be compared."""
    tables, empty = open_tables(paths, params, names=pickers_of)
    params = params.without_inputs(list(map(str, paths)), empty)
    left_out = {str(paths[number]): "" for number in empty}
    listed = open_table(micrographs) if micrographs else None
    params, psize_sources = pixel_sizes_of_jobs(tables, params, listed)
    roles, comparable = find_roles(tables, params, problems, str(micrographs or ""))
    inputs = prepare_inputs(tables, roles, params, listed)
    for table, role in zip(inputs.tables, inputs.roles, strict=True):
        if table.source in params.flip_y:
            check_flip(role, params, inputs.micrographs, table.path)
        columns = () if table.format == "coordinates" else table.schema.names
        record(problems, check_pixel_size, role, params, inputs.micrographs, table.path, columns)
    return replace(inputs, left_out=left_out, psize_sources=psize_sources), comparable


def _choose_unit(inputs: Inputs) -> tuple[str, Inputs]:
    """Choose angstrom or pixels for all distances. Return the unit, and the inputs set up for that unit.

    Distances are in angstrom if every input has a pixel size, else in pixels. Distances in pixels leave out shifts,
    because shifts are in angstrom or in pixels of another size.
    """
    if all(_has_pixel_size(inputs, table) for table in inputs.tables):
        return "A", inputs
    bare = tuple(
        replace(
            roles, psize_mic=None, image=None, given_psize=1.0, overrides_psize=True, **NO_SHIFT
        )
        for roles in inputs.roles
    )
    return "px", replace(inputs, roles=bare)


def _has_pixel_size(inputs: Inputs, table: ParticleTable) -> bool:
    """Return whether the pixel size of a table is known. For a table that may be from Warp, the first rows decide."""
    roles = inputs.roles[table.source]
    if roles.binned:
        return inputs.micrographs is not None and inputs.micrographs.binned is not None
    sources = (roles.psize_mic, inputs.micrographs, roles.given_psize)
    if roles.unit == "angstrom" or any(source is not None for source in sources):
        return True
    fragment = next((each for each in table.fragments if each.rows), None)
    if roles.image is None or fragment is None:
        return False
    names = [name for name in roles.columns if name in table.schema.names]
    rows = Columns(with_stand_ins(read(table, fragment, names), roles), table.path)
    return UNKNOWN not in find_pixel_sizes(rows, roles, None).sources


def _conclude(
    inputs: Inputs,
    unit: str,
    scores: Sequence[dict[str, str]],
    survey: Survey,
    problems: list[str],
    advise_on: Callable[[str], SeparationAdvice],
    sample: InspectedSample,
    *,
    comparable: bool,
) -> Inspection:
    """Measure sampled distances, compare the inputs, and collect the results of the inspection."""
    samples = survey.samples
    several = comparable and len(samples) > 1
    around = measure_neighbourhoods(samples)
    measured = [one for one in around if one]
    pairs: tuple[Pair, ...] = ()
    if several:
        radius = inputs.params.min_separation if unit == "A" else _radius_in_pixels(measured)

        def compare(numbers: tuple[int, int]) -> Pair:
            one, other = numbers
            return Pair(one, other, match(samples[one], samples[other], radius))

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            pairs = tuple(pool.map(compare, combinations(range(len(samples)), 2)))
    flips = choose_flips(inputs, pairs)
    together = None
    if several and measured:
        alike = Centres.concatenate(
            [sample.flipped(flips[n]) if n in flips else sample for n, sample in enumerate(samples)]
        )
        (together,) = measure_neighbourhoods([alike], measured[0].edges)
    summaries = [summary for one in survey.inputs for summary in one.summaries]
    scales = find_scales(inputs, summaries)
    entries = tuple(
        _describe(inputs, n, unit, scores[n], survey, around[n], scales[n])
        for n in range(len(samples))
    )
    warnings = checks.find_warnings(inputs, summaries, survey.repeated)
    for table, roles in zip(inputs.tables, inputs.roles, strict=True):
        if roles.min_score is None:
            warnings += find_notes(table)[1]
    warnings += find_warnings(survey, entries, pairs)
    obstacle = ""
    if not comparable:
        obstacle = "the inputs cannot be compared; see the problems"
    elif flips:
        obstacle = "y does not run the same way in all inputs; see the advice"
    separation = advise_on(obstacle)
    advice = advise(inputs, survey, entries, separation, flips)
    return Inspection(
        inputs=entries,
        pairs=pairs,
        together=together,
        flips=tuple(sorted(flips)),
        measured=survey.measured,
        separation=separation,
        problems=tuple(problems),
        warnings=tuple(map(Message, warnings)),
        advice=tuple(map(Message, advice)),
        sample=sample,
    )


def _radius_in_pixels(measured: Sequence[Neighbourhood]) -> float:
    """Return the matching distance for picks of two inputs, in pixels: half the spacing of particles."""
    known = [one for one in measured if one.nearest]
    begin = [one.spacing.neighbours_begin for one in known if one.spacing]
    apart = begin or [one.nearest[50.0] for one in known if one.nearest[50.0] > 0]
    return min(apart) / 2 if apart else 1.0


def _range_of_scores(found: InputSurvey, table: ParticleTable) -> tuple[float, float]:
    """Return the minimum and maximum score in the first score column of a table; infinite if there are none."""
    stored = next((found.scores[name] for name in table.schema.names if name in found.scores), None)
    return (stored.low, stored.high) if stored else (np.inf, -np.inf)


def _describe(
    inputs: Inputs,
    source: int,
    unit: str,
    fields: dict[str, str],
    survey: Survey,
    around: Neighbourhood | None,
    scale: InputScale,
) -> InspectedInput:
    table, roles = inputs.tables[source], inputs.roles[source]
    found, sample = survey.inputs[source], survey.samples[source]
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
        "symmetry source": (SYMMETRY_SOURCE,),
    }
    if roles.groups:
        columns["groups"] = roles.groups
    counts = count_micrographs(found.summaries).rows
    shift = None
    if sample.shift is not None and len(sample) > 1:
        spacing = around.spacing.neighbours_begin if around and around.spacing else np.inf
        shift = compare_shifts(sample, min(inputs.params.min_separation, spacing / 2))
    return InspectedInput(
        path=table.path,
        picker=table.picker,
        format=table.format,
        description=describe_picks(table, (counts.size, *_range_of_scores(found, table))),
        convention=roles.convention,
        rows=table.rows,
        files=len(table.files),
        bytes=table.bytes,
        micrographs=counts.size,
        per_micrograph=(int(counts.min()), float(np.median(counts)), int(counts.max()))
        if counts.size
        else (),
        fields={
            role: tuple(name for name in names if name and name in table.schema.names)
            for role, names in columns.items()
        },
        position_unit=roles.stored_unit,
        pixel_size=(scale.least, scale.greatest) if scale.least and scale.greatest else (),
        pixel_size_source=scale.source,
        unit=unit,
        scores=tuple(
            Score(
                field=fields[column],
                column=column,
                label=score_label(table, column),
                used=column == roles.score,
                least=stored.low,
                greatest=stored.high,
                warnings=tuple(score_warnings(score_label(table, column), stored))
                if stored.rows
                else (),
            )
            for column, stored in found.scores.items()
            if has_scores(table)
        ),
        half_sets=dict(sorted(found.half_sets.items())),
        matched=inputs.names.inputs[source].counts if inputs.names and inputs.names.inputs else "",
        neighbourhood=around,
        shift=shift,
    )
