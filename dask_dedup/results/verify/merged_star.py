"""Check the STAR file into which a run has merged the particles of all inputs."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dask_dedup import formats
from dask_dedup.formats.star.table import read_text
from dask_dedup.particles.column_values import Columns
from dask_dedup.results.verify.converted import (
    SCORE,
    SCORE_OF_CRYOSPARC,
    Converted,
    column_differs,
    positions_differ,
    to_floats,
)
from dask_dedup.results.verify.outcome import MismatchError

if TYPE_CHECKING:
    from typing import Any

    from dask_dedup.formats import Fragment, ParticleTable
    from dask_dedup.particles.inputs import Inputs
    from dask_dedup.results.finished_run import FinishedRun
    from dask_dedup.results.verify.converted import Mask

_GROUP, _TUBE = "rlnOpticsGroup", "rlnHelicalTubeID"
_MICROGRAPHS = ("rlnTomoName", "rlnMicrographName")
_COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
#: Columns that are written as 0 for inputs that lack them.
_ZEROS = re.compile(r"rlnOrigin[XYZ]Angst|rlnTomoSubtomogram(Rot|Tilt|Psi)")


class MergedStar(Converted):
    """The STAR file with all particles of a dataset, read in row order."""

    def __init__(self, run: FinishedRun, dataset: str, inputs: Inputs) -> None:
        super().__init__(run, dataset, inputs)
        self.path = self.folder / "particles.star"
        self.table = formats.open_table(self.path, allow_empty=True)
        self.labels_in_file: tuple[str, ...] = self.table.detail.labels
        self.chunks = iter(self.table.fragments)
        self.held: dict[str, list[str]] = {label: [] for label in self.labels_in_file}
        self.shifts: dict[int, set[int]] = defaultdict(set)
        self.tubes: dict[int, tuple[int, int]] = {}
        self._check_labels()

    def _check_labels(self) -> None:
        """Check that the file has the columns that all inputs have, and no others."""
        every = [set(_labels(table)) for table in self.inputs.tables]
        common = set.intersection(*every) - {_GROUP, *_MICROGRAPHS}
        found = set(self.labels_in_file) - {_GROUP, *_MICROGRAPHS}
        wrong = {
            label
            for label in common ^ found
            if not (label in set.union(*every) and _ZEROS.fullmatch(label))
        }
        if wrong or _GROUP not in self.labels_in_file:
            raise MismatchError(
                f"{self.path}: these columns are not in all inputs, or are missing from the file: {', '.join(wrong)}"
            )

    def take(self, count: int) -> dict[str, list[str]]:
        """Return the next `count` rows as text."""
        while len(self.held[_GROUP]) < count:
            fragment = next(self.chunks, None)
            if fragment is None:
                raise MismatchError(f"{self.path}: fewer rows than duplicates implies")
            for label, column in read_text(self.table, fragment, self.labels_in_file).items():
                self.held[label] += column.cast(pa.string()).to_pylist()
        taken = {label: values[:count] for label, values in self.held.items()}
        self.held = {label: values[count:] for label, values in self.held.items()}
        return taken

    def compare(self, fragment: Fragment, mask: Mask) -> None:
        """Compare the rows of a fragment that `mask` selects with the next rows of the file."""
        table, roles, found = self.read(fragment)
        taken = self.take(int(np.count_nonzero(mask)))
        name = next(label for label in _MICROGRAPHS if label in taken)
        self.check_names(found.picks.micrograph[mask].tolist(), taken[name], self.path)
        centres = np.column_stack([found.picks.x, found.picks.y, found.picks.z])[mask]
        own = _labels(table)
        copied = table.format in ("star", "optimisation_set") or (
            table.format == "parquet" and roles.convention == "relion"
        )
        wanted = [label for label in own if label in taken and label not in (_GROUP, _TUBE, name)]
        if copied:
            for label, texts in _texts(table, fragment, wanted).items():
                if np.array(texts, object)[mask].tolist() != taken[label]:
                    raise self._changed(label, fragment)
            self._check_groups(table, fragment, mask, taken[_GROUP])
        else:
            size = self.sizes(roles, found)[mask]
            axes = [label for label in _COORDINATES if label in taken]
            positions = np.column_stack([to_floats(taken[label]) * size for label in axes])
            if positions_differ(positions, centres[:, : len(axes)], size).any():
                raise self._changed(axes[0], fragment)
            centres = positions
            for label in set(wanted) - set(axes):
                if column_differs(table, roles, fragment, label, mask, taken[label]).any():
                    raise self._changed(label, fragment)
        for label in set(taken) - set(own) - {_GROUP, *_MICROGRAPHS}:
            if any(float(text) for text in taken[label]):
                raise self._changed(label, fragment)
        known = {float(number) for number in self.table.detail.optics[_GROUP]}
        if not {float(number) for number in taken[_GROUP]} <= known:
            raise self._changed(_GROUP, fragment)
        if _TUBE in taken:
            self._check_tubes(table, fragment, mask, taken[_TUBE])
        self.add(taken[name], centres, found, mask)

    def _changed(self, label: str, fragment: Fragment) -> MismatchError:
        return MismatchError(f"{self.path}: column {label} of rows from {fragment} has changed")

    def _check_groups(
        self, table: ParticleTable, fragment: Fragment, mask: Mask, groups: list[str]
    ) -> None:
        """Check that each row's optics group has the same values as the row's group in the input."""
        old_optics = getattr(_detail(table), "optics", {})
        new_optics = self.table.detail.optics
        if _GROUP not in old_optics:
            return
        old = np.array(_texts(table, fragment, [_GROUP])[_GROUP], object)[mask].tolist()
        labels = [label for label in new_optics if label in old_optics]
        labels = [label for label in labels if label not in (_GROUP, "rlnOpticsGroupName")]
        for before, after in set(zip(old, groups, strict=True)):
            one, other = _group_of(old_optics, before), _group_of(new_optics, after)
            for label in labels:
                a, b = one[label], other[label]
                if a != b and float(a) != float(b):
                    raise MismatchError(
                        f"{self.path}: optics group {after} has {label} {b}, but {table.path} has {a}"
                    )

    def _check_tubes(
        self, table: ParticleTable, fragment: Fragment, mask: Mask, found: list[str]
    ) -> None:
        """Check that tube ids are the input's ids plus a constant, and that inputs do not share a range of ids."""
        rows = formats.read(table, fragment, [_TUBE])
        old, new = Columns(rows, table.path).floats(_TUBE)[mask], to_floats(found)
        if not new.size:
            return
        source = fragment.source
        self.shifts[source] |= set((new - old).astype(int).tolist())
        low, high = self.tubes.get(source, (10**18, -1))
        self.tubes[source] = min(low, int(new.min())), max(high, int(new.max()))
        others = [pair for each, pair in self.tubes.items() if each != source]
        low, high = self.tubes[source]
        if len(self.shifts[source]) > 1 or any(
            low <= top and bottom <= high for bottom, top in others
        ):
            raise self._changed(_TUBE, fragment)

    def finish(self) -> None:
        """Check that the file has no more rows."""
        if self.held[_GROUP] or self.table.rows != self.rows:
            raise MismatchError(f"{self.path}: more rows than duplicates implies")
        lacking = {"rlnVoltage", "rlnSphericalAberration"} - set(self.table.detail.optics)
        if lacking:
            raise MismatchError(f"{self.path}: its optics groups lack {', '.join(sorted(lacking))}")


def _detail(table: ParticleTable) -> Any:
    return table.detail.particles.detail if table.format == "optimisation_set" else table.detail


def _labels(table: ParticleTable) -> list[str]:
    """Return the columns of an input that a STAR file of RELION can have."""
    if table.format in ("star", "optimisation_set"):
        return list(_detail(table).labels)
    names = table.schema.names
    if "location/center_x_frac" in names:
        scores = [SCORE] if SCORE_OF_CRYOSPARC in names else []
        return ["rlnMicrographName", *_COORDINATES[:2], *scores]
    labels = [name for name in names if re.fullmatch(r"rln\w+", name)]
    sizes = ("rlnMicrographPixelSize", "rlnImagePixelSize", "rlnTomoTiltSeriesPixelSize")
    return [name for name in labels if table.format != "coordinates" or name not in sizes]


def _texts(table: ParticleTable, fragment: Fragment, labels: list[str]) -> dict[str, list[str]]:
    """Return columns of a fragment as text."""
    columns = formats.read_text(table, fragment, labels)
    if not columns:
        rows = formats.read(table, fragment, labels)
        columns = dict(zip(rows.column_names, rows.columns, strict=True))
    return {
        label: columns[label].cast(pa.string()).fill_null("None").to_pylist() for label in labels
    }


def _group_of(optics: dict[str, tuple[str, ...]], number: str) -> dict[str, str]:
    """Return the values of an optics group."""
    row = next(n for n, text in enumerate(optics[_GROUP]) if float(text) == float(number))
    return {label: values[row] for label, values in optics.items()}
