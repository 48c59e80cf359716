"""What publishing came to, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dask_dedup.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Iterator


#: So often a commit is tried, each time on the table as another publisher has left it meanwhile.
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing came to.

    Attributes
    ----------
    kind : {"Delta", "Iceberg"}
    target : str
        The table: a folder or its URI, or its name in a catalog.
    table : str
        "particles_kept", "particles_rejected" or "duplicates".
    run_id : str
    mode : {"append", "replace"}
    changed : bool
        False if the table held this run already.
    version : str
        Of the table: a version of Delta, a snapshot of Iceberg.
    files, rows : int
        Of this run.
    placed : str
        How the files came into the table's folder.
    decimals : list of str
        Columns of unsigned 64-bit integers, which the table has as decimals.
    left_out : dict of str to str
        Columns that are in the files only, and their types.
    missing : list of str
        Files that the table refers to and that are gone.
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
        """Give it as plain values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Tell what was done."""
        place = f"the {self.kind} table {self.target}"
        what = f"{self.table} of run {self.run_id[:12]}"
        if not self.changed:
            alone = "alone " if self.mode == "replace" else ""
            yield f"{what} is {alone}in {place} already; nothing was changed"
        else:
            size = f"{counted(self.rows, 'row')} in {counted(self.files, 'file')}, {self.placed}"
            kind = "version" if self.kind == "Delta" else "snapshot"
            done = "now all it holds" if self.mode == "replace" else "added"
            yield f"{what} ({size}): {done} in {place}, {kind} {self.version}"
            if self.decimals:
                yield (
                    f"{', '.join(self.decimals)}: decimal(20,0) in the table, as {self.kind} has no unsigned integers"
                )

    def warnings(self) -> Iterator[str]:
        """Tell what may surprise a reader of the table."""
        if self.left_out:
            names = ", ".join(f"{name} ({kind})" for name, kind in self.left_out.items())
            yield (
                f"{self.kind} has no type for these columns, so the table lacks them; its files have them: {names}"
            )
        if self.missing:
            yield (
                f"{counted(len(self.missing), 'file')} that {self.target} refers to "
                f"{'is' if len(self.missing) == 1 else 'are'} gone, the first {self.missing[0]}; "
                "publish the run in question with --mode replace, or restore the table"
            )
