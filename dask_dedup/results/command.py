"""The command that would make a run again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from dask_dedup.dedup.params import DedupParams


def command_of(manifest: dict[str, Any], output: str) -> str:
    """Write the command line of a run, for a shell.

    Parameters
    ----------
    manifest : dict
    output : str
        Folder of the result.
    """
    inputs = [entry["path"] for entry in manifest["inputs"]]
    words = ["dask-dedup", "run", *inputs, "--output", output]
    for field in fields(DedupParams):
        value = manifest["parameters"].get(field.name, field.default)
        option = f"--{field.name.replace('_', '-')}"
        if field.name == "flip_y":
            for number in value:
                words += [option, inputs[number]]
        elif value == field.default:
            continue
        elif value is True:
            words.append(option)
        else:
            words += [
                option,
                repr(value).removesuffix(".0") if isinstance(value, float) else str(value),
            ]
    if manifest["micrographs"]:
        words += ["--micrographs", manifest["micrographs"]]
    if manifest["output_format"] != "native":
        words += ["--output-format", manifest["output_format"]]
    if manifest["allow_outside"]:
        words.append("--allow-outside")
    # A name that looks like an option is none.
    guarded = ["--", *inputs] if any(path.startswith("-") for path in inputs) else []
    if guarded:
        words = [*words[:2], *words[2 + len(inputs) :], *guarded]
    return shlex.join(words)
