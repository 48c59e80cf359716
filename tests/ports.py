"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

#: Below the ports that the system gives to clients and to servers that ask for any port.
FIRST, LAST = 10_000, 30_000
_CHOICE = random.SystemRandom()


def free_port():
    """Return a port that no process uses. Nobody else gets it before its server starts."""
    while True:
        port = _CHOICE.randrange(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
