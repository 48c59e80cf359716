"""The page: everything that is known of a run, in one file that needs no network."""

from __future__ import annotations

import base64
import io
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from dask_dedup.formatting import counted
from dask_dedup.results.command import command_of
from dask_dedup.results.report.micrograph import DOTS_PER_INCH, describe
from dask_dedup.results.report.style import in_style, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.report.example import Example
    from dask_dedup.results.report.figures import Answer
    from dask_dedup.results.verify import Verification

#: Characters of pictures that the page holds at most; further ones are files beside it only.
PICTURE_BUDGET = 3_500_000
#: Bytes of a file that is shown as it is; where both are larger, a photograph is, so many pixels wide.
LARGEST_DRAWING, LARGEST_PICTURE, PHOTOGRAPH_WIDTH = 300_000, 600_000, 1_600
#: Output files that are listed.
LISTED_FILES = 500


@dataclass(frozen=True, slots=True)
class Picture:
    """An example micrograph as the page shows it.

    Attributes
    ----------
    file : str
        Relative to the result.
    data : str
        A data URI, or empty where the page would become too large.
    alt, caption : str
    """

    file: str
    data: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """A figure as files; the same figure gives the same bytes."""

    png: bytes
    svg: bytes

    def save(self, path: Path) -> None:
        """Write both files, under the name without an ending."""
        path.with_suffix(".png").write_bytes(self.png)
        path.with_suffix(".svg").write_bytes(self.svg)

    def embed(self) -> str:
        """Give a data URI: the drawing or the picture if that is small, else a photograph of it."""
        if len(self.svg) <= LARGEST_DRAWING:
            return _data_uri("svg+xml", self.svg)
        if len(self.png) <= LARGEST_PICTURE:
            return _data_uri("png", self.png)
        with Image.open(io.BytesIO(self.png)) as image:
            image.thumbnail((PHOTOGRAPH_WIDTH, 10 * PHOTOGRAPH_WIDTH))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "jpeg", quality=82, optimize=True)
        return _data_uri("jpeg", buffer.getvalue())


def _data_uri(mime: str, content: bytes) -> str:
    return f"data:image/{mime};base64,{base64.b64encode(content).decode()}"


@in_style
def draw_files(figure: Figure) -> Rendering:
    """Render a figure."""
    png, svg = io.BytesIO(), io.BytesIO()
    # A figure with a layout engine of its own finds its layout at each saving, and draws everything to do so.
    ConstrainedLayoutEngine().execute(figure)
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.savefig(svg, format="svg", dpi=DOTS_PER_INCH, metadata={"Date": None})
    return Rendering(png.getvalue(), svg.getvalue())


def alternative_text(example: Example) -> str:
    """Say what the picture of a micrograph shows, for who cannot see it."""
    return (
        f"Micrograph {printable(example.name)} ({example.why}): {len(example.kept):,} particles kept, "
        f"{len(example.rejected):,} rejected."
    )


def make_pictures(
    examples: Sequence[Example], drawn: Sequence[Rendering], separation: float
) -> list[Picture]:
    """Embed the pictures of the examples, as many as there is room for."""
    pictures, room = [], PICTURE_BUDGET
    for number, (example, rendering) in enumerate(zip(examples, drawn, strict=True), start=1):
        data = rendering.embed()
        data = data if len(data) <= room else ""
        room -= len(data)
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
    """Write the page; everything that comes from the data is escaped."""
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
        proof=_proof(verification),
        pictures=pictures,
        no_pictures=run.no_distances_because or "There are no particles to show.",
        answers=[_chart(answer, rendering) for answer, rendering in answers],
        rule=_rule(run.params),
        plan=_plan(manifest["plan"]),
        command=command_of(manifest, str(run.output)),
        citation=_citation(manifest["versions"]["dask-dedup"], manifest["created"][:4]),
        files=manifest["outputs"][:LISTED_FILES],
        output_bytes=sum(entry["bytes"] for entry in manifest["outputs"]),
    )


def sentence(manifest: dict[str, Any], params: DedupParams) -> str:
    """Say in one sentence what was done and what came out."""
    totals, tables = manifest["totals"], len(manifest["inputs"])
    rows, rejected, invalid = totals["rows"], totals["rejected"], totals.get("invalid", 0)
    aside = ""
    if invalid:
        aside = f"; {counted(invalid, 'row')} could not be compared and {'is' if invalid == 1 else 'are'} "
        aside += "among these" if params.invalid == "keep" else "rejected too"
    if params.invalid == "reject":
        rejected -= invalid
    share = f" ({rejected / rows:.1%})" if rows else ""
    where = "1 table" if tables == 1 else f"{tables} tables"
    if params.undo_symmetry_expansion:
        why = "were symmetry copies of another that is kept"
    elif params.remove_entirely:
        why = f"had another within {params.min_separation:g} Å on the same micrograph"
    elif params.min_separation == 0:
        why = "had the coordinates of another that ranks before them on the same micrograph"
    else:
        why = f"lay within {params.min_separation:g} Å of a better one on the same micrograph"
    return (
        f"Of {rows:,} particles in {where}, {rejected:,}{share} {why}; {totals['kept']:,} are kept"
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


def _proof(verification: Verification | None) -> dict[str, Any] | None:
    if verification is None:
        return None
    marks = {True: "ok", False: "wrong", None: "open"}
    verdict = "Proven with an independent algorithm:"
    if not verification.verified:
        verdict = (
            "NOT right:"
            if not verification.passed
            else "Not verified, some checks could not be made:"
        )
    checks = [
        {"mark": marks[check.passed], "name": check.name, "detail": check.detail}
        for check in verification.checks
    ]
    return {"verdict": verdict, "checks": checks}


def _chart(answer: Answer, rendering: Rendering | None) -> dict[str, str]:
    data = rendering.embed() if rendering else ""
    note = f"{answer.note[0].upper()}{answer.note[1:]}" if answer.note else ""
    return {"title": answer.title, "note": note, "data": data}


def _rule(params: DedupParams) -> str:
    score = "by a seeded hash of their uids"
    if params.score:
        score = f"by {params.score}, equal ones by a seeded hash of their uids"
    if params.prefer_input_order:
        score = f"those of earlier inputs first, then {score}"
    if params.remove_entirely:
        return "Every particle that has a duplicate is rejected."
    near = (
        "is equal to it" if not params.measures else f"is at most {params.min_separation:g} Å away"
    )
    return (
        f"Particles are ranked {score}. From the best down, each is kept unless one that is kept "
        f"already, on the same micrograph, {near}; the best such one is its winner."
    )


def _plan(plan: dict[str, Any]) -> str:
    text = (
        f"Particles: {plan['rows']:,}; micrographs: {plan['micrographs']:,}; fragments of the files: "
        f"{plan['fragments']:,}. "
    )
    if not plan["straddling_micrographs"]:
        return text + "Every micrograph lay whole in one fragment: nothing moved."
    return text + (
        f"{counted(plan['straddling_micrographs'], 'micrograph')} lay in more than one fragment: "
        f"{counted(plan['moving_rows'], 'pick')} moved to be decided (buckets: {plan['partitions']:,}, the largest "
        f"of {plan['largest_partition_rows']:,}); no payload moved."
    )


def _citation(version: str, year: str) -> str:
    return (
        "@software{dask_dedup,\n"
        "  title   = {dask-dedup: removal of duplicate particle picks from cryo-EM particle tables},\n"
        "  author  = {{the dask-dedup developers}},\n"
        f"  version = {{{version}}},\n"
        f"  year    = {{{year}}}\n"
        "}"
    )
