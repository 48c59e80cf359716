"""Many runs in a row on one cluster that lives on: what grows, and what is left lying about.

    python -m reliability.soak --scratch /scratch --runs 50

After each run the memory, threads, sockets and open files of scheduler, workers and driver are taken, and what the
scheduler holds: tasks, clients, topics, published data, plugins. A line is fitted to the memory after the first runs,
in which libraries are loaded. Good is: no more memory a run than noise explains, and nothing else more than after
the first runs.
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

#: Memory may grow so much a run before it is called a leak, in MB, beyond two standard errors of the slope.
LEAK_MB = 0.2
#: What would grow for longer than a campaign lasts, or now more and now less, is kept small: Dask's logs, which hold
#: the last 1,000 entries and a profile of every second among them, so that a worker grows for 17 minutes of work; and
#: what Arrow's own allocator keeps of memory that is free, where the system's gives back what it is asked for.
STEADY = {
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "10",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
#: Seconds a cluster has, after a run, to let go.
SETTLE_SECONDS = 10.0
#: Scheduler and workers keep some connections to each other for later, now more and now fewer, and the pools of the
#: libraries below Python start a thread when they first need it.
SPARE = {"sockets": 4, "threads": 2}
FILE_ROWS = 5_000


@dataclass
class Sample:
    """What was there after a run: memory in MB, and counts."""

    memory: dict[str, float]
    counts: dict[str, int]


@dataclass
class Soak:
    """All runs."""

    warm: int
    samples: list[Sample] = field(default_factory=list)

    def slopes(self) -> dict[str, tuple[float, float]]:
        """Fit a line to the memory of each process after the first runs; MB a run and its standard error."""
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
        """Name the counts that are higher after the last run than ever in the first."""
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
    """Count what a scheduler holds, but for the topic of its own that Dask keeps for every client there ever was."""
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


def let_go() -> None:
    """Give back to the system what is free."""
    gc.collect()
    pa.default_memory_pool().release_unused()


def sample(cluster: Cluster, client, settle: float = SETTLE_SECONDS) -> Sample:
    """Look at a cluster once it has let go of its tasks, or after some time if it does not."""
    processes = {"driver": psutil.Process(), "scheduler": psutil.Process(cluster.scheduler.pid)}
    processes |= {f"worker {n}": psutil.Process(w.pid) for n, w in enumerate(cluster.workers)}
    end = time.monotonic() + settle
    while True:
        counts = client.run_on_scheduler(held)
        if not (counts["tasks"] or counts["shuffles"]) or time.monotonic() > end:
            break
        time.sleep(0.1)
    let_go()
    client.run(let_go)
    client.run_on_scheduler(let_go)
    memory = {}
    for name, process in processes.items():
        memory[name] = process.memory_info().rss / 1e6
        counts[f"{name}: threads"] = process.num_threads()
        counts[f"{name}: sockets"] = len(process.net_connections(kind="inet"))
        counts[f"{name}: open files"] = len(process.open_files())
    counts["scratch files"] = sum(path.is_file() for path in cluster.folder.rglob("*"))
    return Sample(memory, counts)


def soak(scratch: Path, runs: int, rows: int, warm: int, *, told: bool = True) -> Soak:
    """Run many times on one cluster, each time with a client of its own."""
    from distributed import Client

    from dask_dedup import run
    from dask_dedup.formats.parquet import table as parquet

    data, out = scratch / "in", scratch / "out"
    generate("random", rows, data, 16, FILE_ROWS)
    found = Soak(warm)
    # So that each file is a fragment, and picks travel.
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
            if told:
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
        print(f"{name}: {slope:+.3f} MB a run (standard error {error:.3f}) after the first {warm}")
    print(f"leaks: {leaks or 'none'}; more than at first: {found.grown() or 'nothing'}")
    print(f"at the end: {found.samples[-1].counts}")
    sys.exit(bool(leaks or found.grown()))


if __name__ == "__main__":
    main()
