"""Tells whether this container is well: its first process, if that is a Dask scheduler or worker, answers /health."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

PORTS = {"scheduler": 8787, "worker": 8788}


def port_of(words: list[str]) -> int | None:
    """Give the port of the dashboard that a command line starts; None if it starts none."""
    role = next((word for word in words if word in PORTS), None)
    if role is None or not any(Path(word).name == "dask" for word in words):
        return None
    for number, word in enumerate(words):
        if word.startswith("--dashboard-address"):
            address = word.partition("=")[2] or words[number + 1]
            return int(address.rpartition(":")[2])
    return PORTS[role]


def main() -> None:
    """Ask, if there is somebody to ask."""
    words = Path("/proc/1/cmdline").read_bytes().decode().split("\0")
    port = port_of(words)
    if port is None:
        return
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=8) as answer:
            answer.read()
    except OSError as error:
        sys.exit(f"nobody answers at port {port}: {error}")


if __name__ == "__main__":
    main()
