"""A Dask cluster in separate processes, which a test can kill, freeze or disconnect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: One fragment per row group even in small tables, so that a run has many steps to interrupt.
MANY_FRAGMENTS = (
    "from dask_dedup.formats.parquet import table as parquet; parquet.FRAGMENT_BYTES = 1; "
)
PROGRAM = "from dask_dedup.cli import main; main()"


#: Limit for the start of a scheduler on a busy machine.
START_SECONDS = 180.0


class Cluster:
    """A scheduler and workers. Each process can run in a network namespace."""

    def __init__(
        self, folder: Path, settings: dict[str, str] | None = None, space: str = ""
    ) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.environment = {**os.environ, **(settings or {})}
        self.workers: list[subprocess.Popen] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.file.unlink(missing_ok=True)
        host = ("--host", ADDRESSES[0]) if space else ("--host", "127.0.0.1")
        self.scheduler = self._start(space, "scheduler", *host, "--port", "0")
        try:
            wait_for(self.file.exists, START_SECONDS)
        except TimeoutError:
            self.stop()
            raise

    def add_worker(
        self, *, space: str = "", host: str = "", memory: str = "0", local: Path | None = None
    ) -> subprocess.Popen:
        """Start a worker. A worker with a memory limit has a nanny."""
        options = ["--nthreads", "1", "--local-directory", str(local or self.folder)]
        options += ["--memory-limit", memory, "--nanny" if memory != "0" else "--no-nanny"]
        options += ["--host", host] if host else []
        self.workers.append(self._start(space, "worker", *options))
        return self.workers[-1]

    def _start(self, space: str, kind: str, *options: str) -> subprocess.Popen:
        command = ["ip", "netns", "exec", space] if space else []
        command += [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file)]
        command += ["--dashboard-address", "127.0.0.1:0", *options]
        with (self.folder / f"{kind}-{len(self.workers)}.log").open("w") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def stop(self) -> None:
        """Stop all processes."""
        for process in (*self.workers, self.scheduler):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


#: Addresses of the two ends of a `Wire`.
ADDRESSES = ("10.213.0.1", "10.213.0.2")


class Wire:
    """Two network namespaces and the link between them. This needs root."""

    def __init__(self) -> None:
        self.ends = tuple(f"dedup-{os.getpid()}-{end}" for end in "ab")
        names = tuple(f"dd{os.getpid()}{end}" for end in "ab")
        self.names = names
        for end in self.ends:
            _ip("netns", "add", end)
        _ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for end, name, address in zip(self.ends, names, ADDRESSES, strict=True):
            _ip("link", "set", name, "netns", end)
            _ip("-n", end, "address", "add", f"{address}/24", "dev", name)
            _ip("-n", end, "link", "set", "lo", "up")
            _ip("-n", end, "link", "set", name, "up")

    def cut(self) -> None:
        """Take the link down. The processes at its ends are not notified."""
        _ip("-n", self.ends[1], "link", "set", self.names[1], "down")

    def close(self) -> None:
        """Remove both namespaces and the link."""
        for end in self.ends:
            subprocess.run(["ip", "netns", "delete", end], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds.

    Raises
    ------
    TimeoutError
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s")
        time.sleep(0.02)
