"""What is read from converted files: positions and names of micrographs, in the order of the inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup import formats
from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.verification import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.column_roles import ColumnRoles
    from dask_dedup.particles.extract import Extract
    from dask_dedup.particles.inputs import Inputs

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

SCORE, SCORE_OF_CRYOSPARC = "rlnAutopickFigureOfMerit", "pick_stats/ncc_score"
#: Written decimals of a pixel.
ROUNDING = 1.1e-6
#: Stands for no value.
MISSING = -999.0


@dataclass(slots=True)
class Converted:
    """Positions in the converted files: what `_check_separation` needs, in the order of the inputs."""

    rows: int = 0
    micrographs: list[NDArray[np.intp]] = field(default_factory=list)
    centres: list[Floats] = field(default_factory=list)
    labels: list[list[NDArray[np.int64]]] = field(default_factory=list)
    number_of: dict[str, int] = field(default_factory=dict)

    def add(
        self, names: Iterable[str], centres: Floats, found: Extract, rows: Mask, inputs: Inputs
    ) -> None:
        """Add the rows of a fragment that could be compared."""
        valid = found.picks.invalid[rows] == 0
        codes = [self.number_of.setdefault(name, len(self.number_of)) for name in names]
        picks = found.picks.take(rows)
        self.micrographs.append(np.array(codes, dtype=np.intp)[valid])
        self.centres.append(centres[valid])
        self.labels.append([label[valid] for label in picks.exclusions(inputs.params)])
        self.rows += int(np.count_nonzero(rows))


def micrograph_sizes(found: Extract, roles: ColumnRoles, inputs: Inputs) -> Floats:
    """Return the (n,) pixel size of each row's micrograph: of the micrograph table, else of the input."""
    table = inputs.micrographs
    if table is not None:
        return table.psize_at(table.find(found.micrographs))
    own = found.sizes.stored if roles.overrides_psize else None
    return found.sizes.used if own is None else own


class Names:
    """Checks that each micrograph has one name, which is that of an input or of the micrograph table."""

    def __init__(self) -> None:
        self.name_of: dict[int, str] = {}
        self.key_of: dict[str, int] = {}

    def check(self, keys: NDArray[np.uint64], names: list[str], path: Path) -> None:
        """Raise MismatchError if a key has a second name, or a name a second key."""
        for key, name in set(zip(keys.tolist(), names, strict=True)):
            if (
                self.name_of.setdefault(key, name) != name
                or self.key_of.setdefault(name, key) != key
            ):
                raise MismatchError(f"{path}: {name} is not one micrograph of the inputs")


def column_differs(
    table: ParticleTable, fragment: Fragment, column: str, mask: Mask, written: list[str]
) -> Mask:
    """Return which of the written values differ from a column of the input. A missing one is written as -999."""
    if column not in table.schema.names:
        return np.asarray(to_floats(written) != MISSING)
    rows = formats.read(table, fragment, [column])
    if pa.types.is_dictionary(rows.schema.field(column).type):
        texts = rows.column(column).cast(pa.string()).fill_null("None").to_pylist()
        return np.asarray(np.array(texts, object)[mask] != np.array(written, object))
    expected = Columns(rows, table.path).floats(column)[mask]
    expected = np.where(np.isnan(expected), MISSING, expected)
    found = to_floats(written)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= ROUNDING * np.maximum(1, np.abs(expected))
    return np.asarray(~(near | (found == expected)))


def to_floats(texts: list[str]) -> Floats:
    """Return numbers written as text, (n,) float64."""
    return np.array([float(text) for text in texts], dtype=np.float64)
