"""Kill the driver, a worker or the scheduler of a run at a random moment, and run the same command again.

    python -m reliability.kills --scratch /scratch --kills 60
    python -m reliability.kills --scratch /scratch --kills 6 --rows 100_000 --victims driver

Driver kills take turns between a run in one process, one on a cluster of its own and one on a cluster that is
there; worker and scheduler kills happen to the latter. A kill that came after the run's end is no kill: it is tried
again, earlier. All through it another process reads every ``particles_kept`` it can see. A trial is good if the second
command ends well, all data files are those of an undisturbed run, `verify` passes, and nothing is left over: no file,
and no process of the killed command.
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

from benchmarks.generate import generate
from reliability.forked import Command

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TABLES = ("particles_kept", "particles_rejected", "duplicates")
VICTIMS = ("driver", "worker", "scheduler")
PLACES = ("one process", "cluster", "one process", "own cluster")
#: The longest any command may take, in seconds.
LIMIT = 600
#: Processes of a killed command may take so long to end, in seconds.
LEAVE_SECONDS = 30.0


class Cluster:
    """A scheduler and two workers in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.scheduler: Command | None = None
        self.workers: list[Command] = []

    def mend(self) -> None:
        """Start what is not there; workers do not outlive their scheduler."""
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
        words = ["dask", kind, "--scheduler-file", str(self.file)]
        words += ["--dashboard-address", "127.0.0.1:0", *options]
        return Command(words, self.folder / f"{kind}-{len(self.workers)}.log")

    def stop(self) -> None:
        """End all of it."""
        for process in (*self.workers, self.scheduler):
            if process:
                process.kill()
                process.wait()


@dataclass
class Trial:
    """One kill, and what came after it."""

    number: int
    victim: str
    where: str
    moment: float
    first_exit: int = 0
    written: int = 0
    resumed: str = ""
    faults: tuple[str, ...] = ()


def command(data: Path, out: Path, where: str, cluster: Cluster) -> list[str]:
    """Give the command of a run in one process, on a cluster of its own, or on the one that is there."""
    words = ["dask-dedup", "run", str(data), "--output", str(out), "--no-report"]
    if where == "own cluster":
        words += ["--workers", "2", "--threads-per-worker", "1"]
    elif where == "cluster":
        words += ["--scheduler-file", str(cluster.file)]
    return words


def digests(out: Path) -> dict[str, str]:
    """Give the SHA-256 of every data file of a result."""
    return {
        f"{table}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()
        for table in TABLES
        for file in sorted((out / table).iterdir())
    }


def count_rows(folder: Path, *, whole: bool) -> int:
    """Count the rows of a dataset as anybody would: read a column, or the footers only, which is quicker."""
    if whole:
        return pq.ParquetDataset(folder).read(columns=["uid"]).num_rows
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def watch(scratch: str, expected: int, told: Connection) -> None:
    """Read every dataset that can be seen, over and over; tell how often, and what was not whole."""
    reads, partial = 0, []
    while not told.poll():
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
    told.recv()
    told.send((reads, partial))


def sweep(out: Path) -> None:
    """Remove a result, out of the reader's sight before it is taken apart."""
    swept = out.with_name("swept")
    if out.exists():
        out.rename(swept)
    shutil.rmtree(swept, ignore_errors=True)


def start_and_kill(
    trial: Trial, words: list[str], out: Path, cluster: Cluster, chance: random.Random
) -> tuple[int, list[str]]:
    """Start a run and kill its victim in mid-run; give the driver's session, and what was wrong about its end."""
    while True:
        sweep(out)
        cluster.mend()
        began = time.perf_counter()
        driver = Command(words, cluster.folder / "driver.log")
        code = driver.wait(trial.moment)
        if code is None:
            break
        if code:
            return driver.pid, [f"ended with {code} before the kill: {driver.told[-300:]}"]
        trial.moment = chance.uniform(0.0, time.perf_counter() - began)
    victims = {"driver": driver, "worker": cluster.workers[0], "scheduler": cluster.scheduler}
    victims[trial.victim].kill()
    trial.written = len([*out.glob(".dask-dedup-*/checkpoints/*.json")])
    code = driver.wait(LIMIT)
    if code is None:
        return driver.pid, [f"did not end within {LIMIT} s: {driver.told[-300:]}"]
    trial.first_exit = code
    # Of a driver that was killed, its workers may still say that they lost it; one that lives has to say it itself.
    faults = trial.victim != "driver" and "Traceback" in driver.told
    return driver.pid, [f"a traceback: {driver.told[-3000:]}"] if faults else []


def left_processes(session: int) -> list[str]:
    """Name the processes of a command that are there some time after it ended."""
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
    """Start a run, kill, run again, look."""
    words = command(data, out, trial.where, cluster)
    session, faults = start_and_kill(trial, words, out, cluster, chance)
    # A killed driver's own workers see to their end by themselves; a new run need not wait for that.
    cluster.mend()
    again = Command(words, cluster.folder / "again.log")
    code = again.wait(LIMIT)
    trial.resumed = next((line for line in again.told.splitlines() if "going on" in line), "")
    if code != 0:
        faults.append(f"the second command ended with {code}: {again.told[-300:]}")
    elif digests(out) != expected:
        faults.append("other data files")
    else:
        proof = Command(["dask-dedup", "verify", str(out)], cluster.folder / "proof.log")
        if proof.wait(LIMIT) != 0:
            faults.append(f"not verified: {proof.told[-300:]}")
    left = [entry.name for entry in out.iterdir() if entry.name.startswith(".")]
    left += left_processes(session)
    if left:
        faults.append(f"left over: {left}")
    trial.faults = tuple(faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=1_000_000)
    parser.add_argument("--columns", type=int, default=41)
    parser.add_argument("--victims", default=",".join(VICTIMS), help="who is killed, in turns")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scratch: Path = arguments.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    data = scratch / f"random-{arguments.rows}-{arguments.columns}"
    if not data.exists():
        generate("random", arguments.rows, data, arguments.columns)
    victims = arguments.victims.split(",")
    chance = random.Random(arguments.seed)
    cluster = Cluster(scratch)
    reference = scratch / "reference"
    shutil.rmtree(reference, ignore_errors=True)
    began = time.perf_counter()
    words = command(data, reference, "one process", cluster)
    code = Command(words, scratch / "reference.log").wait(LIMIT)
    if code:
        raise RuntimeError(f"the undisturbed run ended with {code}")
    seconds = time.perf_counter() - began
    print(f"undisturbed, in one process: {seconds:.1f} s", flush=True)
    expected = digests(reference)
    whole = pq.ParquetDataset(reference / "particles_kept").read(columns=["uid"]).num_rows

    told, theirs = get_context("spawn").Pipe()
    reader = get_context("spawn").Process(target=watch, args=(str(scratch), whole, theirs))
    reader.start()
    trials = []
    try:
        for number in range(arguments.kills):
            victim = victims[number % len(victims)]
            where = "cluster"
            if victim == "driver":
                where = PLACES[number // len(victims) % len(PLACES)]
            # A cluster takes longer; what then comes too late is tried again, earlier.
            moment = chance.uniform(0.0, seconds if where == "one process" else 3 * seconds)
            trial = Trial(number, victim, where, moment)
            out = scratch / f"trial-{number:03d}"
            attempt(trial, data, out, cluster, expected, chance)
            trials.append(trial)
            print(
                f"{number:3d} {victim:9s} of {where:11s} at {trial.moment:5.1f} s, "
                f"{trial.written} fragments written: exit {trial.first_exit:3d}, "
                f"then {trial.resumed or 'from the start, or done'}; "
                f"{', '.join(trial.faults) or 'good'}",
                flush=True,
            )
            if not trial.faults:
                sweep(out)
    finally:
        told.send("enough")
        reads, partial = told.recv()
        reader.join()
        cluster.stop()
    good = sum(not trial.faults for trial in trials)
    resumed = sum(bool(trial.resumed) for trial in trials)
    print(f"{good} of {len(trials)} good; {resumed} went on from fragments that were written")
    print(
        f"another process read particles_kept {reads} times; not whole: {len(partial)} {partial[:3]}"
    )
    sys.exit(good < len(trials) or bool(partial))


if __name__ == "__main__":
    main()
