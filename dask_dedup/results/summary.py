"""The summary of a run as lines of text: counts by input, and the paths of the result and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import counted, printable, shell_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_dedup.pipeline.result import RunResult


def report_line(page: Path) -> str:
    """Return the line with the path of the report."""
    return printable(f"report: {page}")


#: Extensions of pick files that are read, but not written.
_READ_ONLY = {".em", ".json", ".mod", ".ndjson"}


def summary_lines(result: RunResult) -> list[str]:
    """Return the lines of a run's summary: counts by input, and the paths of the result."""
    from dask_dedup.output.manifest import lacks_particles

    lines = outcome_lines(result)
    lines += [f"kept: {path}" for path in _kept_tables(result)]
    lines.append(f"result: {result.output}")
    if lacks_particles(result.manifest):
        command = shell_command("materialize", result.output)
        lines.append(f"no particles are written; to write them: {command}")
    return list(map(printable, lines))


def outcome_lines(result: RunResult, labels: Mapping[str, str] | None = None) -> list[str]:
    """Return the lines with the counts of a run by input. `labels` are shown in place of the inputs' paths."""
    names, labels = result.manifest["names"], labels or {}
    counts = []
    for entry in result.by_input:
        path = entry["path"]
        label = labels.get(path, path)
        label = f"{names[path]}={label}" if path in names else label
        counts.append((label, entry["rows"], entry["rejected"]))
    totals = result.manifest["totals"]
    lines = count_lines("input", counts, _found_by(totals["votes"]) if totals["votes"] else ())
    if result.invalid:
        outcome = "kept" if result.manifest["parameters"]["invalid"] == "keep" else "rejected"
        rows = totals["invalid_by_reason"].items()
        reasons = ", ".join(f"{reason.replace('_', ' ')}: {count:,}" for reason, count in rows)
        invalid = counted(result.invalid, "row")
        lines.append(f"{outcome} without being compared: {invalid} ({reasons})")
    if result.low_score:
        lines.append(f"rejected for their scores: {counted(result.low_score, 'row')}")
    if totals["across_half_sets"]:
        lines.append(f"duplicate pairs across the two half-sets: {totals['across_half_sets']:,}")
    return list(map(printable, lines))


#: Combinations of pickers are listed for at most this number of pickers.
_COMBINED = 3
#: Particles with this many votes or more share one row.
_MANY_VOTES = 10


def _found_by(votes: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Return a row for each combination of pickers: its name, and the particles found and rejected.

    If there are many pickers, each number of pickers has a row.
    """
    if len(votes["pickers"]) > _COMBINED:
        rows = by_number_of_pickers(votes["by_votes"])
    else:
        rows = [
            (" + ".join(entry["pickers"]), entry["representatives"], entry["kept"])
            for entry in votes["by_pickers"]
        ]
    return [(name, found, found - kept) for name, found, kept in rows]


def by_number_of_pickers(by_votes: Sequence[dict[str, int]]) -> list[tuple[str, int, int]]:
    """Return a row for each number of pickers: the particles that this many pickers found, and the kept ones.

    Numbers without particles are left out. Large numbers share one row.
    """
    rows: dict[str, tuple[int, int]] = {}
    for entry in by_votes:
        votes, found = entry["votes"], entry["representatives"]
        if found:
            many = f"{_MANY_VOTES} or more pickers"
            name = counted(votes, "picker") if votes < _MANY_VOTES else many
            total, kept = rows.get(name, (0, 0))
            rows[name] = total + found, kept + entry["kept"]
    return [(name, *numbers) for name, numbers in rows.items()]


def count_lines(
    heading: str,
    counts: Sequence[tuple[str, int, int]],
    found_by: Sequence[tuple[str, int, int]] = (),
) -> list[str]:
    """Return a table as lines of text: the particles, kept and rejected, of each name and in all.

    The rows of `found_by` follow in the same columns. They are about combinations of pickers.
    """
    counts = [*counts]
    if len(counts) > 1:
        counts.append(("all", sum(rows for _, rows, _ in counts), sum(out for *_, out in counts)))
    width = max(5, len(heading), *(len(name) for name, *_ in (*counts, *found_by)))

    def row(name: str, rows: int, rejected: int) -> str:
        return f"{name:<{width}} {rows:>13,} {rows - rejected:>13,} {rejected:>13,}"

    columns = f"{'particles':>13} {'kept':>13} {'rejected':>13}"
    lines = [f"{heading:<{width}} {columns}"]
    for name, rows, rejected in counts:
        share = f"{rejected / rows:.1%}" if rows else "-"
        lines.append(f"{row(name, rows, rejected)}  {share}")
    if found_by:
        lines += [f"{'found by':<{width}} {columns}", *(row(*each) for each in found_by)]
    return lines


def _kept_tables(result: RunResult) -> list[str]:
    """Return the paths of kept STAR and CryoSPARC tables and folders of picks.

    After a conversion, return only the path of the STAR file, or of the list of coordinate files.
    """
    from dask_dedup.output.layout import KEPT
    from dask_dedup.results.finished_run import FinishedRun

    run = FinishedRun(result.output, result.manifest)
    if run.lacks_particles:
        return []
    folder = run.dataset_folder(KEPT)
    if run.is_conversion:
        listed = run.manifest["output_format"] == "relion-coordinates"
        return [f"{folder / ('autopick.star' if listed else 'particles.star')}"]
    files = (file for entry in run.manifest["inputs"] for file in entry["files"])
    read_only = _READ_ONLY.intersection(Path(file["path"]).suffix for file in files)
    return [
        *map(str, run.native_tables(KEPT).values()),
        *(
            f"{folder} (Parquet, as {suffix} files are read only)"
            for suffix in sorted(read_only)[:1]
        ),
    ]
