"""Measure the time until a run ends after a worker was killed, frozen or disconnected.

    python -m reliability.outages --scratch /scratch
    python -m reliability.outages --scratch /scratch --faults frozen,cut --worker-ttl 10s

The fault happens after the first fragments are written. The program prints the time from the fault to the end of the
run. The data files must have the same bytes as those of an undisturbed run. `cut` needs root for network namespaces.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.generate import generate
from reliability.cluster import ADDRESSES, MANY_FRAGMENTS, PROGRAM, Cluster, Wire, wait_for
from reliability.kills import digests

FAULTS = ("none", "killed", "frozen", "cut")
TTL = "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"
#: Time limit of a run, in seconds.
LIMIT = 900
#: Rows of a fragment.
FILE_ROWS = 5_000


def strike(fault: str, data: Path, out: Path, folder: Path, worker_ttl: str) -> tuple[float, str]:
    """Run with two workers and lose one.

    Returns
    -------
    seconds : float
        From the fault to the end of the run.
    output : str
        Errors and warnings of the run.

    Raises
    ------
    RuntimeError
        If the run failed, or ended before the fault.
    """
    shutil.rmtree(out, ignore_errors=True)
    with ExitStack() as stack:
        ends = ("", "")
        if fault == "cut":
            wire = Wire()
            stack.callback(wire.close)
            ends = wire.ends
        cluster = Cluster(folder, {TTL: worker_ttl}, space=ends[0])
        stack.callback(cluster.stop)
        for end, address in zip(ends, ADDRESSES, strict=True):
            worker = cluster.add_worker(space=end, host=address if end else "127.0.0.1")
        argv = ["ip", "netns", "exec", ends[0]] if ends[0] else []
        argv += [sys.executable, "-c", MANY_FRAGMENTS + PROGRAM, "run", str(data)]
        argv += ["--output", str(out), "--no-report", "--scheduler-file", str(cluster.file)]
        driver = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        stack.callback(driver.kill)

        def written() -> int:
            return len([*out.glob(".dask-dedup-*/checkpoints/*.json")])

        wait_for(lambda: written() >= 2 or driver.poll() is not None, LIMIT)
        if driver.poll() is not None:
            raise RuntimeError(f"{fault}: the run ended before: {driver.communicate()[1][-1000:]}")
        began = time.monotonic()
        if fault == "killed":
            worker.kill()
        elif fault == "frozen":
            worker.send_signal(signal.SIGSTOP)
        elif fault == "cut":
            wire.cut()
        _, output = driver.communicate(timeout=LIMIT)
        seconds = time.monotonic() - began
        if driver.returncode:
            raise RuntimeError(f"{fault}: exit {driver.returncode}: {output[-1000:]}")
    return seconds, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument(
        "--worker-ttl", default="60s", help="Dask's worker-ttl; the default is that of dask-dedup"
    )
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=200_000)
    arguments = parser.parse_args()
    scratch: Path = arguments.scratch.resolve()
    data = scratch / "in"
    generate("random", arguments.rows, data, 16, FILE_ROWS)
    reference = scratch / "reference"
    shutil.rmtree(reference, ignore_errors=True)
    argv = [sys.executable, "-c", MANY_FRAGMENTS + PROGRAM, "run", str(data), "--no-report"]
    subprocess.run([*argv, "--output", str(reference)], check=True, capture_output=True)
    expected = digests(reference)
    good = True
    for fault in arguments.faults.split(","):
        out = scratch / "out"
        seconds, _ = strike(fault, data, out, scratch / "cluster", arguments.worker_ttl)
        same = digests(out) == expected and not [*out.glob(".*")]
        good &= same
        print(
            f"{fault}: the run ended {seconds:.0f} s later, {'good' if same else 'BAD'}", flush=True
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()
