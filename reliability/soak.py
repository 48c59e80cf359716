"""Many runs in a row on one cluster: measure memory, open files and other leftovers.

    python -m reliability.soak --scratch /scratch --runs 50

After each run, the test measures the memory, threads, sockets and open files of scheduler, workers and driver. It also
counts the tasks, clients, topics, published data and plugins of the scheduler. The first runs load libraries, so a line
is fitted only to the memory of later runs. The test passes if there is no leak (`LEAK_MB`) and no count grows.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.generate import generate
from reliability.cluster import Cluster

#: Limit for a leak, in MB per run: the growth minus two standard errors of the slope must not exceed this.
LEAK_MB = 0.2
#: Settings against growth that is no leak. Dask's logs contain the last 1,000 entries, so they grow for 17 minutes.
#: Arrow's default allocator keeps free memory, unlike the allocator of the system.
STEADY = {
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "10",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
#: Time limit for a cluster to release its tasks after a run, in seconds.
SETTLE_SECONDS = 10.0
#: Tolerance: Dask keeps a varying number of open connections, and native libraries start threads on demand.
SPARE = {"sockets": 4, "threads": 2}
FILE_ROWS = 5_000


@dataclass
class Sample:
    """Memory in MB, and counts, after a run."""

    memory: dict[str, float]
    counts: dict[str, int]


@dataclass
class Soak:
    """The samples of all runs."""

    warm: int
    samples: list[Sample] = field(default_factory=list)

    def slopes(self) -> dict[str, tuple[float, float]]:
        """Return the growth of each process after the first runs, in MB per run, and its standard error."""
        later = self.samples[self.warm :]
        runs = np.arange(len(later))
        fitted = {}
        for name in later[0].memory:
            memory = np.array([sample.memory[name] for sample in later])
            slope, base = np.polyfit(runs, memory, 1)
            rest = memory - (slope * runs + base)
            variance = (rest @ rest) / (len(runs) - 2) / ((runs - runs.mean()) ** 2).sum()
            fitted[name] = (float(slope), float(np.sqrt(variance)))
        return fitted

    def grown(self) -> list[str]:
        """Return the counts that are higher after the last run than after any of the first runs."""
        first = self.samples[: self.warm]
        last = self.samples[-1].counts
        most = {name: max(sample.counts[name] for sample in first) for name in last}
        spare = {name: SPARE.get(name.rpartition(": ")[2], 0) for name in last}
        return [
            f"{name}: {most[name]} -> {last[name]}"
            for name in last
            if last[name] > most[name] + spare[name]
        ]


def held(dask_scheduler) -> dict[str, int]:
    """Count the objects of a scheduler, without the topics that Dask keeps for former clients."""
    scheduler = dask_scheduler
    return {
        "tasks": len(scheduler.tasks),
        "clients": len(scheduler.clients),
        "topics": sum(not topic.startswith("Client-") for topic in scheduler.get_events()),
        "published": len(scheduler.extensions["publish"].datasets),
        "metadata": len(scheduler.task_metadata),
        "plugins": len(scheduler.plugins),
        "shuffles": len(scheduler.plugins["shuffle"].active_shuffles),
    }


def release_memory() -> None:
    """Return free memory to the system."""
    gc.collect()
    pa.default_memory_pool().release_unused()


def sample(cluster: Cluster, client, settle: float = SETTLE_SECONDS) -> Sample:
    """Measure a cluster after it has released its tasks, at most `settle` seconds later."""
    processes = {"driver": psutil.Process(), "scheduler": psutil.Process(cluster.scheduler.pid)}
    processes |= {f"worker {n}": psutil.Process(w.pid) for n, w in enumerate(cluster.workers)}
    end = time.monotonic() + settle
    while True:
        counts = client.run_on_scheduler(held)
        if not (counts["tasks"] or counts["shuffles"]) or time.monotonic() > end:
            break
        time.sleep(0.1)
    release_memory()
    client.run(release_memory)
    client.run_on_scheduler(release_memory)
    memory = {}
    for name, process in processes.items():
        memory[name] = process.memory_info().rss / 1e6
        counts[f"{name}: threads"] = process.num_threads()
        counts[f"{name}: sockets"] = len(process.net_connections(kind="inet"))
        counts[f"{name}: open files"] = len(process.open_files())
    counts["scratch files"] = sum(path.is_file() for path in cluster.folder.rglob("*"))
    return Sample(memory, counts)


def soak(scratch: Path, runs: int, rows: int, warm: int, *, verbose: bool = True) -> Soak:
    """Run many times on one cluster, each time with a new client."""
    from distributed import Client

    from dask_dedup import run
    from dask_dedup.formats.parquet import table as parquet

    data, out = scratch / "in", scratch / "out"
    generate("random", rows, data, 16, FILE_ROWS)
    found = Soak(warm)
    # Each file is a fragment, so that picks are shuffled.
    before, parquet.FRAGMENT_BYTES = parquet.FRAGMENT_BYTES, 1
    with ExitStack() as stack:
        stack.callback(setattr, parquet, "FRAGMENT_BYTES", before)
        cluster = Cluster(scratch / "cluster", STEADY)
        stack.callback(cluster.stop)
        for _ in range(2):
            cluster.add_worker(host="127.0.0.1")
        watcher = stack.enter_context(
            Client(scheduler_file=str(cluster.file), set_as_default=False)
        )
        watcher.wait_for_workers(2, timeout=300)
        for number in range(runs):
            shutil.rmtree(out, ignore_errors=True)
            with Client(scheduler_file=str(cluster.file), set_as_default=False) as client:
                run(data, out, client=client)
            left = [entry.name for entry in out.iterdir() if entry.name.startswith(".")]
            taken = sample(cluster, watcher)
            taken.counts["left in the output"] = len(left)
            found.samples.append(taken)
            if verbose:
                memory = ", ".join(f"{name} {mb:.0f}" for name, mb in taken.memory.items())
                print(f"{number:3d}: {memory} MB", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=50_000)
    arguments = parser.parse_args()
    warm = max(2, arguments.runs // 5)
    found = soak(arguments.scratch.resolve(), arguments.runs, arguments.rows, warm)
    leaks = []
    for name, (slope, error) in found.slopes().items():
        leaks += [name] if slope - 2 * error > LEAK_MB else []
        print(
            f"{name}: {slope:+.3f} MB per run (standard error {error:.3f}) after the first {warm}"
        )
    print(f"leaks: {leaks or 'none'}; grown counts: {found.grown() or 'nothing'}")
    print(f"at the end: {found.samples[-1].counts}")
    sys.exit(bool(leaks or found.grown()))


if __name__ == "__main__":
    main()
