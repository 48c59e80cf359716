"""The register of broken inputs."""

from __future__ import annotations

CASES = {}


def case(function):
    """Register a function that is given an empty folder and gives the arguments of a run."""
    CASES[function.__name__.replace("_", "-")] = function
    return function
