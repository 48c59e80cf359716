"""Parameter types of the command line, and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dask_dedup.cli.per_input import params_by_input
from dask_dedup.dedup.limits import AUTO
from dask_dedup.dedup.params import (
    CHOICES,
    PER_INPUT,
    RENAMES,
    DedupParams,
)
from dask_dedup.dedup.per_input import as_input, is_picker_name
from dask_dedup.errors import InputError
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Command = Callable[..., Any]
    Decorator = Callable[[Command], Command]


class NamedPath(NamedTuple):
    """An input of the command line: the path, and the name of its picker if one was given."""

    path: Path
    name: str = ""


class NamedLocation(click.ParamType):  # type: ignore[type-arg]
    """Parameter type for an input, PATH or NAME=PATH. If the whole text is an existing path, it has no name."""

    name = "input"

    def convert(self, value: str | NamedPath, *_: object) -> NamedPath:
        """Convert a command-line argument to a path and a name."""
        if isinstance(value, NamedPath):
            return value
        name, equals, path = value.partition("=")
        if not (equals and path and is_picker_name(name)):
            return NamedPath(at(value))
        from dask_dedup.storage.files import exists

        if exists(at(value)):
            return NamedPath(at(value))
        return NamedPath(at(path), name)


class Location(click.ParamType):  # type: ignore[type-arg]
    """Parameter type for a path or an object URI. The path need not exist."""

    name = "path"

    def convert(self, value: str | Path, *_: object) -> Path:
        """Convert a command-line argument to a path."""
        return at(value)


class Separation(click.ParamType):  # type: ignore[type-arg]
    """Parameter type for a separation: a number in angstrom, or ``auto``."""

    name = "separation"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | float:
        """Convert a command-line argument to a number, unless it is ``auto``."""
        if value == AUTO:
            return AUTO
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number in angstrom nor {AUTO}.", param, ctx)


def together(options: Sequence[Decorator]) -> Decorator:
    """Combine click options into one decorator. Help lists the options in the given order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def separation_option(**settings: Any) -> Decorator:
    """Return the option ``--min-separation``, with further settings of `click.option`."""
    return click.option(
        "--min-separation",
        type=Separation(),
        metavar="A|auto",
        help="Two particles on one micrograph are duplicates if they are at most A angstrom apart. 0: only equal "
        "coordinates. auto: the separation that inspect recommends.",
        **settings,
    )


PATH = Location()
OUTPUT = click.argument("output", type=PATH)
INPUTS = click.argument(
    "inputs", nargs=-1, required=True, type=NamedLocation(), metavar="[NAME=]INPUT..."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print only errors and warnings.")
THREADS = click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Run in a single process with at most N threads.  [default: one per core, at most 12]",
)
PLOT_MICROGRAPH = click.option(
    "--plot-micrograph",
    "plot_micrographs",
    multiple=True,
    metavar="MICROGRAPH",
    help="Show this micrograph in the report. May be repeated.",
)
MIN_SCORE = click.option(
    "--min-score",
    multiple=True,
    metavar="[INPUT=]X",
    help="Reject particles with a score worse than X. They are not compared with others. INPUT=X for one INPUT.",
)
#: Options for reading INPUTs: parameters of `DedupParams`, and the table of micrographs.
input_options = together(
    [
        click.option(
            "--micrographs",
            type=PATH,
            metavar="TABLE",
            help="Table with the pixel size and shape of each micrograph.",
        ),
        click.option(
            "--columns",
            multiple=True,
            metavar="[INPUT=]x=COLUMN,y=COLUMN,...",
            help="Columns of text tables of picks (.csv, .tsv, .txt): names, or numbers that start at 1. x and y "
            "are required; z, score and micrograph are optional. INPUT=... for one INPUT.",
        ),
        click.option(
            "--micrograph-pixel-size",
            multiple=True,
            metavar="[INPUT=]A",
            help="Micrograph pixel size, in angstrom, for tables that do not have it. INPUT=A for one INPUT.",
        ),
        click.option(
            "--coordinate-pixel-size",
            multiple=True,
            metavar="[INPUT=]A",
            help="Pixel size for the coordinates, in angstrom. Overrides the pixel size in the tables. INPUT=A for "
            "one INPUT.",
        ),
        click.option(
            "--particle-pixel-size",
            multiple=True,
            metavar="[INPUT=]A",
            help="Pixel size of the particle images, in angstrom, for tables that do not have it. Needed for shifts in "
            "pixels (rlnOriginX). INPUT=A for one INPUT.",
        ),
        click.option(
            "--shift-key",
            type=click.Choice(CHOICES["shift_key"]),
            default="auto",
            help="Alignment shift to apply. auto: for RELION tables, the rlnOrigin columns. For CryoSPARC tables, "
            "alignments3D if present, else alignments2D.",
        ),
        click.option(
            "--score-field",
            multiple=True,
            metavar="[INPUT=]FIELD",
            help="Score that decides which duplicate is kept: ncc_score (default), error or error_min. Other columns: "
            "COLUMN:higher if high values are better, or COLUMN:lower. none: choose at random. INPUT=FIELD for "
            "one INPUT.",
        ),
        MIN_SCORE,
        click.option(
            "--match-micrographs",
            type=click.Choice(CHOICES["match_micrographs"]),
            default="auto",
            help="How to match micrographs across inputs. auto: by uid if all inputs have uids and no option "
            "changes names. Otherwise by name if an input is pick files or the tables are of different programs. "
            "Otherwise by path.",
        ),
        click.option(
            "--rename-micrographs",
            multiple=True,
            metavar="[INPUT=]s/PATTERN/NEW/",
            help="Replace PATTERN by NEW in micrograph names before they are compared. Names in the written tables do "
            "not change. INPUT=s/.../.../ for one INPUT. May be repeated.",
        ),
        click.option(
            "--micrograph-map",
            type=PATH,
            metavar="CSV",
            help="Table of old and new micrograph names (columns from,to), or a .doc file of Dynamo. Applied after "
            "--rename-micrographs.",
        ),
        click.option(
            "--group-by",
            multiple=True,
            metavar="COLUMN|none",
            help="Compare only particles with equal values in this column or hive partition key, such as session. May "
            "be repeated. none: ignore partition keys.",
        ),
        click.option(
            "--flip-y",
            multiple=True,
            type=PATH,
            metavar="INPUT",
            help="Flip the y axis of this INPUT. May be repeated.",
        ),
        click.option(
            "--micrograph-height",
            type=int,
            metavar="PIXELS",
            help="Micrograph height in pixels for --flip-y, if no table has it.",
        ),
    ]
)


#: Parameters of `DedupParams` that rank particles, or that exempt some particles from comparison.
ranking_options = together(
    [
        click.option("--seed", default=0, help="Seed for the random choice between equal scores."),
        click.option(
            "--score-scale",
            type=click.Choice(CHOICES["score_scale"]),
            default="stored",
            help="stored: compare scores as they are stored. standing: rank the particles of each INPUT on each "
            "micrograph by score, and compare the ranks. Use it if the pickers have different score scales.",
        ),
        click.option(
            "--prefer-input-order",
            is_flag=True,
            help="Keep particles of an earlier INPUT rather than particles of a later INPUT, regardless of scores.",
        ),
        click.option(
            "--between-inputs-only",
            is_flag=True,
            help="Particles of the same INPUT are never duplicates of each other.",
        ),
        click.option(
            "--ignore-within-filament",
            is_flag=True,
            help="Particles of the same filament are never duplicates of each other.",
        ),
    ]
)

#: Options that keep particles by votes.
vote_options = together(
    [
        click.option(
            "--min-votes",
            default=1,
            metavar="K",
            help="Keep only particles that at least K pickers found.",
        ),
        click.option(
            "--found-by",
            multiple=True,
            metavar="PICKER",
            help="Keep only particles that this picker (NAME or INPUT) found. May be repeated: all of these pickers "
            "must have found the particle.",
        ),
        click.option(
            "--not-found-by",
            multiple=True,
            metavar="PICKER",
            help="Keep only particles that this picker did not find. May be repeated.",
        ),
        click.option(
            "--vote-distance",
            type=float,
            metavar="A",
            help="A picker found a particle if one of its picks is at most A angstrom from the particle.  [default: "
            "--min-separation]",
        ),
        click.option(
            "--relax-unseen",
            is_flag=True,
            help="For --min-votes K: if only n < K pickers have particles on a micrograph, n votes are enough there. "
            "For --found-by: do not require a picker on micrographs where it has no particles.",
        ),
    ]
)

#: Parameters of `DedupParams` that do not depend on how particles are stored, except the score field.
decision_options = together(
    [
        vote_options,
        click.option(
            "--remove-entirely", is_flag=True, help="Reject every particle that has a duplicate."
        ),
        ranking_options,
        click.option(
            "--invalid",
            type=click.Choice(CHOICES["invalid"]),
            default="error",
            help="Rows without coordinates or micrograph. error: stop. reject: write them to particles_rejected. "
            "keep: write them to particles_kept.",
        ),
    ]
)

#: All parameters of `DedupParams`, and the table of micrographs.
dedup_options = together(
    [
        separation_option(default=20.0),
        input_options,
        click.option(
            "--votes",
            is_flag=True,
            help="Count the pickers that found each particle, and write votes/. Also set by --min-votes, --found-by, "
            "--not-found-by and --vote-distance.",
        ),
        decision_options,
        click.option(
            "--undo-symmetry-expansion",
            is_flag=True,
            help="Keep one symmetry copy of each particle, however far apart the copies are. Symmetry copies have the "
            "same sym_expand/src_uid.",
        ),
    ]
)


def names_of(inputs: Sequence[NamedPath]) -> dict[str, str]:
    """Return the given names of pickers by input."""
    return {str(path): name for path, name in inputs if name}


def dedup_params(
    inputs: Sequence[NamedPath],
    flip_y: Sequence[Path],
    given: dict[str, Any],
    micrographs: Path | None = None,
) -> DedupParams:
    """Make the parameters from the options, which are removed from `given`. Options have paths or names of inputs."""
    paths = {as_input(path): [str(path)] for path, _ in inputs}
    for path, name in inputs:
        if name and name not in (str(each.path) for each in inputs):
            paths.setdefault(name, []).append(str(path))
    if flip_y or any(given.get(name) for name in (*PER_INPUT, RENAMES)):
        from dask_dedup.formats import group_files

        for group in group_files([path for path, _ in inputs], names_of(inputs)):
            if len(group.ordinals) > 1:
                members = [str(inputs[number].path) for number in group.ordinals]
                paths.setdefault(as_input(group.path), members)
    flipped = _ordinals(flip_y, inputs, paths)
    return params_by_input(paths, given, micrographs, flip_y=flipped)


def _ordinals(
    given: Sequence[Path], inputs: Sequence[NamedPath], paths: Mapping[str, Sequence[str]]
) -> tuple[int, ...]:
    """Return the index in `inputs` of each input in `given` (--flip-y). Raise InputError for an unknown input."""
    unknown = [path for path in given if as_input(path) not in paths]
    if unknown:
        raise InputError(
            f"--flip-y {unknown[0]}: not one of the inputs. Use the path or name of an input."
        )
    flipped = {path for each in given for path in paths[as_input(each)]}
    return tuple(number for number, (path, _) in enumerate(inputs) if str(path) in flipped)
