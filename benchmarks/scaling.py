"""Measure the growth of the cost with particles, columns, fragments and workers.

    python -m benchmarks.scaling rows --scratch /scratch --values 1_000_000,5_000_000,20_000_000
    python -m benchmarks.scaling columns --scratch /scratch --values 12,41,80
    python -m benchmarks.scaling workers --scratch /scratch --values 1,2 --rows 20_000_000
    python -m benchmarks.scaling fragments --scratch /scratch --values 1_000,20_000

Each round measures all values, and there are ``--repeats`` rounds. ``workers`` runs on a local Dask cluster. The start
of the cluster is not counted. ``fragments`` have 100 particles each and are read in this process. `benchmarks.cluster`
measures such fragments on a cluster.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.compare import OURS, command, machine
from benchmarks.generate import generate, generate_files
from benchmarks.measure import measure
from dask_dedup import run
from dask_dedup.cluster.connect import start_local
from dask_dedup.formats.parquet import fragments

TINY_ROWS = 100


def whole_command(rows: int, columns: int, scratch: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak memory in bytes of a whole command."""
    data = scratch / f"clustered-{rows}-{columns}"
    if not data.exists():
        generate("clustered", rows, data, columns)
    output = scratch / "output"
    shutil.rmtree(output, ignore_errors=True)
    taken = measure(command(OURS, [data], output, ["--no-report"]))
    shutil.rmtree(output)
    return taken.wall, taken.cpu, float(taken.rss)


def on_workers(workers: int, rows: int, scratch: Path) -> tuple[float, float, float]:
    """Return the cost of a run on a local cluster of workers with one thread each."""
    data = scratch / f"clustered-{rows}-41"
    if not data.exists():
        generate("clustered", rows, data)
    with ExitStack() as stack:
        # Always start two workers and retire one, so that only their number differs.
        client = start_local(stack, 2, 1)
        if workers == 1:
            addresses = list(client.scheduler_info()["workers"])
            client.retire_workers(addresses[1:])
        return timed(lambda: run(data, scratch / "output", client=client), scratch)


def many_fragments(number: int, scratch: Path) -> tuple[float, float, float]:
    """Return the cost of a run over many small fragments in this process."""
    path = scratch / f"tiny-{number}"
    generate_files(number, TINY_ROWS, path)
    # One fragment per row group.
    fragments.fragment_bytes = lambda total, least: 1  # noqa: ARG005
    return timed(lambda: run(path, scratch / "output"), scratch)


def timed(work: object, scratch: Path) -> tuple[float, float, float]:
    """Return the wall seconds of a call, and NaN for CPU time and memory, which are not measured."""
    shutil.rmtree(scratch / "output", ignore_errors=True)
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    shutil.rmtree(scratch / "output")
    return seconds, float("nan"), float("nan")


def rows(text: str) -> int:
    """Return the number in a text that can contain underscores."""
    return int(text.replace("_", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("rows", "columns", "workers", "fragments")
    parser.add_argument("dimension", choices=kinds)
    parser.add_argument("--values", required=True)
    parser.add_argument("--rows", type=rows, default=5_000_000, help="of the table for `workers`")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, required=True)
    arguments = parser.parse_args()
    values = [rows(value) for value in arguments.values.split(",")]
    measures = {
        "rows": lambda value: whole_command(value, 41, arguments.scratch),
        "columns": lambda value: whole_command(2_000_000, value, arguments.scratch),
        "workers": lambda value: on_workers(value, arguments.rows, arguments.scratch),
        "fragments": lambda value: many_fragments(value, arguments.scratch),
    }
    taken: dict[int, list[tuple[float, float, float]]] = {value: [] for value in values}
    for _ in range(arguments.repeats):
        for value in values:
            taken[value].append(measures[arguments.dimension](value))
            print(value, taken[value][-1], flush=True)
    print(
        f"\n{machine()}\n\n| {arguments.dimension} | wall (s), median and range | CPU (s) | peak memory (MB) |"
    )
    print("|---|---|---|---|")
    for value, rounds in taken.items():
        wall = [each[0] for each in rounds]
        cpu, rss = (statistics.median(each[n] for each in rounds) for n in (1, 2))
        spread = f"{statistics.median(wall):.1f} ({min(wall):.1f} to {max(wall):.1f})"
        print(f"| {value:,} | {spread} | {cpu:.1f} | {rss / 1e6:.0f} |")


if __name__ == "__main__":
    main()
