"""Check the health of this container: ask /health of its Dask scheduler or worker, if it runs one."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

PORTS = {"scheduler": 8787, "worker": 8788}


def port_of(words: list[str]) -> int | None:
    """Return the dashboard's port of a command line, or None if it starts no scheduler or worker."""
    role = next((word for word in words if word in PORTS), None)
    if role is None or not any(Path(word).name == "dask" for word in words):
        return None
    for number, word in enumerate(words):
        if word.startswith("--dashboard-address"):
            address = word.partition("=")[2] or words[number + 1]
            return int(address.rpartition(":")[2])
    return PORTS[role]


def main() -> None:
    """Exit with an error if the scheduler or worker does not answer."""
    words = Path("/proc/1/cmdline").read_bytes().decode().split("\0")
    port = port_of(words)
    if port is None:
        return
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=8) as answer:
            answer.read()
    except OSError as error:
        sys.exit(f"no answer at port {port}: {error}")


if __name__ == "__main__":
    main()
