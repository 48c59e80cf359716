"""`publish`: one table of a finished run into a lake, as a Delta or an Iceberg table, without encoding it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.errors import InputError, RunError
from dask_dedup.results.publish.dataset import TABLES, open_dataset
from dask_dedup.storage.access import check_answers, in_words
from dask_dedup.storage.paths import at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_dedup.results.publish.outcome import Publication

MODES = ("append", "replace")


@in_words(RunError)
def publish(
    output: str | Path,
    *,
    delta: str | Path | None = None,
    iceberg: tuple[str, str] | None = None,
    table: str = "kept",
    mode: str = "append",
    tags: Mapping[str, str] | None = None,
) -> Publication:
    """Publish one table of a finished run.

    Parameters
    ----------
    output : str or Path
        Where the run is.
    delta : str or Path, optional
        Folder of a Delta table, which is made if there is none.
    iceberg : (str, str), optional
        Name of a catalog in pyiceberg's configuration, and of a table in it. Give this or `delta`.
    table : {"kept", "rejected", "duplicates"}
    mode : {"append", "replace"}
        Whether what the table holds stays. A run that it holds already is not published again.
    tags : mapping of str to str, optional
        Columns that hold one value in all rows of this run, such as the session.

    Returns
    -------
    Publication

    Raises
    ------
    InputError
        If there is no finished run, or the table cannot take it.
    RunError
        If the commit fails; the table is as it was.
    """
    if (delta is None) == (iceberg is None):
        raise InputError("give either a Delta table or an Iceberg table to publish to")
    for given, known, what in ((table, tuple(TABLES), "table"), (mode, MODES, "mode")):
        if given not in known:
            raise InputError(f"--{what} is {given!r}; it must be one of {', '.join(known)}")
    check_answers([at(output), *([at(delta)] if delta is not None else [])])
    dataset = open_dataset(at(output), table, tags or {})
    if delta is not None:
        from dask_dedup.results.publish.delta import publish_delta

        return publish_delta(dataset, at(delta), mode)
    from dask_dedup.results.publish.iceberg import publish_iceberg

    assert iceberg is not None
    return publish_iceberg(dataset, *iceberg, mode)
