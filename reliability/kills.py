"""Kill the driver, a worker or the scheduler of a run at a random moment, and run the same command again.

    python -m reliability.kills --scratch /scratch --kills 60
    python -m reliability.kills --scratch /scratch --kills 6 --rows 100_000 --targets driver
    python -m reliability.kills --scratch /scratch --kills 12 --sessions 10

Some killed drivers run in a single process, others start a cluster, and others use an existing cluster. Workers and the
scheduler are killed on the existing cluster. If a run ends before the kill, the trial is repeated with an earlier kill.
Another process reads every existing ``particles_kept`` during the trials. With ``--sessions`` the table and the results
are partitioned by session.

A trial is good if the second command succeeds and `verify` passes. The data files must have the same bytes as those of
an undisturbed run, and no file or process of the killed command may be left.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from benchmarks.generate import FILE_ROWS, generate
from reliability.forked import Command

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TABLES = ("particles_kept", "particles_rejected", "duplicates")
TARGETS = ("driver", "worker", "scheduler")
EXECUTORS = ("one process", "cluster", "one process", "own cluster")
#: Time limit of a command, in seconds.
LIMIT = 600
#: Time limit for the processes of a killed command to end, in seconds.
LEAVE_SECONDS = 30.0


class Cluster:
    """A scheduler and two workers in separate processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.scheduler: Command | None = None
        self.workers: list[Command] = []

    def restore(self) -> None:
        """Start the missing processes. A new scheduler gets new workers."""
        if self.scheduler is None or self.scheduler.wait(0) is not None:
            for worker in self.workers:
                worker.kill()
                worker.wait()
            self.workers = []
            self.file.unlink(missing_ok=True)
            self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
            while not self.file.exists():
                time.sleep(0.05)
        self.workers = [worker for worker in self.workers if worker.wait(0) is None]
        while len(self.workers) < 2:
            options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
            self.workers.append(self._start("worker", *options))
        with Client(scheduler_file=str(self.file), set_as_default=False, timeout=LIMIT) as client:
            client.wait_for_workers(2, timeout=LIMIT)

    def _start(self, kind: str, *options: str) -> Command:
        argv = ["dask", kind, "--scheduler-file", str(self.file)]
        argv += ["--dashboard-address", "127.0.0.1:0", *options]
        return Command(argv, self.folder / f"{kind}-{len(self.workers)}.log")

    def stop(self) -> None:
        """Stop all processes."""
        for process in (*self.workers, self.scheduler):
            if process:
                process.kill()
                process.wait()


@dataclass
class Trial:
    """One kill and its outcome."""

    number: int
    target: str
    executor: str
    moment: float
    first_exit: int = 0
    written: int = 0
    resumed: str = ""
    faults: tuple[str, ...] = ()


def command(data: Path, out: Path, executor: str, cluster: Cluster) -> list[str]:
    """Return the command of a run."""
    argv = ["dask-dedup", "run", str(data), "--output", str(out), "--no-report"]
    if executor == "own cluster":
        argv += ["--workers", "2", "--threads-per-worker", "1"]
    elif executor == "cluster":
        argv += ["--scheduler-file", str(cluster.file)]
    return argv


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every data file of a result."""
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for table in TABLES
        for file in sorted((out / table).rglob("*.*"))
    }


def count_rows(folder: Path, *, whole: bool) -> int:
    """Count the rows of a dataset. If `whole`, read a column; otherwise only the footers, which is faster."""
    if whole:
        return pq.ParquetDataset(folder).read(columns=["uid"]).num_rows
    return sum(pq.read_metadata(file).num_rows for file in folder.rglob("*.parquet"))


def watch(scratch: str, expected: int, parent: Connection) -> None:
    """Read all kept datasets until the parent sends a message. Then send the number of reads and the errors."""
    reads, partial = 0, []
    while not parent.poll():
        for folder in Path(scratch).glob("trial-*/particles_kept"):
            try:
                rows = count_rows(folder, whole=reads % 20 == 0)
            except (OSError, pa.ArrowException) as error:
                rows = -1
                reason = str(error)
            else:
                reason = f"{rows} rows"
            if rows != expected and folder.exists():
                partial.append(f"{folder}: {reason}")
            reads += 1
        time.sleep(0.1)
    parent.recv()
    parent.send((reads, partial))


def sweep(out: Path) -> None:
    """Remove a result. Rename it first, so that the reading process never sees a part of the result."""
    swept = out.with_name("swept")
    if out.exists():
        out.rename(swept)
    shutil.rmtree(swept, ignore_errors=True)


def start_and_kill(
    trial: Trial, argv: list[str], out: Path, cluster: Cluster, chance: random.Random
) -> tuple[int, list[str]]:
    """Start a run and kill its target. Return the session of the driver and the faults that were found."""
    while True:
        sweep(out)
        cluster.restore()
        began = time.perf_counter()
        driver = Command(argv, cluster.folder / "driver.log")
        code = driver.wait(trial.moment)
        if code is None:
            break
        if code:
            return driver.pid, [f"ended with {code} before the kill: {driver.output[-300:]}"]
        trial.moment = chance.uniform(0.0, time.perf_counter() - began)
    targets = {"driver": driver, "worker": cluster.workers[0], "scheduler": cluster.scheduler}
    targets[trial.target].kill()
    trial.written = len([*out.glob(".dask-dedup-*/checkpoints/*.json")])
    code = driver.wait(LIMIT)
    if code is None:
        return driver.pid, [f"did not end within {LIMIT} s: {driver.output[-300:]}"]
    trial.first_exit = code
    # Workers may print a traceback if the driver was killed. A driver that was not killed must not print a traceback.
    faults = trial.target != "driver" and "Traceback" in driver.output
    return driver.pid, [f"a traceback: {driver.output[-3000:]}"] if faults else []


def left_processes(session: int) -> list[str]:
    """Wait up to `LEAVE_SECONDS`. Return the processes of a command that are still there."""
    end = time.monotonic() + LEAVE_SECONDS
    while True:
        left = []
        for process in psutil.process_iter(["name", "status"]):
            try:
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(f"{process.pid} {process.name()}")
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.2)


def attempt(
    trial: Trial, data: Path, out: Path, cluster: Cluster, expected: dict, chance: random.Random
) -> None:
    """Start a run, kill its target, run again and check the result."""
    argv = command(data, out, trial.executor, cluster)
    session, faults = start_and_kill(trial, argv, out, cluster, chance)
    # The workers of a killed driver end by themselves. A new run does not wait for them.
    cluster.restore()
    second = Command(argv, cluster.folder / "second.log")
    code = second.wait(LIMIT)
    trial.resumed = next((line for line in second.output.splitlines() if "resuming" in line), "")
    if code != 0:
        faults.append(f"the second command ended with {code}: {second.output[-300:]}")
    elif digests(out) != expected:
        faults.append("different data files")
    else:
        verification = Command(
            ["dask-dedup", "verify", str(out)], cluster.folder / "verification.log"
        )
        if verification.wait(LIMIT) != 0:
            faults.append(f"not verified: {verification.output[-300:]}")
    left = [entry.name for entry in out.iterdir() if entry.name.startswith(".")]
    left += left_processes(session)
    if left:
        faults.append(f"left over: {left}")
    trial.faults = tuple(faults)


def generate_sessions(rows: int, output: Path, columns: int, sessions: int) -> None:
    """Write a table in random order, partitioned by session if there are several."""
    files = output.with_name("files")
    shutil.rmtree(files, ignore_errors=True)
    generate("random", rows, files, columns, -(-rows // sessions) if sessions > 1 else FILE_ROWS)
    for number, file in enumerate(sorted(files.iterdir()) if sessions > 1 else ()):
        folder = files / f"session={number:03d}"
        folder.mkdir()
        file.rename(folder / file.name)
    files.rename(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=1_000_000)
    parser.add_argument("--columns", type=int, default=41)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--targets", default=",".join(TARGETS), help="processes to kill, in turn")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scratch: Path = arguments.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    size = (arguments.rows, arguments.columns, arguments.sessions)
    data = scratch / f"random-{'-'.join(map(str, size))}"
    if not data.exists():
        generate_sessions(arguments.rows, data, arguments.columns, arguments.sessions)
    targets = arguments.targets.split(",")
    chance = random.Random(arguments.seed)
    cluster = Cluster(scratch)
    reference = scratch / "reference"
    shutil.rmtree(reference, ignore_errors=True)
    began = time.perf_counter()
    argv = command(data, reference, "one process", cluster)
    code = Command(argv, scratch / "reference.log").wait(LIMIT)
    if code:
        raise RuntimeError(f"the undisturbed run ended with {code}")
    seconds = time.perf_counter() - began
    print(f"undisturbed, in one process: {seconds:.1f} s", flush=True)
    expected = digests(reference)
    whole = pq.ParquetDataset(reference / "particles_kept").read(columns=["uid"]).num_rows

    connection, theirs = get_context("spawn").Pipe()
    reader = get_context("spawn").Process(target=watch, args=(str(scratch), whole, theirs))
    reader.start()
    trials = []
    try:
        for number in range(arguments.kills):
            target = targets[number % len(targets)]
            executor = "cluster"
            if target == "driver":
                executor = EXECUTORS[number // len(targets) % len(EXECUTORS)]
            # A run on a cluster takes longer. If the run ends before the kill, the trial is repeated.
            moment = chance.uniform(0.0, seconds if executor == "one process" else 3 * seconds)
            trial = Trial(number, target, executor, moment)
            out = scratch / f"trial-{number:03d}"
            attempt(trial, data, out, cluster, expected, chance)
            trials.append(trial)
            print(
                f"{number:3d} {target:9s} of {executor:11s} at {trial.moment:5.1f} s, "
                f"{trial.written} fragments written: exit {trial.first_exit:3d}, "
                f"then {trial.resumed or 'started again, or done'}; "
                f"{', '.join(trial.faults) or 'good'}",
                flush=True,
            )
            if not trial.faults:
                sweep(out)
    finally:
        connection.send("stop")
        reads, partial = connection.recv()
        reader.join()
        cluster.stop()
    good = sum(not trial.faults for trial in trials)
    resumed = sum(bool(trial.resumed) for trial in trials)
    print(f"{good} of {len(trials)} good; {resumed} resumed from written fragments")
    print(
        f"another process read particles_kept {reads} times; not whole: {len(partial)} {partial[:3]}"
    )
    sys.exit(good < len(trials) or bool(partial))


if __name__ == "__main__":
    main()
