"""Progress bar of a run, for a terminal or a notebook."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dask_dedup.formatting import duration
from dask_dedup.monitoring.progress import Progress, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from dask_dedup.monitoring.progress import Event, EventHandler

#: Seconds between two updates in a notebook.
NOTEBOOK_SECONDS = 0.5
#: Characters across the bar in a notebook.
NOTEBOOK_WIDTH = 80


class SharedProgress:
    """Progress that one thread updates and another thread shows."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._lock = threading.Lock()

    def note(self, event: Event) -> None:
        """Update the progress with an event."""
        with self._lock:
            self._progress.note(event)

    def shown(self) -> tuple[float, str] | None:
        """Return the fraction done and a line about the progress, or None if no run is in progress."""
        with self._lock:
            running = self._progress.status == "running"
            return (self._progress.fraction, describe(self._progress)) if running else None

    def bar(self, width: int | None = None) -> Table:
        """Return the progress bar and the line below the bar. The table is empty if no run is in progress."""
        return _draw(self.shown(), width)

    def last_bar(self, width: int) -> Table:
        """Return the bar with a line about the end of the run."""
        with self._lock:
            run = self._progress
            text = {
                "finished": f"finished: kept {run.kept:,}, rejected {run.rejected:,}",
                "failed": f"failed: {run.reason}",
            }.get(run.status)
            took = f" ({duration(run.elapsed())})"
            return _draw((run.fraction, text + took) if text else None, width)


def _draw(shown: tuple[float, str] | None, width: int | None) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    if shown:
        grid.add_row(ProgressBar(total=1.0, completed=shown[0], width=width))
        grid.add_row(Text(shown[1], overflow="ellipsis", no_wrap=width is None))
    return grid


@contextmanager
def repeating(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function in a thread every `seconds` seconds, until the context ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def in_notebook() -> bool:
    """Return whether this program runs in a notebook, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def notebook_bar() -> Iterator[EventHandler]:
    """Show a progress bar in the output of a notebook's cell. Yield a function to call with each event of the run."""
    from IPython.display import display

    progress = SharedProgress()
    shown = display(progress.bar(NOTEBOOK_WIDTH), display_id=True)
    try:
        with repeating(lambda: shown.update(progress.bar(NOTEBOOK_WIDTH)), NOTEBOOK_SECONDS):
            yield progress.note
    finally:
        shown.update(progress.last_bar(NOTEBOOK_WIDTH))
