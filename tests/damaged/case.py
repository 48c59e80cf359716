"""The list of broken inputs."""

from __future__ import annotations

CASES = {}


def case(function):
    """Register a function that takes an empty folder and returns the arguments of a run."""
    CASES[function.__name__.replace("_", "-")] = function
    return function
