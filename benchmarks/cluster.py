"""Measure runs on a running Dask cluster: compared with a single process, and with many small fragments.

    python -m benchmarks.cluster --scratch /scratch beside-one-process clustered --rows 5_000_000
    python -m benchmarks.cluster --scratch /scratch fragments --number 2_000

The cluster is a scheduler and two worker processes of one thread each, on this machine. Each measurement begins with
a new cluster that has finished a small run, so that all programs are imported.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.compare import machine
from benchmarks.generate import generate, generate_files

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Rows per file in the first run on a cluster, and rows of a small fragment.
WARM_ROWS, TINY_ROWS = 5_000, 100
#: The command, and the command with a fragment for each file.
RUN = "from dask_dedup.cli import main; main()"
RUN_BY_FILE = (
    "from dask_dedup.formats.parquet import fragments; "
    f"fragments.fragment_bytes = lambda total, least: 1; {RUN}"
)
#: The processes of a run.
PARTS = DRIVER, SCHEDULER, WORKERS = "driver", "scheduler", "workers"
Measured = tuple[float, dict[str, float]]


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    address: str
    scheduler: psutil.Process
    workers: list[psutil.Process]

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that the scheduler and all workers have used."""
        return {SCHEDULER: _cpu([self.scheduler]), WORKERS: _cpu(self.workers)}


def environment() -> dict[str, str]:
    """Return the environment of all processes: Python keeps compiled modules, as after an installation."""
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def running_cluster(scratch: Path, workers: int = 2) -> Iterator[Cluster]:
    """Start a scheduler and worker processes with one thread each, and stop them at the end."""
    file, local = scratch / "scheduler.json", scratch / "workers"
    file.unlink(missing_ok=True)
    listen = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    dask = [sys.executable, "-m", "dask"]
    preloads = ["dask_dedup.monitoring.dashboard", "dask_dedup.cluster.preload"]
    scheduler = ["--port", "0", "--preload", preloads[0]]
    worker = ["--nthreads", "1", "--nworkers", str(workers), "--preload-nanny", preloads[1]]
    worker += ["--local-directory", str(local)]
    where = ["--scheduler-file", str(file), *listen]
    commands = [
        [*dask, "scheduler", *where, *scheduler],
        [*dask, "worker", *where, *worker],
    ]
    started = [
        psutil.Popen(each, stderr=subprocess.DEVNULL, env=environment()) for each in commands
    ]
    try:
        from distributed import Client

        while not file.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(workers, timeout=60)
            pids, address = client.run(os.getpid), client.scheduler.address
        processes = [psutil.Process(pid) for pid in pids.values()]
        yield Cluster(address, started[0], processes)
    finally:
        for process in reversed(started):
            with suppress(psutil.Error):
                process.terminate()
                process.wait(30)


def measure_run(
    inputs: list[Path], scratch: Path, cluster: Cluster | None = None, *, by_file: bool = False
) -> Measured:
    """Run the command. Return wall seconds, and CPU seconds of the driver and the parts of the cluster.

    With `by_file` each file is a fragment, even a small file.
    """
    output = scratch / "output"
    shutil.rmtree(output, ignore_errors=True)
    where = ["--scheduler", cluster.address] if cluster else ["--threads", "2"]
    program = [sys.executable, "-c", RUN_BY_FILE if by_file else RUN, "run", *map(str, inputs)]
    options = ["--output", str(output), "--no-report", "--quiet", *where]
    before, own, began = cluster.cpu() if cluster else {}, os.times(), time.perf_counter()
    subprocess.run([*program, *options], check=True, env=environment())
    wall, after = time.perf_counter() - began, os.times()
    cpu = {DRIVER: sum(after[2:4]) - sum(own[2:4])}
    if cluster:
        cpu |= {name: value - before[name] for name, value in cluster.cpu().items()}
    shutil.rmtree(output)
    return wall, cpu


def on_cluster(inputs: list[Path], scratch: Path, *, by_file: bool = False) -> Measured:
    """Measure a run on a new cluster, after a small run that also shuffles picks."""
    warm = scratch / "warm"
    generate_files(4, WARM_ROWS, warm, "random")
    with running_cluster(scratch) as cluster:
        measure_run([warm], scratch, cluster, by_file=True)
        return measure_run(inputs, scratch, cluster, by_file=by_file)


def beside_one_process(case: str, rows: int, repeats: int, scratch: Path) -> None:
    """Print the cost of a run on two workers of one thread, and in a single process with two threads."""
    data = scratch / f"{case}-{rows}-41"
    if not data.exists():
        generate(case, rows, data)
    taken: dict[str, list[Measured]] = {"one process": [], "cluster": []}
    for _ in range(repeats):
        taken["one process"].append(measure_run([data], scratch))
        taken["cluster"].append(on_cluster([data], scratch))
        print({name: rounds[-1] for name, rounds in taken.items()}, file=sys.stderr, flush=True)
    print(
        f"\n{machine()}\n\n| {case}, {rows:,} | wall (s) | CPU (s) | {' | '.join(PARTS)} |\n"
        "|---|---|---|---|---|---|"
    )
    for name, rounds in taken.items():
        wall = statistics.median(each for each, _ in rounds)
        parts = [statistics.median(cpu.get(part, 0.0) for _, cpu in rounds) for part in PARTS]
        each = " | ".join(f"{part:.2f}" for part in parts)
        print(f"| {name} | {wall:.2f} | {sum(parts):.2f} | {each} |")
    ratios = [
        (there[0] / here[0], sum(there[1].values()) / sum(here[1].values()))
        for here, there in zip(*taken.values(), strict=True)
    ]
    wall, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"| cluster / one process | {wall:.2f} | {cpu:.2f} | | | |")


def fragments(number: int, repeats: int, scratch: Path) -> None:
    """Print the CPU time of driver, scheduler and workers per fragment, for fragments of 100 particles."""
    path = scratch / f"tiny-{number}"
    generate_files(number, TINY_ROWS, path)
    columns = " | ".join(f"{part} (ms each)" for part in PARTS)
    print(f"\n{machine()}\n\n| fragments | wall (s) | {columns} |\n|---|---|---|---|---|")
    for _ in range(repeats):
        wall, cpu = on_cluster([path], scratch, by_file=True)
        each = " | ".join(f"{1e3 * cpu[part] / number:.2f}" for part in PARTS)
        print(f"| {number:,} | {wall:.1f} | {each} |", flush=True)


def main() -> None:
    def count(text: str) -> int:
        return int(text.replace("_", ""))

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    commands = parser.add_subparsers(dest="command", required=True)
    beside = commands.add_parser("beside-one-process")
    beside.add_argument("case", choices=("clustered", "random"))
    beside.add_argument("--rows", type=count, default=5_000_000)
    small = commands.add_parser("fragments")
    small.add_argument("--number", type=count, default=2_000)
    arguments = parser.parse_args()
    if arguments.command == "fragments":
        fragments(arguments.number, arguments.repeats, arguments.scratch)
    else:
        beside_one_process(arguments.case, arguments.rows, arguments.repeats, arguments.scratch)


if __name__ == "__main__":
    main()
