"""What publishing needs from a table of a lake: Delta and Iceberg implement it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_dedup.results.publish.files import CopiedFile
    from dask_dedup.results.publish.types import LakeColumns


class LakeTable(Protocol):
    """A table that may not exist yet.

    Attributes
    ----------
    kind : {"Delta", "Iceberg"}
    name : str
        The table, for messages.
    columns : LakeColumns
    """

    kind: str
    name: str
    columns: LakeColumns

    def refresh(self) -> None:
        """Open the latest version of the table."""

    def contents(self) -> list[dict[str, str]]:
        """Return the constant columns of each file in the table.

        Raises
        ------
        InputError
            If the table holds another dataset or has other constant columns.
        """

    def prepare(self, mode: str) -> str:
        """Check that the columns fit, and return the folder for the files.

        Raises
        ------
        InputError
            If they do not fit.
        """

    def commit(self, copies: Sequence[CopiedFile], mode: str) -> bool:
        """Add the files in one commit; return False if the table has changed since `refresh`."""

    def version(self) -> str:
        """Return the version or snapshot of the table."""

    def missing_files(self) -> list[str]:
        """Return the files that the table lists but that do not exist."""

    def close(self) -> None:
        """Close the connection to the catalog."""
