"""Compare the wall time and memory of dask-dedup with those of other scripts on the same table.

    python -m benchmarks.compare clustered --rows 5_000_000 --repeats 5 --scratch /scratch

Rounds are interleaved, the order within each round changes, and ratios are taken within a round, so that other
work on the machine affects all alike. All scripts must keep the same particles.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import statistics
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.generate import CASES, generate
from benchmarks.measure import Measurement, measure

BASELINES = Path(__file__).parent / "baselines"
OURS, WITHOUT_REPORT = "dask-dedup", "dask-dedup --no-report"
#: Copies the files without reading their content.
COPY_FILES = "cp"
#: Scripts that decide, and so must keep the same particles.
DECIDING = ("polars_script", "pandas_script", "dask_script")
COPIES = (COPY_FILES, "copy_zstd", "copy_default", "copy_tuned")
NAMES = (OURS, WITHOUT_REPORT, *COPIES, *DECIDING)


def command(name: str, inputs: list[Path], output: Path, options: list[str]) -> list[str]:
    """Return the command line of a program."""
    paths = [str(path) for path in inputs]
    if name.startswith(OURS):
        program = [sys.executable, "-c", "from dask_dedup.cli import main; main()", "run"]
        more = name.split()[1:]
        return [*program, *paths, "--output", str(output), "--quiet", *options, *more]
    if name == COPY_FILES:
        return ["cp", "-rL", *paths, str(output)]
    return [sys.executable, str(BASELINES / f"{name}.py"), *paths, str(output)]


def kept_uids(name: str, output: Path) -> np.ndarray:
    """Return the sorted uids of the particles that a program kept."""
    path = {OURS: "particles_kept", "dask_script": "kept"}.get(name, "kept.parquet")
    return np.sort(pq.read_table(output / path, columns=["uid"])["uid"].to_numpy())


def compare(
    inputs: list[Path], names: list[str], repeats: int, scratch: Path, options: list[str]
) -> dict[str, list[Measurement]]:
    """Measure the programs in interleaved rounds, and check that they keep the same particles."""
    taken: dict[str, list[Measurement]] = {name: [] for name in names}
    expected: np.ndarray | None = None
    shuffler = random.Random(0)
    for number in range(repeats):
        for name in [OURS, *shuffler.sample(names[1:], len(names) - 1)]:
            output = scratch / "output"
            shutil.rmtree(output, ignore_errors=True)
            if name == COPY_FILES:
                output.mkdir()
            taken[name].append(measure(command(name, inputs, output, options)))
            print(f"round {number + 1} {name}: {taken[name][-1]}", file=sys.stderr, flush=True)
            if number == 0 and name in (OURS, *DECIDING):
                kept = kept_uids(name, output)
                expected = kept if expected is None else expected
                if not np.array_equal(kept, expected):
                    raise SystemExit(
                        f"{name} keeps {kept.size:,} particles, {OURS} other {expected.size:,}"
                    )
            shutil.rmtree(output)
    return taken


def lines(taken: dict[str, list[Measurement]]) -> list[str]:
    """Return medians, ranges and ratios as lines of a Markdown table."""
    table = [
        "| | wall (s), median and range | CPU (s) | peak memory (MB) | ours / it: wall | CPU | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = taken[OURS]
    for name, rounds in taken.items():
        wall = [m.wall for m in rounds]
        ratios = [
            statistics.median(
                # A copy of a small table may be over before it is measured.
                getattr(a, field) / (getattr(b, field) or math.nan)
                for a, b in zip(ours, rounds, strict=True)
            )
            for field in ("wall", "cpu", "rss")
        ]
        table.append(
            f"| {name} | {statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) | "
            f"{statistics.median(m.cpu for m in rounds):.2f} | "
            f"{statistics.median(m.rss for m in rounds) / 1e6:.0f} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |"
        )
    return table


def machine() -> str:
    """Return a description of the machine and the versions."""
    libraries = ("dask-dedup", "pyarrow", "numpy", "scipy", "polars", "pandas", "dask")
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(": ")[1] for line in cpuinfo if line.startswith("model name"))
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, {psutil.virtual_memory().total / 1e9:.0f} GB; "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=5_000_000)
    parser.add_argument("--columns", type=int, default=41)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only", default=",".join(NAMES), help="Programs to run, separated by commas."
    )
    parser.add_argument("--options", default="", help="Options of dask-dedup run.")
    parser.add_argument(
        "--scratch", type=Path, required=True, help="Folder for tables and results."
    )
    parser.add_argument("--append", type=Path, help="Add the table to this Markdown file.")
    arguments = parser.parse_args()
    data = arguments.scratch / f"{arguments.case}-{arguments.rows}-{arguments.columns}"
    inputs = sorted(data.glob("picker*")) or [data]
    if not data.exists():
        inputs = generate(arguments.case, arguments.rows, data, arguments.columns)
    names = [OURS, *(name for name in arguments.only.split(",") if name != OURS)]
    taken = compare(inputs, names, arguments.repeats, arguments.scratch, arguments.options.split())
    title = (
        f"## {arguments.case}, {arguments.rows:,} x {arguments.columns}\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}, {arguments.repeats} rounds, {machine()}\n"
    )
    text = "\n".join([title, *lines(taken)])
    print(text)
    if arguments.append:
        with arguments.append.open("a") as file:
            file.write(f"\n{text}\n")
    (arguments.scratch / "last.json").write_text(
        json.dumps({n: [vars(m) for m in r] for n, r in taken.items()})
    )


if __name__ == "__main__":
    main()
