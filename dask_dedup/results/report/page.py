"""The HTML page of the report: one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from dask_dedup.formatting import shell_command
from dask_dedup.results.command import as_flag
from dask_dedup.results.report.plots import make_plots
from dask_dedup.results.report.sections.agreement import agreement
from dask_dedup.results.report.sections.halves import halves
from dask_dedup.results.report.sections.micrographs import micrographs
from dask_dedup.results.report.sections.outcome import outcome
from dask_dedup.results.report.sections.provenance import provenance, reproduce
from dask_dedup.results.report.sections.scores import scores
from dask_dedup.results.report.sections.separation import find_pairs, measure, separation
from dask_dedup.results.report.sections.settings import settings
from dask_dedup.results.report.sections.warnings import warnings
from dask_dedup.results.report.subject import COLOURS
from dask_dedup.results.report.template import asset, environment
from dask_dedup.results.report.ticks import round_step
from dask_dedup.results.report.viewer import make_viewer, pack
from dask_dedup.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dask_dedup.results.report.sections.separation import SeparationFigures
    from dask_dedup.results.report.subject import Subject
    from dask_dedup.results.report.viewer import Viewer

#: Files of the page's own script, in order.
_SCRIPT = ("picks", "drawing", "pointing", "controls", "separation")
#: Thicknesses of the slab of a tomogram, in separations.
_SLABS = (1.0, 4.0, 16.0)


def render(subject: Subject, named: Collection[int] = ()) -> tuple[str, dict[str, str]]:
    """Return the HTML page, with all text escaped, and its figures as SVG files by name.

    `named` has the keys of micrographs that the user asked for.
    """
    pairs = find_pairs(subject)
    numbers = measure(subject, pairs)
    viewer = make_viewer(subject, named)
    shown: dict[str, Any] = {
        "micrographs": micrographs(subject, viewer, named),
        "separation": separation(subject, numbers),
        "agreement": agreement(subject, pairs),
        "scores": scores(subject),
        "halves": halves(subject),
    }
    found = outcome(subject)
    output = subject.run.output
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            **shown,
            **_common(subject, viewer, numbers, shown["separation"]),
            headline=found["headline"],
            lead=found["rule"],
            warnings=warnings(subject, shown["scores"]),
            outcome=found,
            settings=settings(subject),
            reproduce=reproduce(subject),
            provenance=provenance(subject),
            sections=_sections(shown, subject.image_kind),
            output=str(output),
            created=_date(subject.manifest["created"]),
            run_id=subject.manifest["run_id"][:12],
            micrographs_in_all=subject.contents.micrographs.size,
            verify_command=shell_command("report", output, as_flag("verify")),
            materialize_command=shell_command("materialize", output)
            if subject.run.lacks_particles
            else "",
            plot_command=shell_command("report", output, f"{as_flag('plot_micrograph')}=NAME"),
        )
    )
    return page, make_plots(subject, shown)


def render_preview(
    subject: Subject, headline: str, lead: str, notes: Sequence[dict[str, Any]]
) -> str:
    """Return the HTML page of an inspection: the viewer, and the charts of the separation.

    `notes` have a heading and lines of text, as the warnings of a report.
    """
    numbers = measure(subject, find_pairs(subject))
    viewer = make_viewer(subject)
    section = separation(subject, numbers)
    return (
        environment()
        .get_template("preview.html.j2")
        .render(
            **_common(subject, viewer, numbers, section),
            headline=headline,
            lead=lead,
            warnings=notes,
            micrographs=micrographs(subject, viewer),
            separation=section,
            version=__version__,
        )
    )


def _common(
    subject: Subject,
    viewer: Viewer,
    numbers: SeparationFigures | None,
    section: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the values that both pages need: words, style, and the viewer with its script and data."""
    script = _script()
    return {
        "viewer": viewer,
        "pickers": subject.pickers,
        "noun": subject.noun,
        "image_kind": subject.image_kind,
        "unit": subject.unit,
        "chosen": f"{subject.separation:g}",
        "thicknesses": _thicknesses(subject),
        "style": Markup("".join(map(asset, ("palette.css", "chart.css", "page.css")))),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "data": _data(subject, viewer, numbers, section),
    }


def _script() -> str:
    parts = "\n".join(asset("script", f"{name}.js") for name in _SCRIPT)
    return f'{asset("vendor", "d3-zoom.min.js")}\n(() => {{\n"use strict";\n{parts}}})();\n'


def _sections(shown: dict[str, Any], image_kind: str) -> list[tuple[str, str]]:
    names = [
        ("micrographs", f"{image_kind.capitalize()}s", shown["micrographs"]),
        ("separation", "Separation", shown["separation"]),
        ("pickers", "Pickers", shown["agreement"]),
        ("scores", "Scores", shown["scores"]),
        ("halves", "Half-sets", shown["halves"]),
        ("settings", "Settings", True),
        ("again", "Reproduce and cite", True),
        ("provenance", "Provenance", True),
    ]
    return [(anchor, name) for anchor, name, there in names if there]


def _date(created: str) -> str:
    """Return a time as readable text.

    Examples
    --------
    >>> _date("2026-11-27T16:14:03+00:00")
    '27 November 2026, 16:14 UTC'
    """
    return f"{datetime.fromisoformat(created):%-d %B %Y, %H:%M} UTC"


def _thicknesses(subject: Subject) -> list[float]:
    if not subject.is_tomogram:
        return []
    return [round_step(subject.separation * each) for each in _SLABS if subject.separation] or [
        10.0,
        50.0,
    ]


def _most_votes(votes: dict[str, Any]) -> int:
    """Return the largest number of votes that a particle has."""
    return max((each["votes"] for each in votes["by_votes"] if each["representatives"]), default=0)


def _data(
    subject: Subject,
    viewer: Viewer,
    numbers: SeparationFigures | None,
    section: dict[str, Any] | None,
) -> Markup:
    """Return the data of the script as JSON, escaped so that it cannot end the script element."""
    data: dict[str, Any] = {
        "unit": subject.unit,
        "noun": subject.noun,
        "circles": subject.draws_circles,
        "winners": subject.has_winners,
        "rejected": subject.manifest["totals"]["rejected"],
        "voters": len(subject.votes["pickers"]) if subject.votes else 0,
        "most_votes": _most_votes(subject.votes) if subject.votes else 0,
        "decided": subject.params.votes_decide,
        "planned": subject.is_planned,
        "filaments": subject.params.ignore_within_filament,
        "uid": subject.has_uids,
        "pickers": [picker.name for picker in subject.pickers],
        "tables": [picker.paths[0] for picker in subject.pickers],
        "colours": COLOURS,
        "separations": [subject.separation],
        "at": 0,
        "first": viewer.first,
        "micrographs": [pack(subject, shown) for shown in viewer.micrographs],
    }
    if numbers is not None and section is not None:
        data |= {"separations": numbers.separations, "at": numbers.at}
        data["what"] = {
            "kept": numbers.kept,
            "total": numbers.picks,
            "limit": numbers.limit,
            "before": numbers.before,
            "after": numbers.after,
            "afterTop": section["after_top"],
            "curveTop": section["curve_top"],
            "flag": as_flag("min_separation"),
        }
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
