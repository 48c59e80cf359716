"""The page: one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import shlex
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from dask_dedup.formatting import counted, printable
from dask_dedup.results.command import run_command
from dask_dedup.results.report.micrograph import DOTS_PER_INCH, describe
from dask_dedup.results.report.style import in_style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.report.example import Example
    from dask_dedup.results.report.figures import Answer
    from dask_dedup.results.verify import Verification

#: Maximum number of characters for embedded pictures; further pictures are only in `plots/`.
PICTURE_BUDGET = 3_500_000
#: Maximum bytes of an embedded SVG file; a larger figure becomes a JPEG of this width.
MAX_SVG, JPEG_WIDTH = 300_000, 1_600
#: Maximum number of output files in the list.
LISTED_FILES = 500


@dataclass(frozen=True, slots=True)
class Picture:
    """An example micrograph on the page.

    Attributes
    ----------
    file : str
        Path below the result.
    data : str
        A data URI; empty if the page would become too large.
    alt, caption : str
    """

    file: str
    data: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """A figure as PNG and SVG."""

    png: bytes
    svg: bytes

    def save(self, path: Path) -> None:
        """Write both files, with their suffixes."""
        path.with_suffix(".png").write_bytes(self.png)
        path.with_suffix(".svg").write_bytes(self.svg)

    def embed(self) -> str:
        """Return a data URI: the SVG if it is small, else a JPEG."""
        if len(self.svg) <= MAX_SVG:
            return _data_uri("svg+xml", self.svg)
        with Image.open(io.BytesIO(self.png)) as image:
            image.thumbnail((JPEG_WIDTH, 10 * JPEG_WIDTH))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "jpeg", quality=82, optimize=True)
        return _data_uri("jpeg", buffer.getvalue())


def _data_uri(mime: str, content: bytes) -> str:
    return f"data:image/{mime};base64,{base64.b64encode(content).decode()}"


@in_style
def draw_files(figure: Figure) -> Rendering:
    """Render a figure."""
    png, svg = io.BytesIO(), io.BytesIO()
    # Computed once here; a figure with its own layout engine would do it for each file.
    ConstrainedLayoutEngine().execute(figure)
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.savefig(svg, format="svg", dpi=DOTS_PER_INCH, metadata={"Date": None})
    return Rendering(png.getvalue(), svg.getvalue())


def alternative_text(example: Example) -> str:
    """Return the alternative text of a picture."""
    return (
        f"Micrograph {printable(example.name, 80)} ({example.why}): {len(example.kept):,} particles kept, "
        f"{len(example.rejected):,} rejected."
    )


def make_pictures(
    examples: Sequence[Example], drawn: Sequence[Rendering], separation: float
) -> list[Picture]:
    """Return the pictures of the examples, embedded up to `PICTURE_BUDGET`."""
    pictures, left = [], PICTURE_BUDGET
    for number, (example, rendering) in enumerate(zip(examples, drawn, strict=True), start=1):
        data = rendering.embed()
        data = data if len(data) <= left else ""
        left -= len(data)
        caption = describe(example, separation)
        pictures.append(
            Picture(f"plots/micrograph-{number}.png", data, alternative_text(example), caption)
        )
    return pictures


def render(
    run: FinishedRun,
    pictures: Sequence[Picture],
    answers: Sequence[tuple[Answer, Rendering | None]],
    verification: Verification | None,
) -> str:
    """Return the HTML of the page; all text is escaped."""
    manifest = run.manifest
    environment = Environment(
        loader=PackageLoader("dask_dedup.results.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        output=str(run.output),
        quoted_output=shlex.quote(str(run.output)),
        quoted_directory=shlex.quote(manifest["directory"]),
        manifest=manifest,
        sentence=sentence(manifest, run.params),
        rows=_rows(manifest["totals"]),
        reasons={
            reason.replace("_", " "): rows
            for reason, rows in manifest["totals"].get("invalid_by_reason", {}).items()
        },
        verification=_verification(verification),
        pictures=pictures,
        no_pictures=run.no_distances_because or "There are no particles to show.",
        answers=[_chart(answer, rendering) for answer, rendering in answers],
        rule=_rule(run.params),
        plan=_plan(manifest["plan"]),
        command=run_command(manifest, str(run.output)),
        citation=_citation(manifest["versions"]["dask-dedup"], manifest["created"][:4]),
        files=manifest["outputs"][:LISTED_FILES],
        output_bytes=sum(entry["bytes"] for entry in manifest["outputs"]),
    )


def sentence(manifest: dict[str, Any], params: DedupParams) -> str:
    """Return the outcome in one sentence."""
    totals, tables = manifest["totals"], len(manifest["inputs"])
    rows, rejected, invalid = totals["rows"], totals["rejected"], totals.get("invalid", 0)
    aside = ""
    if invalid:
        aside = f", including {counted(invalid, 'row')} that could not be compared"
        if params.invalid != "keep":
            verb = "was" if invalid == 1 else "were"
            aside = f"; {counted(invalid, 'row')} could not be compared and {verb} rejected, too"
    if params.invalid == "reject":
        rejected -= invalid
    share = f" ({rejected / rows:.1%})" if rows else ""
    if params.undo_symmetry_expansion:
        why = "are symmetry copies of a kept particle"
    elif params.remove_entirely:
        why = f"are within {params.min_separation:g} Å of another on the same micrograph"
    elif params.min_separation == 0:
        why = "have the coordinates of a better one on the same micrograph"
    else:
        why = f"are within {params.min_separation:g} Å of a better one on the same micrograph"
    return (
        f"Of {rows:,} particles in {counted(tables, 'table')}, {rejected:,}{share} {why}; {totals['kept']:,} are kept"
        f"{aside}."
    )


def _rows(totals: dict[str, Any]) -> list[dict[str, Any]]:
    entries = [*totals["by_input"]]
    if len(entries) > 1:
        entries.append({**totals, "path": "all"})
    return [
        {
            "invalid": 0,
            **entry,
            "share": f"{entry['rejected'] / entry['rows']:.1%}" if entry["rows"] else "",
        }
        for entry in entries
    ]


def _verification(verification: Verification | None) -> dict[str, Any] | None:
    if verification is None:
        return None
    classes = {True: "ok", False: "wrong", None: "open"}
    checks = [
        {"class": classes[check.passed], "name": check.name, "detail": check.detail}
        for check in verification.checks
    ]
    return {"verdict": verification.verdict, "checks": checks}


def _chart(answer: Answer, rendering: Rendering | None) -> dict[str, str]:
    data = rendering.embed() if rendering else ""
    note = f"{answer.note[0].upper()}{answer.note[1:]}" if answer.note else ""
    return {"title": answer.title, "note": note, "data": data}


def _rule(params: DedupParams) -> str:
    score = "by a seeded hash of their uids"
    if params.score:
        score = f"by {params.score}, then by a seeded hash of their uids"
    if params.prefer_input_order:
        score = f"by the order of the inputs, then {score}"
    if params.remove_entirely:
        return "Every particle that has a duplicate is rejected."
    near = "with equal values" if not params.measures else f"within {params.min_separation:g} Å"
    return (
        f"Particles are ranked {score}. In this order, a particle is kept unless a particle {near} "
        "on the same micrograph is kept already; the best of these is its winner."
    )


def _plan(plan: dict[str, Any]) -> str:
    text = (
        f"Particles: {plan['rows']:,}; micrographs: {plan['micrographs']:,}; fragments of files: "
        f"{plan['fragments']:,}. "
    )
    if not plan["straddling_micrographs"]:
        return text + "Each micrograph is in one fragment, so nothing was shuffled."
    return text + (
        f"{counted(plan['straddling_micrographs'], 'micrograph')} in more than one fragment: "
        f"{counted(plan['moving_rows'], 'pick')} shuffled into {counted(plan['partitions'], 'partition')} "
        f"(largest: {counted(plan['largest_partition_rows'], 'pick')})."
    )


def _citation(version: str, year: str) -> str:
    """Return the BibTeX entry of the package's CITATION.cff, for the version that made the result."""
    citation = yaml.safe_load(files("dask_dedup").joinpath("CITATION.cff").read_text("utf-8"))
    authors = " and ".join(f"{{{author['name']}}}" for author in citation["authors"])
    return (
        "@software{dask_dedup,\n"
        f"  title   = {{{citation['title']}}},\n"
        f"  author  = {{{authors}}},\n"
        f"  version = {{{version}}},\n"
        f"  year    = {{{year}}}\n"
        "}"
    )
