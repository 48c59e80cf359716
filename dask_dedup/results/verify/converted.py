"""Compare converted files with the inputs in row order: the common part of STAR files and coordinate files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup import formats
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.extract import extract
from dask_dedup.results.verify.outcome import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

SCORE, SCORE_OF_CRYOSPARC = "rlnAutopickFigureOfMerit", "pick_stats/ncc_score"
#: Largest rounding error of a written value, in pixels for positions.
_ROUNDING = 1.1e-6
#: Written for a missing value.
_MISSING = -999.0


class Converted:
    """The converted files of a dataset, and the particles in them that were compared so far.

    Attributes
    ----------
    rows : int
        Number of these particles.
    micrographs : list of (n,) intp
        For each fragment, the micrograph numbers of the particles that can be duplicates.
    centres : list of (n, 3) float64
        Centres of these particles in angstrom, from the converted files.
    labels : list of list of (n,) int64
        Labels of these particles, as in `Points`.
    """

    def __init__(self, run: FinishedRun, dataset: str, inputs: Inputs) -> None:
        self.inputs, self.folder = inputs, run.dataset_folder(dataset)
        self.rows = 0
        self.micrographs: list[NDArray[np.intp]] = []
        self.centres: list[Floats] = []
        self.labels: list[list[NDArray[np.int64]]] = []
        self._number_of: dict[str, int] = {}
        self.name_of: dict[int, str] = {}
        self.key_of: dict[str, int] = {}

    def read(self, fragment: Fragment) -> tuple[ParticleTable, ColumnRoles, Extract]:
        """Read a fragment of the inputs. Also return its table and the roles of the columns."""
        table, roles = self.inputs.tables[fragment.source], self.inputs.roles[fragment.source]
        rows = formats.read(table, fragment, roles.columns)
        found = extract(rows, fragment, roles, self.inputs.params, self.inputs.micrographs)
        return table, roles, found

    def sizes(self, roles: ColumnRoles, found: Extract) -> Floats:
        """Return the pixel size of each row's micrograph, (n,), from the micrograph table or else from the input."""
        table = self.inputs.micrographs
        if table is not None:
            return table.psize_at(table.find(found.micrographs))
        own = found.sizes.stored if roles.overrides_psize else None
        return found.sizes.used if own is None else own

    def check_names(self, keys: Iterable[int], names: Iterable[str], path: Path) -> None:
        """Raise MismatchError if a micrograph has two names, or two micrographs have the same name."""
        for key, name in set(zip(keys, names, strict=True)):
            if (
                self.name_of.setdefault(key, name) != name
                or self.key_of.setdefault(name, key) != key
            ):
                raise MismatchError(f"{path}: {name} is not exactly one micrograph of the inputs")

    def add(self, names: Iterable[str], centres: Floats, found: Extract, rows: Mask) -> None:
        """Add the rows of a fragment that were compared. `centres`, (n, 2) or (n, 3), are from the files."""
        valid = found.picks.invalid[rows] == 0
        codes = [self._number_of.setdefault(name, len(self._number_of)) for name in names]
        labels = found.picks.take(rows).exclusions(self.inputs.params)
        padded = np.pad(centres, ((0, 0), (0, 3 - centres.shape[1])))
        self.micrographs.append(np.array(codes, dtype=np.intp)[valid])
        self.centres.append(padded[valid])
        self.labels.append([label[valid] for label in labels])
        self.rows += int(np.count_nonzero(rows))


def positions_differ(written: Floats, centres: Floats, size: Floats) -> Mask:
    """Return a (n,) mask of the written positions that differ from the centres by more than rounding.

    `written` and `centres` are (n, axes), and `size` is the (n,) pixel size, all in angstrom.
    """
    most = _ROUNDING * size[:, None] + 1e-12 * np.abs(centres)
    return np.asarray((np.abs(written - centres) > most).any(axis=1))


def column_differs(
    table: ParticleTable,
    roles: ColumnRoles,
    fragment: Fragment,
    label: str,
    mask: Mask,
    written: list[str],
) -> Mask:
    """Return a (n,) mask of the written values that differ from a column of the input.

    A missing value is written as -999.
    """
    of_cryosparc = label == SCORE and roles.convention == "cryosparc"
    column = SCORE_OF_CRYOSPARC if of_cryosparc else label
    if column not in table.schema.names:
        return np.asarray(to_floats(written) != _MISSING)
    rows = formats.read(table, fragment, [column])
    if pa.types.is_dictionary(rows.schema.field(column).type):
        texts = rows.column(column).cast(pa.string()).fill_null("None").to_pylist()
        return np.asarray(np.array(texts, object)[mask] != np.array(written, object))
    expected = Columns(rows, table.path).floats(column)[mask]
    expected = np.where(np.isnan(expected), _MISSING, expected)
    found = to_floats(written)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= _ROUNDING * np.maximum(1, np.abs(expected))
    return np.asarray(~(near | (found == expected)))


def to_floats(texts: list[str]) -> Floats:
    """Return numbers written as text, (n,) float64."""
    return np.array([float(text) for text in texts], dtype=np.float64)
