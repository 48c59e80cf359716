"""Check the coordinate files, one per micrograph, that a run has written for all inputs."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup import formats
from dask_dedup.conversion.micrographs import name_column
from dask_dedup.particles.column_names import MICROGRAPH_PATH
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.stripping import FULL
from dask_dedup.results.verify.converted import (
    SCORE,
    Converted,
    column_differs,
    positions_differ,
)
from dask_dedup.results.verify.outcome import MismatchError
from dask_dedup.storage.paths import under

if TYPE_CHECKING:
    from pathlib import Path

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.verify.converted import Mask


class CoordinateFiles(Converted):
    """The coordinate files of a dataset."""

    def __init__(self, run: FinishedRun, dataset: str, inputs: Inputs) -> None:
        super().__init__(run, dataset, inputs)
        self.files = {file.path for file in run.files_of(dataset) if file.rows}
        self.listed = self._read_list(self.folder / "autopick.star")
        #: The listed names by their bare form, without folders and endings.
        self.bare: dict[str, list[str]] = {}
        for name in self.listed:
            self.bare.setdefault(FULL(name), []).append(name)
        self.listed_by_key: dict[int, str] = {}
        for roles in inputs.roles:
            if roles.match != "uid" and not roles.groups:
                names = list(self.listed)
                keys = roles.naming.keys(names).tolist()
                self.listed_by_key |= dict(zip(keys, names, strict=True))
        if all(roles.match == "uid" and not roles.groups for roles in inputs.roles):
            self.listed_by_key |= _names_in_table(run)
        #: Rows of each micrograph that are not compared yet.
        self.content: dict[str, list[list[str]]] = {}

    def _read_list(self, path: Path) -> dict[str, Path]:
        """Map each micrograph in the list to its file. Check that the list has exactly the files of the run."""
        listed: dict[str, Path] = {}
        files: set[Path] = set()
        for name, target in _rows(path):
            # The result may have been moved, so only the end of a path is compared.
            parts = PurePosixPath(target).parts
            ends = (self.folder.joinpath(*parts[n:]) for n in range(len(parts)))
            file = next((each for each in ends if each in self.files), None)
            if file is None or name in listed or file in files:
                raise MismatchError(
                    f"{path}: {target} is not a file of this run, or is listed twice"
                )
            listed[name] = file
            files.add(file)
        if files != self.files:
            raise MismatchError(f"{path}: lists {len(listed)} of {len(self.files)} files")
        return listed

    def compare(self, fragment: Fragment, mask: Mask) -> None:
        """Compare the rows of a fragment that `mask` selects with the next rows in the files of their micrographs."""
        table, roles, found = self.read(fragment)
        chosen = mask & ~found.micrographs.missing
        keys = found.picks.micrograph
        numbers = np.flatnonzero(chosen)
        own = _stored_names(table, fragment, found)
        names = [self._find_name(int(keys[row]), own[row]) for row in numbers.tolist()]
        written = []
        for name in names:
            rest = self._rest(name)
            if not rest:
                raise MismatchError(f"{self.listed[name]}: fewer rows than duplicates implies")
            written.append(rest.pop())
        values = np.array([[float(text) for text in row] for row in written]).reshape(-1, 5)
        size = self.sizes(roles, found)[numbers]
        positions = values[:, :2] * size[:, None]
        centres = np.column_stack([found.picks.x, found.picks.y])[numbers]
        wrong = positions_differ(positions, centres, size)
        for number, label in enumerate((SCORE, "rlnClassNumber", "rlnAnglePsi"), 2):
            texts = [row[number] for row in written]
            wrong |= column_differs(table, roles, fragment, label, chosen, texts)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise MismatchError(f"{self.listed[names[row]]}: a row from {fragment} has changed")
        self.add(names, positions, found, chosen)

    def _find_name(self, key: int, own: str) -> str:
        """Return the listed name of the micrograph with this key. `own` is its name in the input, or ""."""
        if key not in self.name_of:
            self.check_names([key], [self._search(key, own)], self.folder)
        return self.name_of[key]

    def _search(self, key: int, own: str) -> str:
        name = self.listed_by_key.get(key, own)
        if name not in self.listed:  # the list has the name in the job's micrographs.star
            alike = self.bare.get(FULL(own), []) if own else []
            name = alike[0] if len(alike) == 1 else name
        if name not in self.listed:
            raise MismatchError(
                f"{self.folder}: the micrograph {own or key} is not in autopick.star"
            )
        return name

    def _rest(self, name: str) -> list[list[str]]:
        """Return the rows of a micrograph that are not compared yet, the next one last."""
        if name not in self.content:
            self.content[name] = list(_rows(self.listed[name]))[::-1]
        return self.content[name]

    def finish(self) -> None:
        """Check that no file has more rows."""
        for name in self.listed:
            if name not in self.content or self.content[name]:
                raise MismatchError(f"{self.listed[name]}: more rows than duplicates implies")


def _stored_names(table: ParticleTable, fragment: Fragment, found: Extract) -> list[str]:
    """Return the stored name of each row's micrograph. Rows without a name have ""."""
    codes, names = found.micrographs.codes, found.micrographs.names
    if not names and MICROGRAPH_PATH in table.schema.names:  # micrographs are matched by uid
        rows = formats.read(table, fragment, [MICROGRAPH_PATH])
        codes, names = Columns(rows, table.path).texts(MICROGRAPH_PATH)
    return [names[code] if names and code >= 0 else "" for code in codes.tolist()]


def _names_in_table(run: FinishedRun) -> dict[int, str]:
    """Map the uid of each micrograph to its name in the micrograph table of the run."""
    given = run.manifest["micrographs"]
    if not given:
        return {}
    table = formats.open_table(under(run.manifest["directory"], given), allow_outside=True)
    column = name_column(table)
    if column is None or "uid" not in table.schema.names:
        return {}
    found: dict[int, str] = {}
    for fragment in table.fragments:
        columns = Columns(formats.read(table, fragment, ["uid", column]), table.path)
        codes, names = columns.texts(column)
        uids = columns.integers("uid")
        found |= {
            uid: names[code]
            for uid, code in zip(uids.tolist(), codes.tolist(), strict=True)
            if code >= 0
        }
    return found


def _rows(path: Path) -> list[list[str]]:
    """Return the values in the first table of a STAR file."""
    rows = []
    for line in path.read_text().splitlines():
        text = line.strip()
        if text and not text.startswith(("#", "data_", "loop_", "_")):
            rows.append(
                [a or b or c for a, b, c in re.findall(r"\"([^\"]*)\"|'([^']*)'|(\S+)", text)]
            )
    return rows
