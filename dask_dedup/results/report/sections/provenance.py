"""The sections on the origin of the result: inputs, files, versions, the command and the citation."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from dask_dedup.formats.coordinates.description import IN_ANGSTROM
from dask_dedup.formatting import counted
from dask_dedup.results.command import as_flag, run_command
from dask_dedup.results.report.wording import by_row_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_dedup.results.report.subject import Subject

#: Maximum numbers of listed inputs, of listed output files, and of inputs in the line about micrograph names.
_INPUTS, _FILES, _NAMED = 100, 500, 20
#: As in CITATION.cff.
_TITLE = "dask-dedup: removal of duplicate particle picks from cryo-EM particle tables"
_AUTHORS = "the dask-dedup developers"
#: Parameters that can set pixel sizes.
_PIXEL_SIZES = ("coordinate_pixel_size", "micrograph_pixel_size")


def provenance(subject: Subject) -> dict[str, Any]:
    """Return inputs, output files and versions."""
    manifest = subject.manifest
    outputs = list_outputs(manifest)
    entries = manifest["inputs"]
    return {
        "inputs": [
            {**_input(entry), "kept": totals["kept"], "rejected": totals["rejected"]}
            for entry, totals in zip(
                entries[:_INPUTS], manifest["totals"]["by_input"], strict=False
            )
        ],
        "more_inputs": len(entries) - _INPUTS,
        "micrographs": manifest["micrographs"],
        "names": _names(manifest.get("micrograph_names") or {}),
        "files": outputs[:_FILES],
        "more_files": max(0, len(outputs) - _FILES),
        "written": counted(len(outputs), "file", "written"),
        "computed": _computed(subject),
        "versions": " · ".join(
            f"{name} {version}" for name, version in manifest["versions"].items()
        ),
    }


def _input(entry: dict[str, Any]) -> dict[str, Any]:
    columns: list[str] = []
    for column in entry["columns"].values():
        columns += column if isinstance(column, list) else [column] if column else []
    size, text = entry.get("pixel_size") or {}, ""
    if entry.get("position_unit") == "angstrom" or size.get("source") == IN_ANGSTROM:
        text = "positions in Å"
    elif size.get("least"):
        text = f"{size['least']:g}"
        if size["greatest"] != size["least"]:
            text += f" to {size['greatest']:g}"
        text += f" Å per pixel ({_source(size['source'])})"
    return {**entry, "columns": ", ".join(dict.fromkeys(columns)), "pixel_size": text}


def _source(text: str) -> str:
    """Return the source of a pixel size, with parameters as flags."""
    return "; ".join(as_flag(each) if each in _PIXEL_SIZES else each for each in text.split("; "))


def _computed(subject: Subject) -> str:
    """Return sentences on the reading and comparing of rows in the run."""
    plan, noun, image_kind = subject.manifest["plan"], subject.noun, subject.image_kind
    text = (
        f"{counted(plan['rows'], noun)} on {counted(plan['micrographs'], image_kind)} "
        f"{'was' if plan['rows'] == 1 else 'were'} read in {counted(plan['fragments'], 'part')}."
    )
    if plan["straddling_micrographs"]:
        number = plan["straddling_micrographs"]
        text += (
            f" {counted(number, image_kind)} {'was' if number == 1 else 'were'} spread over several parts. Only "
            f"the positions and scores of these {noun}s were moved, to compare them."
        )
    if not subject.has_winners:
        return text
    return f"{text} {by_row_order(subject) or 'No decision depended on the order of rows.'}"


def reproduce(subject: Subject) -> dict[str, str]:
    """Return the command that repeats the run, and the citation."""
    manifest = subject.manifest
    command = run_command(manifest, str(subject.run.output))
    return {
        "command": f"cd {shlex.quote(manifest['directory'])}\n{wrap(command)}",
        "citation": cite(manifest["versions"]["dask-dedup"], manifest["created"][:4]),
    }


def wrap(command: str) -> str:
    r"""Put each option of a command on a line.

    Examples
    --------
    >>> from dask_dedup.results.command import as_flag
    >>> wrap(f"dask-dedup run 'a b.star' {as_flag('seed')} 7").count(" \\\n    ")
    1
    """
    lines: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word.startswith("--") and len(lines[0]) > 1:
            lines.append([])
        lines[-1].append(word)
    return " \\\n    ".join(map(shlex.join, lines))


def cite(version: str, year: str) -> str:
    """Return a BibTeX entry for the version of dask-dedup that made the result."""
    return (
        "@software{dask_dedup,\n"
        f"  title   = {{{_TITLE}}},\n"
        f"  author  = {{{{{_AUTHORS}}}}},\n"
        f"  version = {{{version}}},\n"
        f"  year    = {{{year}}}\n"
        "}"
    )


def list_outputs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of the list of output files in the report.

    The pick files of an input are a single entry: their folder. Coordinate files of all inputs are one entry, too.
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


def _names(match: Mapping[str, Any]) -> str:
    """Return text on the micrographs of each input that matched by name. Empty if names were not matched."""
    lines = []
    for entry in match.get("inputs", [])[:_NAMED]:
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
