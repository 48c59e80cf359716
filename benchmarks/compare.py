"""Compare the time and memory of dask-dedup with those of other programs on the same table.

    python -m benchmarks.compare clustered --rows 5_000_000 --repeats 5 --scratch /scratch

The first round is not measured. It fills the page cache and checks that all programs keep the same particles. In
each round dask-dedup is first, and the others follow in a random order. Ratios are taken within a round, so that other
work on the machine affects all programs equally.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import re
import shutil
import statistics
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.generate import CASES, generate
from benchmarks.measure import Measurement, measure

BASELINES = Path(__file__).parent / "baselines"
OURS = "dask-dedup"
#: The command that writes the list of duplicates, and no particles.
LISTING = f"{OURS} --duplicates-only"
#: Ways to run dask-dedup.
WAYS = (OURS, f"{OURS} --no-report", LISTING)
#: The command that copies the files without parsing them.
COPY_FILES = "cp -r"
COPIES = (COPY_FILES, "copy_zstd", "copy_default", "copy_tuned")
#: Scripts that remove duplicates, so they must keep the same particles.
DECIDING = ("polars_script", "pandas_script", "dask_script")
NAMES = (*WAYS, *COPIES, *DECIDING)


@dataclass(frozen=True)
class Round:
    """The cost of a program in one round, and the size of its output."""

    taken: Measurement
    #: Bytes of its output.
    written: int


def command(name: str, inputs: list[Path], output: Path, options: list[str]) -> list[str]:
    """Return the command line of a program."""
    paths = [str(path) for path in inputs]
    if name in WAYS:
        program = [sys.executable, "-m", "dask_dedup", "run"]
        more = name.split()[1:]
        return [*program, *paths, "--output", str(output), "--quiet", *options, *more]
    if name == COPY_FILES:
        return ["cp", "-rL", *paths, str(output)]
    return [sys.executable, str(BASELINES / f"{name}.py"), *paths, str(output)]


def kept_uids(name: str, inputs: list[Path], output: Path) -> np.ndarray:
    """Return the sorted uids of the particles that a program kept."""
    if name == LISTING:
        return np.setdiff1d(_uids(*inputs), _uids(output / "duplicates"))
    path = "kept" if name == "dask_script" else "kept.parquet"
    return np.sort(_uids(output / ("particles_kept" if name in WAYS else path)))


def _uids(*tables: Path) -> np.ndarray:
    parts = [pq.read_table(table, columns=["uid"])["uid"].to_numpy() for table in tables]
    return np.concatenate(parts)


def bytes_in(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(
    inputs: list[Path], names: list[str], repeats: int, scratch: Path, options: list[str]
) -> dict[str, list[Round]]:
    """Measure the programs in interleaved rounds. First check that they keep the same particles."""
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    expected: np.ndarray | None = None
    shuffler = random.Random(0)
    output = scratch / "output"
    for number in range(repeats + 1):
        for name in [OURS, *shuffler.sample(names[1:], len(names) - 1)]:
            shutil.rmtree(output, ignore_errors=True)
            if name == COPY_FILES:
                output.mkdir()
            taken = measure(command(name, inputs, output, options))
            print(f"round {number} of {repeats}, {name}: {taken}", file=sys.stderr, flush=True)
            if number:
                rounds[name].append(Round(taken, bytes_in(output)))
            elif name in (*WAYS, *DECIDING):
                kept = kept_uids(name, inputs, output)
                expected = kept if expected is None else expected
                if not np.array_equal(kept, expected):
                    raise SystemExit(
                        f"{name} keeps {kept.size:,} particles, {OURS} other {expected.size:,}"
                    )
            shutil.rmtree(output)
    return rounds


def lines(rounds: dict[str, list[Round]]) -> list[str]:
    """Return medians, ranges and ratios as lines of a Markdown table."""
    table = [
        "| | wall (s), median and range | CPU (s) | peak memory (MB) | written (MB) "
        "| wall: dask-dedup / program | CPU: same ratio | memory: same ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = [each.taken for each in rounds[OURS]]
    for name, all_rounds in rounds.items():
        its = [each.taken for each in all_rounds]
        wall = [each.wall for each in its]
        ratios = [
            statistics.median(
                # A copy of a small table can end before the first sample.
                getattr(a, field) / (getattr(b, field) or math.nan)
                for a, b in zip(ours, its, strict=True)
            )
            for field in ("wall", "cpu", "rss")
        ]
        cells = (
            f"{statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f})",
            f"{statistics.median(each.cpu for each in its):.2f}",
            f"{statistics.median(each.rss for each in its) / 1e6:.0f}",
            f"{all_rounds[0].written / 1e6:.0f}",
            *(f"{ratio:.2f}" for ratio in ratios),
        )
        table.append(f"| {' | '.join((name, *cells))} |")
    return table


def put_section(page: str, title: str, section: str) -> str:
    """Return a Markdown page with a new section, which replaces a section with the same title."""
    old = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    new = f"## {title}\n\n{section.strip()}\n\n"
    replaced, found = old.subn(lambda _: new, page, count=1)
    return (replaced if found else f"{page.rstrip()}\n\n{new}").rstrip() + "\n"


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
    parser.add_argument(
        "--into", type=Path, help="Markdown file in which to replace the section of this table."
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.only.split(",") if name not in NAMES]
    if unknown:
        parser.error(f"no program {', '.join(unknown)}; there are {', '.join(NAMES)}")
    data = arguments.scratch / f"{arguments.case}-{arguments.rows}-{arguments.columns}"
    inputs = sorted(data.glob("picker*")) or [data]
    if not data.exists():
        inputs = generate(arguments.case, arguments.rows, data, arguments.columns)
    names = [OURS, *(name for name in arguments.only.split(",") if name != OURS)]
    load = os.getloadavg()[0]
    rounds = compare(inputs, names, arguments.repeats, arguments.scratch, arguments.options.split())
    title = f"{arguments.case}, {arguments.rows:,} x {arguments.columns}"
    method = f"{datetime.now(UTC):%Y-%m-%d}, {arguments.repeats} rounds, load {load:.1f} before the first. {machine()}."
    section = "\n".join([fill(method, 100, break_on_hyphens=False), "", *lines(rounds)])
    print(f"## {title}\n\n{section}")
    if arguments.into:
        arguments.into.write_text(put_section(arguments.into.read_text(), title, section))
    (arguments.scratch / "last.json").write_text(
        json.dumps({n: [vars(each.taken) for each in r] for n, r in rounds.items()})
    )


if __name__ == "__main__":
    main()
