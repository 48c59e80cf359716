"""The HTML page of the report: one file that needs no network."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from dask_dedup.formatting import counted, shell_command
from dask_dedup.results.command import run_command
from dask_dedup.results.report.picture import embed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.dedup.params import DedupParams
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.report.picture import Picture
    from dask_dedup.results.verify import Verification

#: Maximum number of output files in the list.
LISTED_FILES = 500
#: Maximum number of inputs in the line about micrograph names.
LISTED_INPUTS = 20


def render(
    run: FinishedRun,
    examples: Sequence[Picture],
    figures: Sequence[Picture],
    drawn: Mapping[str, Mapping[str, bytes]],
    verification: Verification | None,
) -> str:
    """Return the HTML page, with all text escaped. `drawn` maps the key of each picture to its image files."""
    manifest, totals = run.manifest, run.manifest["totals"]
    environment = Environment(
        loader=PackageLoader("dask_dedup.results.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        output=str(run.output),
        verify_command=shell_command("verify", run.output),
        quoted_directory=shlex.quote(manifest["directory"]),
        manifest=manifest,
        sentence=sentence(manifest, run.params),
        rows=[*totals["by_input"], *([{**totals, "path": "all"}] * (len(totals["by_input"]) > 1))],
        verification=verification,
        examples=examples,
        no_examples=run.no_distances_because or "There are no particles to show.",
        figures=figures,
        images=dict(zip(drawn, embed([each[".png"] for each in drawn.values()]), strict=True)),
        rule=_rule(run.params, run.score_names),
        plan=_plan(manifest["plan"]),
        names=_names(manifest.get("micrograph_names") or {}),
        command=run_command(manifest, str(run.output)),
        citation=_citation(manifest["versions"]["dask-dedup"], manifest["created"][:4]),
        files=list_outputs(manifest)[:LISTED_FILES],
        listed=len(list_outputs(manifest)),
        output_bytes=sum(entry["bytes"] for entry in manifest["outputs"]),
    )


def list_outputs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the output files for the list in the report. Pick files of one input are one entry: their folder.

    Coordinate files with the picks of all inputs are one entry, too.
    """
    listed: list[dict[str, Any]] = []
    folders: dict[tuple[str, int | None], dict[str, Any]] = {}
    for entry in manifest["outputs"]:
        source = entry["input"]
        if source is None:
            output = "" if manifest["output_format"] == "relion-coordinates" else None
        else:
            output = manifest["inputs"][source].get("output")
        dataset = entry["path"].partition("/")[0]
        folder = f"{'/'.join(filter(None, (dataset, manifest['run_token'], output)))}/"
        if output is None or not entry["path"].startswith(folder):
            listed.append(entry)
            continue
        if (dataset, source) not in folders:
            folders[dataset, source] = {"path": folder, "rows": 0, "bytes": 0, "files": 0}
            listed.append(folders[dataset, source])
        one = folders[dataset, source]
        one["files"] += 1
        for name in ("rows", "bytes"):
            one[name] += entry[name]
    return listed


def sentence(manifest: dict[str, Any], params: DedupParams) -> str:
    """Return the outcome of the run in one sentence."""
    totals, tables = manifest["totals"], len(manifest["inputs"])
    rows, rejected, invalid = totals["rows"], totals["rejected"], totals["invalid"]
    aside = ""
    if invalid:
        aside = f", including {counted(invalid, 'row')} that could not be compared"
        if params.invalid != "keep":
            verb = "was" if invalid == 1 else "were"
            aside = f"; {counted(invalid, 'row')} could not be compared and {verb} rejected, too"
    if params.invalid == "reject":
        rejected -= invalid
    low = totals["low_score"]
    rejected -= low
    if low:
        aside += f"; {counted(low, 'row', 'have a score worse than the limit and are rejected')}"
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


def _rule(params: DedupParams, scores: Sequence[str]) -> str:
    score = "by a seeded hash"
    if scores:
        score = f"by {' or '.join(scores)}, then by a seeded hash"
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


def _names(match: Mapping[str, Any]) -> str:
    """Return how many micrographs of each input matched by name, as text; empty if they go otherwise."""
    lines = []
    for entry in match.get("inputs", [])[:LISTED_INPUTS]:
        counts = []
        if entry["shared"] is not None:
            counts.append(f"{entry['shared']:,} of {counted(entry['micrographs'], 'micrograph')}")
        if entry["in_table"] is not None:
            counts.append(f"{entry['in_table']:,} in the micrograph table")
        without = f" (without {entry['removed']})" if entry["removed"] else ""
        lines.append(f"{entry['path']} {', '.join(counts)}{without}")
    more = len(match.get("inputs", [])) - len(lines)
    rest = f"; and {more:,} more inputs, in the manifest" if more > 0 else ""
    return f"Matched by name with another input: {'; '.join(lines)}{rest}." if lines else ""


def _citation(version: str, year: str) -> str:
    """Return a BibTeX entry for the version of dask-dedup that made the result."""
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
