"""The jobs of CCP-EM Pipeliner: a form with the options of the command line, and the command made from the form.

Pipeliner finds the jobs by their entry points, ``ccpem_pipeliner.jobs``, and imports this module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import click
from pipeliner.external_program_utils import ExternalProgram
from pipeliner.job_options import (
    BooleanJobOption,
    ExternalFileJobOption,
    FileDescription,
    FloatJobOption,
    InputNodeJobOption,
    IntJobOption,
    JobOptionCondition,
    JobOptionValidationResult,
    MultiInputNodeJobOption,
    MultipleChoiceJobOption,
    MultiStringJobOption,
    StringJobOption,
)
from pipeliner.nodes import (
    NODE_MICROGRAPHCOORDSGROUP,
    NODE_MICROGRAPHGROUPMETADATA,
    NODE_PARTICLEGROUPMETADATA,
)
from pipeliner.pipeliner_job import PipelinerCommand

from dask_dedup.cli.types import PATH, NamedPath, dedup_options, dedup_params
from dask_dedup.errors import InputError
from dask_dedup.integrations.pipeliner import DedupJob
from dask_dedup.results.command import spell_flag
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from pipeliner.job_options import JobOption

PROGRAM = "dask-dedup"
MICROGRAPHS = "in_mics"
#: Options on the first page of the form. The other options are on the second page.
FIRST = ("min_separation", "score_field", "prefer_input_order")
FURTHER = "Further options"
#: Options that have no effect if another option has this value.
INACTIVE_IF = {
    "min_separation": ("undo_symmetry_expansion", "=", True),
    "micrograph_height": ("flip_y", "=", []),
}

_COMMAND = click.command()(dedup_options(lambda: None))
#: The parameters of a run by name, except the micrographs, which are an input node.
PARAMETERS = {
    str(each.name): each
    for each in _COMMAND.params
    if isinstance(each, click.Option) and each.name != "micrographs"
}


def make_option(parameter: click.Option) -> JobOption:
    """Make the option of the form for an option of the command line: same name, default, choices and help."""
    name, metavar = str(parameter.name), (parameter.metavar or "").removeprefix("[INPUT=]")
    given: dict[str, Any] = {
        "label": name.replace("_", " ").capitalize() + (f" ({metavar}):" if metavar else ":"),
        "help_text": parameter.help,
        "jobop_group": "Main" if name in FIRST else FURTHER,
    }
    if name in INACTIVE_IF:
        given["deactivate_if"] = JobOptionCondition([INACTIVE_IF[name]])
    default = parameter.get_default(click.Context(_COMMAND))
    default = default if isinstance(default, str | int | float) else None
    if parameter.is_flag:
        return BooleanJobOption(default_value=False, **given)
    if parameter.multiple:
        return MultiStringJobOption(**given)
    if isinstance(parameter.type, click.Choice):
        choices = list(parameter.type.choices)
        return MultipleChoiceJobOption(choices=choices, default_value=default, **given)
    if parameter.type is click.INT:
        return IntJobOption(default_value=default, **given)
    if parameter.type is click.FLOAT:
        return FloatJobOption(default_value=default, **given)
    if parameter.type is PATH:
        return ExternalFileJobOption(**given)
    return StringJobOption(default_value="" if default is None else f"{default:g}", **given)


class _FormJob(DedupJob):
    """Job with the form. `INPUTS` is the name of the option for its inputs, as in RELION's External job."""

    INPUTS: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        version = re.compile(rf"{PROGRAM},? version (?P<v>\S+)")
        self.jobinfo.programs = [
            ExternalProgram(PROGRAM, vers_com=[PROGRAM, "--version"], vers_regex=version)
        ]
        self.joboptions[self.INPUTS] = MultiInputNodeJobOption(
            label=f"Input {self.NOUN}:",
            node_type=self.NODE,
            pattern=FileDescription(f"{self.NOUN.capitalize()} STAR file", [".star"]),
            help_text=f"STAR files with {self.NOUN}. Several files become one output.",
            is_required=True,
        )
        self.joboptions[MICROGRAPHS] = InputNodeJobOption(
            label="Micrographs:",
            node_type=NODE_MICROGRAPHGROUPMETADATA,
            pattern=FileDescription("Micrographs STAR file", [".star"]),
            help_text="STAR file with the names and the pixel size of the micrographs. Particles after Extract "
            "lack this pixel size. Coordinates lack it unless the picking job has a table of micrographs.",
        )
        for name, parameter in PARAMETERS.items():
            self.joboptions[name] = make_option(parameter)
        self.get_runtab_options(threads=True, addtl_args=True)

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        """Check the parameters as the command line does, and return every error."""
        values: dict[str, Any] = {}
        found = []
        for name, parameter in PARAMETERS.items():
            option = self.joboptions[name]
            value = None if option.is_blank else option.value
            try:
                values[name] = parameter.type_cast_value(click.Context(_COMMAND), value)
            except click.BadParameter as error:
                found.append(JobOptionValidationResult("error", [option], error.message))
        inputs = [NamedPath(at(path)) for path in self.joboptions[self.INPUTS].value]
        micrographs = self.joboptions[MICROGRAPHS].value
        # A job may be scheduled before its inputs exist.
        checks = all(path.is_file() for path, _ in inputs)
        while checks:
            try:
                dedup_params(
                    *(inputs, values.get("flip_y", ())),
                    {name: value for name, value in values.items() if name != "flip_y"},
                    at(micrographs) if micrographs else None,
                )
                break
            except InputError as error:
                message = error.spelled(spell_flag)
            flags = message.replace(".", " ").split()
            wrong = [name for name in values if PARAMETERS[name].opts[0] in flags]
            options = [self.joboptions[name] for name in wrong or [self.INPUTS]]
            found.append(JobOptionValidationResult("error", options, message))
            # Remove these values, so that the check finds the next error.
            values = {name: value for name, value in values.items() if name not in wrong}
            checks = bool(wrong)
        return found

    def get_commands(self) -> list[PipelinerCommand]:
        """Return the command that prints the version of the program, and the run."""
        options = self.joboptions
        command = [PROGRAM, "relion", "--o", self.output_dir, f"--{self.INPUTS}"]
        command += options[self.INPUTS].get_list()
        if options[MICROGRAPHS].value:
            command += [f"--{MICROGRAPHS}", options[MICROGRAPHS].value]
        command += ["--j", self.get_nr_threads(), *self._arguments(), *self.parse_additional_args()]
        return [*self.get_program_version_commands(), PipelinerCommand(command)]

    def _arguments(self) -> list[str]:
        """Return the parameters that differ from their defaults as arguments of the command line."""
        arguments: list[str] = []
        for name, parameter in PARAMETERS.items():
            option, flag = self.joboptions[name], parameter.opts[0]
            if option.value == option.default_value or self.check_joboption_is_now_deactivated(
                name
            ):
                continue
            if parameter.is_flag:
                arguments.append(flag)
            elif parameter.multiple:
                arguments += [f"{flag}={value}" for value in option.get_list()]
            elif not option.is_blank:
                arguments.append(f"{flag}={option.get_string()}")
        return arguments


class DedupParticles(_FormJob):
    """Job that removes duplicates from tables of particles."""

    PROCESS_NAME = "dask_dedup.select.particles"
    NOUN = "particles"
    NODE = NODE_PARTICLEGROUPMETADATA
    INPUTS = "in_parts"
    OUTPUT = "particles.star"
    KEYWORDS: ClassVar[list[str]] = ["relion"]


class DedupCoordinates(_FormJob):
    """Job that removes duplicates from coordinates, such as the coordinates of several picking jobs."""

    PROCESS_NAME = "dask_dedup.select.coordinates"
    NOUN = "coordinates"
    NODE = NODE_MICROGRAPHCOORDSGROUP
    INPUTS = "in_coords"
    OUTPUT = "autopick.star"
    KEYWORDS: ClassVar[list[str]] = ["relion", "autopick"]
