"""The page of an inspection: the outcome of a planned run, with the viewer and the charts of the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.dedup.decide import NO_ROW_ID, decide
from dask_dedup.dedup.separation import analyse_separations
from dask_dedup.errors import InputError
from dask_dedup.formatting import counted, printable
from dask_dedup.hints import parameter
from dask_dedup.particles.report_contents import DISTANCE_BINS, ReportContents
from dask_dedup.particles.sample import NO_ROW, SampleChoice, SampledPicks
from dask_dedup.results.command import as_flag
from dask_dedup.results.report.page import render_preview
from dask_dedup.results.report.subject import Subject
from dask_dedup.results.report.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_dedup.dedup.decide import Rejections
    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.inspection.report import Inspection
    from dask_dedup.inspection.separation import InspectedSample


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """The data of a planned run that the sections of a report need.

    Attributes
    ----------
    manifest : dict
        The part of a manifest that the sections on picks read.
    params : DedupParams
    output : str
        Name of the page.
    no_distances_because : str
    """

    manifest: dict[str, Any]
    params: DedupParams
    output: str
    no_distances_because: str = ""


def write_preview(
    inspection: Inspection, path: str | Path, spelled: Callable[[str], str] = str
) -> Path:
    """Write the page of an inspection to one file, which needs no network. Return its path.

    `spelled` formats the parameters in messages, for example as command-line flags.

    Raises
    ------
    InputError
        If the inputs have no pixel size, cannot be compared or have no picks.
    """
    subject = _subject(inspection, Path(path).name)
    title = _title(inspection, subject)
    page = render_preview(subject, title, _lead(inspection, subject), _notes(inspection, spelled))
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}. Choose a file that can be written.") from error
    return Path(path)


def _subject(inspection: Inspection, name: str) -> Subject:
    sample, separation = inspection.sample, inspection.separation
    if separation.unit != "A":
        sizes = f"{parameter('micrograph_pixel_size')} or {parameter('micrographs')}"
        raise InputError(f"a page needs the pixel size of every input. Pass {sizes}.")
    if not len(sample.picks) or not separation.kept_at:
        reason = separation.reason if len(sample.picks) else "there are no picks"
        raise InputError(f"no page can be made: {reason}.")
    own = separation.recommended or sample.inputs.params.min_separation
    params = replace(sample.inputs.params, min_separation=own)
    higher = sample.inputs.higher_is_better
    rejections = decide(sample.picks, params, higher)[0].rejections
    contents = _contents(sample, rejections)
    analysis = analyse_separations(sample.picks, params, higher)
    picks = contents.sample
    order = np.lexsort((picks.row, picks.source, picks.micrograph))
    contents = replace(contents, sample=picks.take(order))
    analysis = replace(analysis, bits=analysis.bits[order])
    run = PlannedRun(_manifest(sample, contents), params, name)
    return Subject(run, contents, analysis, is_planned=True)  # type: ignore[arg-type]


def _contents(sample: InspectedSample, rejections: Rejections) -> ReportContents:
    """Return the contents of the page, with the picks in the order of `sample`."""
    picks = sample.picks
    at = np.searchsorted(picks.row_id, rejections.row_id)
    has_winner = rejections.winner_row_id != NO_ROW_ID
    winner = np.searchsorted(picks.row_id, rejections.winner_row_id).clip(max=len(picks) - 1)
    kept = np.ones(len(picks), dtype=bool)
    kept[at] = False
    winner_row = np.full(len(picks), NO_ROW, dtype=np.int64)
    winner_row[at] = np.where(has_winner, winner, NO_ROW)
    distance = np.full(len(picks), np.nan)
    distance[at] = np.where(has_winner, rejections.distance, np.nan)
    columns = {
        **picks.columns(),
        "row": np.arange(len(picks)),
        "kept": kept,
        "winner_row": winner_row,
        "winner_source": np.where(winner_row >= 0, picks.source[winner_row], 0).astype(np.uint16),
        "distance": distance,
        "votes": np.zeros(len(picks), dtype=np.uint16),
    }
    keys, number = np.unique(picks.micrograph, return_inverse=True)
    counts = [np.bincount(number[mask], minlength=keys.size) for mask in (kept, ~kept)]
    inputs = len(sample.inputs.tables)
    return ReportContents(
        rejected_by_winner=np.zeros((inputs, inputs), dtype=np.int64),
        decided_by_row_order=0,
        distances=np.zeros(DISTANCE_BINS, dtype=np.int64),
        micrographs=keys,
        kept=counts[0],
        rejected=counts[1],
        names=sample.names,
        choice=SampleChoice(keys, np.tile([-np.inf, -np.inf, np.inf, np.inf], (keys.size, 1))),
        sample=SampledPicks.from_columns(columns),
        sampled=sample.sampled,
    )


def _manifest(sample: InspectedSample, contents: ReportContents) -> dict[str, Any]:
    """Return the part of a manifest that the sections on picks read."""
    entries, totals = [], []
    for table, roles in zip(sample.inputs.tables, sample.inputs.roles, strict=True):
        columns = {"shift": list(roles.shift), "half_set": roles.half, "uid": roles.uid}
        entries.append(
            {
                "path": table.path,
                "picker": table.picker or Path(table.path).name,
                "columns": columns,
                "position_unit": roles.stored_unit,
            }
        )
        mine = contents.sample.source == table.source
        kept = int(np.count_nonzero(contents.sample.kept[mine]))
        rejected = int(np.count_nonzero(mine)) - kept
        totals.append(
            {"kept": kept, "rejected": rejected, "invalid": 0, "low_score": 0, "outvoted": 0}
        )
    names = ("kept", "rejected", "invalid", "low_score", "outvoted")
    return {
        "directory": str(Path.cwd()),
        "inputs": entries,
        "totals": {name: sum(each[name] for each in totals) for name in names}
        | {"by_input": totals, "rows": len(contents.sample), "votes": None},
    }


def _title(inspection: Inspection, subject: Subject) -> str:
    rows = sum(entry.rows for entry in inspection.inputs)
    inputs = f" in {counted(len(inspection.inputs), 'input')}" if len(inspection.inputs) > 1 else ""
    picks = f"{rows:,} {subject.noun}s{inputs}"
    if inspection.recommended_separation is None:
        return f"{picks}; no separation is recommended."
    return f"{picks}; {subject.separation:g} Å separates duplicates from neighbours."


def _lead(inspection: Inspection, subject: Subject) -> str:
    flag = f"{as_flag('min_separation')} {subject.separation:g}"
    totals, measured = subject.manifest["totals"], inspection.separation
    of = (
        f"{totals['rows']:,} {subject.noun}s on {counted(measured.micrographs, subject.image_kind)}"
    )
    return (
        f"This page shows what a run with {flag} would do: of {of}, it keeps {totals['kept']:,} and "
        f"rejects {totals['rejected']:,}. Nothing was written. Move the slider to try other separations."
    )


def _notes(inspection: Inspection, spelled: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return headings and lines on problems and warnings."""
    titles = {"A run refuses these inputs": inspection.problems, "Warnings": inspection.warnings}
    return [
        {"heading": title, "lines": [sentence(printable(spelled(line), 1_000)) for line in lines]}
        for title, lines in titles.items()
        if lines
    ]
