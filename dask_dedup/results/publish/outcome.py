"""The outcome of publishing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import counted
from dask_dedup.messages import Message, parameter

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Publication:
    """The outcome of `publish`.

    Attributes
    ----------
    kind : {"Delta", "Iceberg"}
    target : str
        The table: a folder or its URI, or a catalog and the name in it.
    table : str
        "particles_kept", "particles_rejected" or "duplicates".
    run_id : str
    mode : {"append", "replace"}
    changed : bool
        False if the table held this run already.
    version : str
        Version of the Delta table, or snapshot of the Iceberg table.
    files, rows : int
        Those of this run.
    placed : str
        How the files came into the table's folder: "linked", "copied by the store" or "copied".
    decimals : list of str
        Columns of unsigned 64-bit integers, which are decimals in the table.
    left_out : dict of str to str
        Columns that the table lacks, and their types.
    missing : list of str
        Files that the table lists but that do not exist.
    """

    kind: str
    target: str
    table: str
    run_id: str
    mode: str
    changed: bool
    version: str
    files: int
    rows: int
    placed: str
    decimals: list[str]
    left_out: dict[str, str]
    missing: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield what was done, for a terminal."""
        table = f"the {self.kind} table {self.target}"
        dataset = f"{self.table} of run {self.run_id[:12]}"
        if not self.changed:
            yield f"{dataset} is already in {table}; nothing was changed"
            return
        size = f"{counted(self.rows, 'row')} in {counted(self.files, 'file')}, {self.placed}"
        version = f"{'version' if self.kind == 'Delta' else 'snapshot'} {self.version}"
        done = "replaced the contents of" if self.mode == "replace" else "added to"
        yield f"{dataset} ({size}): {done} {table}, {version}"
        if self.decimals:
            yield (
                f"{', '.join(self.decimals)}: decimal(20,0) in the table, because {self.kind} has no unsigned integers"
            )

    def warnings(self) -> Iterator[Message]:
        """Yield what may surprise a reader of the table."""
        if self.left_out:
            names = ", ".join(f"{name} ({kind})" for name, kind in self.left_out.items())
            yield Message(
                f"{self.kind} has no type for these columns. They are in the files, but not in the table: {names}"
            )
        if self.missing:
            count = len(self.missing)
            files = f"{counted(count, 'file')} of the table {'is' if count == 1 else 'are'} missing"
            yield Message(
                f"{self.target}: {files} (first: {self.missing[0]}). "
                f"Publish its run with {parameter('mode', 'replace')}, or restore the table."
            )
