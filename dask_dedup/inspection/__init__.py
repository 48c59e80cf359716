"""What is in particle tables, before a run: fields, problems, distances, and whether inputs fit together."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.formats import StoredSchema, open_table
from dask_dedup.inspection.advice import (
    advise_copies,
    advise_flips,
    advise_names,
    advise_separation,
    choose_flips,
    warn_of_shifts,
    warn_of_strangers,
)
from dask_dedup.inspection.columns import View, choose_views, find_roles, note
from dask_dedup.inspection.matching import compare_shifts, match
from dask_dedup.inspection.neighbours import Centres, Neighbourhood, look_around
from dask_dedup.inspection.report import InspectedInput, Inspection, Pair, Score
from dask_dedup.inspection.survey import Survey, Tally, survey_inputs
from dask_dedup.particles import checks
from dask_dedup.particles.conventions import check_flip, check_pixel_size
from dask_dedup.particles.inputs import Inputs
from dask_dedup.particles.micrographs import read_micrographs
from dask_dedup.pipeline.job import Job
from dask_dedup.storage.access import check_answers, in_words
from dask_dedup.storage.paths import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Angstrom; partners are looked for within this where the parameters ask for equal coordinates.
_SEPARATION = 20.0
_FILAMENTS = ("filament/filament_uid", "rlnHelicalTubeID")
_SYMMETRY = ("sym_expand/src_uid",)


@in_words(InputError)
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
    params = DedupParams.given(params)
    params = replace(
        params,
        min_separation=params.min_separation or _SEPARATION,
        undo_symmetry_expansion=False,
        ignore_within_filament=False,
    )
    paths = listed(inputs)
    if not paths:
        raise InputError("no input: name at least one particle table")
    check_answers([*paths, *([micrographs] if micrographs else [])])
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
    job = Job(
        inputs=Inputs.of(tables, roles, params, exposures),
        stored_schema=StoredSchema.of(pa.schema([])),
        native_names=(),
        output_format="native",
    )
    views = choose_views(job, comparable=comparable)
    found = survey_inputs(job, views)
    for tally in found.tallies:
        for check in (checks.check_rows, checks.check_names, checks.check_uids):
            note(problems, check, job.inputs, tally.summaries)
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
    flips = choose_flips(job, pairs)
    edges = next((one.edges for one in around if one), None)
    if comparable and len(samples) > 1 and edges:
        alike = [_flip(sample, flips.get(n)) for n, sample in enumerate(samples)]
        together = look_around([Centres.concatenate(alike)], edges)[0]
    inputs = tuple(
        _describe(job, n, view, found.tallies[n], samples[n], around[n])
        for n, view in enumerate(views)
    )
    summaries = [summary for tally in found.tallies for summary in tally.summaries]
    warnings = checks.find_warnings(job.inputs, summaries)
    warnings += [*warn_of_shifts(inputs, pairs), *warn_of_strangers(inputs, pairs)]
    if found.uid_share > 1:
        warnings.append(f"uids were compared for one in {found.uid_share}, chosen by hash")
    advice = []
    if pairs and not any(pair.match for pair in pairs):
        advice += advise_names(job, found.tallies)
    if flips:
        advice.append(advise_flips(job, views, found, flips))
    advice += advise_copies(inputs)
    if together or len(inputs) == 1:
        advice += advise_separation(together or inputs[0].neighbourhood, views[0].unit)
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


def _flip(centres: Centres, height: float | None) -> Centres:
    if height is None:
        return centres
    return centres.flipped(None if np.isfinite(centres.height).all() else height)


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
    counts = list(tally.counts.values())
    sizes = np.array([summary.psize for summary in tally.summaries])
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
                warnings=tuple(checks.score_warnings(column, found)) if found.rows else (),
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
