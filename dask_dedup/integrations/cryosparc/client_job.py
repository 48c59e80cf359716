"""External job of CryoSPARC, through cryosparc-tools 4.7 or 5."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import DedupError, InputError
from dask_dedup.integrations.cryosparc.session import client_errors, reason_of
from dask_dedup.results.command import spell_flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dask_dedup.integrations.cryosparc.input_results import Result

#: Beginning of a line about the progress.
_PROGRESS = re.compile(r" *\d+% ")


@dataclass(slots=True)
class ExternalJob:
    """External job in a workspace, with its log.

    Attributes
    ----------
    job : object
        Job of the client.
    echo : callable
        Also called with each line of the log.
    replaced : dict of str to str
        Replacements for texts in the log, such as names of results for paths of temporary files.
    """

    job: Any
    echo: Callable[[str], None]
    replaced: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        session: Any,
        project: str,
        workspace: str,
        title: str,
        description: str,
        echo: Callable[[str], None],
    ) -> ExternalJob:
        """Create a job in a workspace."""
        with client_errors(f"{project} {workspace}: the job cannot be created.", InputError):
            return cls(
                session.create_external_job(project, workspace, title=title, desc=description), echo
            )

    @property
    def uid(self) -> str:
        """Number of the job, such as J12."""
        return str(self.job.uid)

    def connect(self, name: str, results: Sequence[Result], slot: str) -> None:
        """Add an input that needs `slot`, and connect results to it."""
        with client_errors(f"{self.uid}: the input {name} cannot be connected."):
            kind = results[0].type
            self.job.add_input(kind, name, min=1, slots=[slot], title=name.capitalize())
            for result in results:
                self.job.connect(name, result.name.job, result.name.output)

    def add_output(
        self, name: str, title: str, slots: Mapping[str, str], passthrough: str | None
    ) -> None:
        """Add an output of particles with slots by name, {name: type}."""
        # The client of version 5 warns about the older key.
        key = "name" if hasattr(self.job, "model") else "prefix"
        described = [
            slot if slot == dtype else {key: slot, "dtype": dtype, "required": True}
            for slot, dtype in slots.items()
        ]
        with client_errors(f"{self.uid}: the output {name} cannot be added."):
            self.job.add_output(
                "particle", name, slots=described, passthrough=passthrough, title=title
            )

    def save(self, name: str, dataset: Any, slots: Mapping[str, str], image: Path | None) -> None:
        """Save the slots of an output."""
        with client_errors(f"{self.uid}: the output {name} cannot be saved."):
            self.job.save_output(name, dataset.filter_prefixes([*slots], copy=True))
        if image and hasattr(self.job, "set_output_image"):
            with self._unless_refused(f"no picture of {name}"):
                self.job.set_output_image(name, str(image))

    def load(self, name: str) -> Any:
        """Load an output as a following job does."""
        with client_errors(f"{self.uid}: the output {name} was saved, but cannot be loaded."):
            self.job.refresh()
            return self.job.load_output(name)

    def write(self, line: str) -> None:
        """Write a line to the job's log. If the instance refuses the line, the run continues."""
        line = self.shown(line)
        with suppress(OSError):  # the terminal was closed
            self.echo(line)
        given = {"level": "warning" if line.startswith("warning: ") else "text"}
        if _PROGRESS.match(line) and "name" in inspect.signature(self.job.log).parameters:
            given["name"] = "progress"  # replaces the line before
        with suppress(DedupError), client_errors("no log"):
            self.job.log(line.removeprefix("warning: "), **given)

    def show(self, picture: Path, tile: Path, caption: str) -> None:
        """Show a picture in the log and, with CryoSPARC 5, another picture on the job's card."""
        with self._unless_refused("no picture in the log"):
            # The client uses the text as the name of the file.
            self.job.log_plot(str(picture), caption.replace("/", "_"))
        if hasattr(self.job, "set_tile_image"):
            with self._unless_refused("no picture on the card"):
                self.job.set_tile_image(str(tile))

    def upload(self, path: Path) -> None:
        """Copy a file of text to the job's folder."""
        text = self.shown(path.read_text("utf-8"))
        with self._unless_refused(f"{path.name} is not in the job's folder"):
            self.job.upload(path.name, text.encode(), overwrite=True)

    @contextmanager
    def _unless_refused(self, lacking: str) -> Iterator[None]:
        """Turn an error into a warning: the job is complete without this."""
        try:
            with client_errors(f"{self.uid}: {lacking}."):
                yield
        except DedupError as error:
            self.write(f"warning: {error.spelled(spell_flag)}")

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """Complete the job at the end of the block. Mark it as failed if the block raises anything.

        Yield a function that starts the job.
        """
        started = False

        def start() -> None:
            nonlocal started
            with client_errors(f"{self.uid}: the job cannot be started."):
                self.job.start("running")
            started = True

        try:
            yield start
            with client_errors(f"{self.uid}: the job cannot be completed."):
                self.job.stop()
        except BaseException as error:
            if not started:
                with suppress(DedupError):
                    start()
            self.fail(self._reason_of(error))
            if isinstance(error, DedupError):
                raise type(error)(self.shown(error.raw)) from error
            raise

    def _reason_of(self, error: BaseException) -> str:
        if isinstance(error, DedupError):
            return self.shown(error.spelled(spell_flag))
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        if isinstance(error, OSError):
            return self.shown(reason_of(error))
        return f"unexpected error, please report it ({type(error).__name__}: {reason_of(error)})"

    def fail(self, reason: str) -> None:
        """Mark the job as failed, with the reason in its log."""
        # The client's `run` is not used, because it would complete an interrupted job.
        takes_text = inspect.signature(self.job.stop).parameters["error"].default == ""
        if not takes_text:
            with suppress(DedupError), client_errors("no log"):
                self.job.log(reason, level="error")
        try:
            with client_errors(f"{self.uid} could not be marked as failed."):
                self.job.stop(reason if takes_text else True)
        except DedupError as error:
            self.echo(f"warning: {error.spelled(spell_flag)} It may be shown as running.")

    def shown(self, line: str) -> str:
        """Return a line with the texts of `replaced` replaced."""
        for text, name in self.replaced.items():
            line = line.replace(text, name)
        return line
