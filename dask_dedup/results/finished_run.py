"""Read access to a finished run: manifest, parameters and dataset files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.arrow import from_numpy
from dask_dedup.conversion import CONVERSIONS
from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import DedupError, InputError
from dask_dedup.formats import NamedFiles, by_source, open_table, read
from dask_dedup.formats.coordinates.detection import fixed_folder, is_pattern
from dask_dedup.formats.parquet.footer import NULL_KEY, hive_keys
from dask_dedup.formats.parquet.table import with_keys
from dask_dedup.output.layout import DUPLICATES, KEPT, REJECTED, VOTES
from dask_dedup.output.manifest import lacks_particles, read_manifest
from dask_dedup.particles.column_roles import ColumnRoles, needs_pixel_size
from dask_dedup.particles.extract import Extract, extract
from dask_dedup.particles.inputs import read_exposures, resolve_all, use_stripping
from dask_dedup.particles.micrographs.stripping import Stripping
from dask_dedup.particles.micrographs.table import MicrographTable
from dask_dedup.particles.pickers import make_voting
from dask_dedup.particles.validity import Reason
from dask_dedup.pipeline.rejected_rows import find_rejected_rows
from dask_dedup.results.result_file import Part, ResultFile
from dask_dedup.storage.access import check_access
from dask_dedup.storage.files import exists
from dask_dedup.storage.paths import at, under
from dask_dedup.storage.table_version import split_version, with_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.dedup.voting import Voting
    from dask_dedup.formats import ParticleTable
    from dask_dedup.particles.micrographs.table import MicrographTable
    from dask_dedup.pipeline.rejected_rows import RejectedRows


@dataclass(frozen=True)
class FinishedRun:
    """A finished run. All data except the manifest is read on first use.

    Attributes
    ----------
    output : Path
    manifest : dict
    """

    output: Path
    manifest: dict[str, Any]

    @cached_property
    def params(self) -> DedupParams:
        """The parameters of the run."""
        return DedupParams.from_dict(self.manifest["parameters"])

    @property
    def given_names(self) -> dict[str, str]:
        """The names of pickers that the user gave, by input."""
        names: dict[str, str] = self.manifest["names"]
        return names

    @cached_property
    def files(self) -> tuple[ResultFile, ...]:
        """The output files listed in the manifest, in the manifest's order."""
        inputs = [Path(entry["path"]).name for entry in self.manifest["inputs"]]
        return tuple(
            ResultFile(
                path=self.output / entry["path"],
                dataset=entry["path"].split("/", 1)[0],
                source=-1 if entry["input"] is None else entry["input"],
                fragment=entry.get("fragment"),
                holds_rows="fragment" in entry
                or (
                    entry["input"] is not None
                    and entry["input"] not in self._trees
                    and Path(entry["path"]).name == inputs[entry["input"]]
                ),
                rows=entry["rows"],
                bytes=entry["bytes"],
                sha256=entry["sha256"],
            )
            for entry in self.manifest["outputs"]
        )

    @property
    def is_conversion(self) -> bool:
        """Whether the run converted its inputs. Then an output file can hold particles of all inputs."""
        return self.manifest["output_format"] in CONVERSIONS

    @property
    def lacks_particles(self) -> bool:
        """Whether there are no particle tables: the run was for duplicates only."""
        return lacks_particles(self.manifest)

    @property
    def partitions(self) -> dict[str, str]:
        """The columns in the names of the partition folders, and the Arrow types of these columns, in order."""
        types: dict[str, str] = self.manifest.get("partitions") or {}
        return types

    @property
    def reads_inputs(self) -> bool:
        """Whether kept and rejected particles are read from the inputs and selected by ``duplicates``.

        True if there are no particle tables, or if the tables do not show the input row of each particle.
        """
        by_values = bool(self.manifest.get("partition_by"))
        return self.is_conversion or self.lacks_particles or by_values

    @cached_property
    def _trees(self) -> dict[int, str]:
        """Map input number to the name of the output, for inputs that were written as several files."""
        entries = enumerate(self.manifest["inputs"])
        return {source: entry["output"] for source, entry in entries if entry.get("output")}

    def partition_values(self, path: Path) -> dict[str, str | None]:
        """Return the values of the partition columns in the path of an output file. A null is None."""
        keys = hive_keys(path, self.output) if self.partitions else ()
        return {name: None if text == NULL_KEY else text for name, text in keys}

    def count_trees(self, dataset: str) -> dict[int, int]:
        """Count the rows of each input that was written as several files, in the files of `dataset`."""
        tables = {} if self.lacks_particles else self.native_tables(dataset)
        return {n: self.open_output(tables[n], n).rows for n in self._trees if n in tables}

    def dataset_folder(self, dataset: str) -> Path:
        """Return the folder of the non-Parquet files of `dataset`."""
        folder = self.output / dataset
        token = self.manifest["run_token"]
        return folder / token if token else folder

    def open_output(self, path: Path, source: int) -> ParticleTable:
        """Open a table of the result with rows of the input `source`."""
        given = self.params.columns_of(self.manifest["inputs"][source]["path"])
        # In Parquet files the columns have other names.
        columns = {} if path.suffix == ".parquet" else given
        shifts = self.params.adds_shifts
        is_tree = path.suffix != ".parquet" and source in self._trees
        if is_tree and is_pattern(Path(self.manifest["inputs"][source]["path"])):
            files = [each.path for each in self.files if path in each.path.parents]
            named = NamedFiles.of(str(path), path, files)
            return open_table(named, source, allow_empty=True, columns=columns, shifts=shifts)
        # After some rows are removed, a table can look like a pick file.
        table = open_table(
            *(path, source),
            allow_outside=True,
            allow_empty=True,
            columns=columns,
            shifts=shifts,
            picks=self.manifest["inputs"][source]["format"] != "star",
        )
        keys = dict(hive_keys(path, self.output)) if self.partitions else {}
        return with_keys(table, keys, self.partitions) if keys else table

    def files_of(self, dataset: str) -> list[ResultFile]:
        """Return the output files of `dataset`, such as "particles_kept"."""
        return [file for file in self.files if file.dataset == dataset]

    def by_fragment(self, dataset: str) -> dict[int, list[ResultFile]]:
        """Map each fragment number to its Parquet files in `dataset`, in order: one in ``duplicates`` and ``votes``."""
        found: dict[int, list[ResultFile]] = {}
        for file in self.files_of(dataset):
            if file.fragment is not None:
                found.setdefault(file.fragment, []).append(file)
        return found

    def native_tables(self, dataset: str) -> dict[int, Path]:
        """Map input number to its native-format table in `dataset`, such as the kept particles."""
        trees = self._trees if dataset in (KEPT, REJECTED) else {}
        folder = self.dataset_folder(dataset)
        tables = {source: folder / name for source, name in trees.items()}
        for file in self.files_of(dataset):
            if file.fragment is None and file.holds_rows:
                tables.setdefault(file.source, file.path)
        return tables

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The files of the datasets, as one `Part` per fragment or per input in native format."""
        kept, rejected, *others = map(self.by_fragment, (KEPT, REJECTED, DUPLICATES, VOTES))
        by_input = [
            by_source(file for _, mine in sorted(files.items()) for file in mine)
            for files in others
        ]

        def of_input(source: int) -> Iterator[tuple[Path, ...]]:
            """Yield the files of an input in ``duplicates``, then its files in ``votes``."""
            return (_paths(files[source]) for files in by_input)

        if self.reads_inputs:
            return tuple(
                Part(source, (), (), *of_input(source))
                for source in range(len(self.manifest["inputs"]))
            )
        parts = [
            Part(
                files[0].source,
                _paths(files),
                _paths(rejected[number]),
                *(_paths(each.get(number, ())) for each in others),
            )
            for number, files in kept.items()
        ]
        native = self.native_tables(REJECTED)
        for source, path in self.native_tables(KEPT).items():
            parts.append(Part(source, (path,), (native[source],), *of_input(source)))
        return tuple(parts)

    @cached_property
    def roles(self) -> tuple[ColumnRoles, ...]:
        """The column roles of each input."""
        inputs = [(entry["path"], entry["column_names"]) for entry in self.manifest["inputs"]]
        units = [entry.get("position_unit", "") for entry in self.manifest["inputs"]]
        params, names = self.params, self.manifest.get("micrograph_names")
        if names:
            params = replace(params, match_micrographs=names["match"])
        found = resolve_all(inputs, params)
        if names:
            paths = [path for path, _ in inputs]
            found = use_stripping(paths, found, params, Stripping.parse(names["stripping"]))
        return tuple(
            replace(roles, unit="volume", image=None)
            if unit == "volume"
            else replace(roles, binned=unit == "binned pixel", own_psize=unit == "own pixel")
            for roles, unit in zip(found, units, strict=True)
        )

    @cached_property
    def voting(self) -> Voting | None:
        """The pickers and the required votes, or None if votes were not counted."""
        pickers = [(entry["path"], entry["picker"]) for entry in self.manifest["inputs"]]
        return make_voting(pickers, self.params, self.manifest["left_out"])

    @property
    def score_names(self) -> list[str]:
        """The scores that rank the particles, each with its direction, as text; empty if there are none."""
        fields = (self.params.score_of(entry["path"]) for entry in self.manifest["inputs"])
        return list(dict.fromkeys(str(field) for field in fields if field))

    @cached_property
    def folder(self) -> str:
        """The folder that relative input paths start from, or "" for the current folder.

        This is the folder in which the run was started. It is the current folder if the inputs no longer exist there
        (for example, after the project was moved), or if no path is relative.
        """
        folder = self.manifest.get("directory") or ""
        inputs = [entry["path"] for entry in self.manifest["inputs"]]
        files = [file for each in self.manifest["named_files"].values() for file in each]
        micrographs = self.manifest["micrographs"]
        given = [*inputs, *files, *([micrographs] if micrographs else [])]
        if folder == str(Path.cwd()) or all(under(folder, path) == path for path in given):
            return ""
        return folder if all(_exists(under(folder, path)) for path in inputs) else ""

    @cached_property
    def micrographs(self) -> MicrographTable | None:
        """The micrograph table of the run. None if the run used no table, or the table cannot be read."""
        given = self.manifest["micrographs"]
        if not given:
            return None
        try:
            path = under(self.manifest["directory"], given)
            table = open_table(path, allow_outside=True)
            return read_exposures(table, self.roles[0], self.params, given)
        except (DedupError, OSError):
            return None

    @property
    def no_distances_because(self) -> str:
        """The reason why particle distances cannot be measured, or an empty text."""
        for entry, roles in zip(self.manifest["inputs"], self.roles, strict=True):
            sources = (roles.psize_mic, roles.given_psize, roles.image, self.micrographs)
            if roles.unit == "volume" or roles.binned:  # needs the tomograms
                sources = (None, None, None, self.micrographs)
            if needs_pixel_size(roles, self.params) and all(found is None for found in sources):
                return (
                    f"the micrograph table {self.manifest['micrographs']}, which has the pixel "
                    f"sizes of {entry['path']}, is missing"
                )
        return ""

    def compared(self, found: Extract) -> NDArray[np.bool_]:
        """Return a (n,) bool mask of the valid rows of `found`: the rows that the run compared."""
        reasons = ~Reason(0)
        if self.micrographs is None and self.manifest["micrographs"]:
            # Without the micrograph table these reasons apply to every row.
            reasons &= ~(Reason.PIXEL_SIZE | Reason.SHAPE | Reason.TOO_FAR)
        return np.asarray((found.picks.invalid & np.uint16(reasons)) == 0)

    def read_picks(
        self, part: Part, columns: Sequence[str] = (), *, kept: bool
    ) -> Iterator[tuple[Extract, pa.Table]]:
        """Read the kept or the rejected rows of `part`. Yield the picks and the table rows of each fragment.

        `columns` are further columns to read, if the table has them.
        """
        roles = self.roles[part.source]
        rejected: list[RejectedRows] = []
        if self.reads_inputs:
            tables = [self.open_input(part.source)]
            entry = self.manifest["inputs"][part.source]
            if tables[0].rows != entry["rows"]:
                raise InputError(f"{self.locate(entry)}: has changed since the run.")
            rejected = find_rejected_rows(self.output, self.manifest, tables[0], self.folder)
        else:
            paths = part.kept if kept else part.rejected
            tables = [self.open_output(path, part.source) for path in paths]
        for table in tables:
            names = (*roles.columns, *(name for name in columns if name in table.schema.names))
            for number, fragment in enumerate(table.fragments):
                rows = read(table, fragment, tuple(dict.fromkeys(names)))
                if rejected:
                    rows = rows.filter(from_numpy(rejected[number].read_kept(fragment) == kept))
                yield extract(rows, fragment, roles, self.params, self.micrographs), rows

    def locate(self, entry: Mapping[str, Any]) -> str | NamedFiles:
        """Return the location of an input, given its entry in the manifest."""
        path = entry["path"]
        files = self.manifest["named_files"].get(path)
        if files is None:
            return with_version(under(self.folder, path), entry.get("version"))
        files = [under(self.folder, file) for file in files]
        return NamedFiles.of(path, str(Path(files[0]).parent), files)

    def open_input(self, source: int) -> ParticleTable:
        """Open an input at its path in the manifest."""
        entry = self.manifest["inputs"][source]
        return open_table(
            *(self.locate(entry), source),
            allow_outside=self.manifest["allow_outside"],
            columns=self.params.columns_of(entry["path"]),
            shifts=self.params.adds_shifts,
        )


def _paths(files: Sequence[ResultFile]) -> tuple[Path, ...]:
    return tuple(file.path for file in files)


def _exists(path: str) -> bool:
    """Return whether an input exists. For a pattern, check its fixed folder."""
    location = split_version(path)[0]
    return exists(fixed_folder(location) if is_pattern(location) else location)


def open_finished_run(output: str | Path) -> FinishedRun:
    """Open the finished run in the folder `output`. The input files need not exist."""
    path = at(output)
    check_access([path])
    return FinishedRun(path, read_manifest(path))
