"""Shell commands that repeat or resume a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_dedup.dedup.params import PER_INPUT, RENAMES, DedupParams
from dask_dedup.dedup.per_input import as_input, normalize
from dask_dedup.storage.protocols import endpoint, is_s3
from dask_dedup.storage.table_version import with_version, without_version

if TYPE_CHECKING:
    from dask_dedup.hints import Hint

#: Defaults of the parameters that only `run` has. A default needs no flag.
RUN_DEFAULTS: dict[str, Any] = {
    "micrographs": None,
    "output_format": "native",
    "compression": "auto",
    "partition_by": [],
    "duplicates_only": False,
    "allow_outside": False,
}
#: Parameters that have a flag with another name.
_FLAGS = {"plot_micrographs": "plot_micrograph", "tags": "tag"}


def run_command(description: dict[str, Any], output: str, *, overwrite: bool = False) -> str:
    """Return the shell command that repeats a run. `description` is the run's manifest or request."""
    inputs = [
        each if isinstance(each, str) else with_version(each["path"], each.get("version"))
        for each in description["inputs"]
    ]
    settings: dict[str, Any] = {"output": output}
    for name, default in DedupParams().to_dict().items():
        value = description["parameters"].get(name, default)
        if value != default:
            settings[name] = value
    # The parameters have the ordinals of inputs. The command line needs the paths.
    settings["flip_y"] = [inputs[number] for number in settings.get("flip_y", ())]
    # The command contains the version of a Delta table that the run read, because there may be a newer version.
    named = {as_input(without_version(path)): path for path in inputs}
    names = {
        as_input(without_version(path)): name for path, name in description.get("names", {}).items()
    }
    for name in (*PER_INPUT, RENAMES):
        pairs = normalize(name, settings.get(name), repeatable=name == RENAMES)
        settings[name] = [
            f"{named.get(path, path)}={_word(value)}" if path else value for path, value in pairs
        ]
    if settings.get("micrograph_map"):
        settings["micrograph_map"] = settings["micrograph_map"]["path"] or "a CSV of micrograph_map"
    settings |= {
        name: description[name]
        for name, default in RUN_DEFAULTS.items()
        if description.get(name, default) != default
    }
    settings["overwrite"] = overwrite
    settings |= description.get("options", {})
    url = endpoint() if any(map(is_s3, (output, *inputs))) else None
    program = ["dask-dedup", *_flags("endpoint_url", url), "run"]
    given = [names.get(as_input(without_version(path))) for path in inputs]
    files = description.get("named_files", {})
    words = [
        word
        for name, path in zip(given, inputs, strict=True)
        for word in files.get(path, [f"{name}={path}" if name else path])
    ]
    flags = [word for name, value in settings.items() for word in _flags(name, value)]
    if any(word.startswith("-") for word in words):
        # After a double dash, no word is read as an option.
        return shlex.join([*program, *flags, "--", *words])
    return shlex.join([*program, *words, *flags])


def resume_command(request: dict[str, Any], output: str, *, overwrite: bool) -> str:
    """Return the shell command that resumes a run, with a ``cd`` if the run started in another folder."""
    command = run_command(request, output, overwrite=overwrite)
    folder = request["directory"]
    return command if folder == str(Path.cwd()) else f"cd {shlex.quote(folder)} && {command}"


def as_flag(name: str) -> str:
    """Return the command-line flag of the parameter `name`."""
    return f"--{name.replace('_', '-')}"


def spell_flag(hint: Hint) -> str:
    """Format a parameter, with its value if any, as a command-line flag."""
    flag = as_flag(_FLAGS.get(hint.parameter, hint.parameter))
    if isinstance(hint.value, dict):
        return " ".join(
            f"{flag} {shlex.quote(f'{path}={value}')}" for path, value in hint.value.items()
        )
    return flag if hint.text is None or hint.value is True else f"{flag} {hint.text}"


def _flags(name: str, value: Any) -> list[str]:
    """Return the command-line arguments that set the parameter `name` to `value`."""
    flag = as_flag(name)
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    if isinstance(value, list | tuple):
        return [word for each in value for word in (flag, _word(each))]
    return [flag, _word(value)]


def _word(value: Any) -> str:
    """Return a value as one argument of the command line."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
