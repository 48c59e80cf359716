"""Small random particle tables like those of CryoSPARC and RELION, ways to store them, and the output of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

#: (ny, nx), not square, so that swapping the axes moves every particle.
SHAPE = (240, 300)
PSIZE = 1.2
#: Different from that of the micrograph on purpose.
PSIZE_2D, PSIZE_3D = 2.4, 3.1
MICROGRAPH_UID = 2**63 + 11

PAIR = pa.list_(pa.float32(), 2)


def cryosparc(rows=120, *, micrographs=4, seed=0, columns=None, drop=()):
    """Picks of about 0.4 neighbours within 20 angstrom, with both alignments.

    `columns` replaces columns or adds them, `drop` leaves some out, by name or by beginning.
    """
    rng = np.random.default_rng(seed)
    micrograph = np.sort(rng.integers(micrographs, size=rows)).astype(np.uint64)
    table = {
        "uid": rng.integers(2**64, size=rows, dtype=np.uint64),
        "location/micrograph_uid": micrograph + np.uint64(MICROGRAPH_UID),
        "location/micrograph_path": pa.array(
            [micrograph_path(number) for number in micrograph.tolist()], pa.string()
        ),
        "location/micrograph_shape": pa.array([SHAPE] * rows, pa.list_(pa.uint32(), 2)),
        "location/center_x_frac": rng.random(rows, dtype=np.float32),
        "location/center_y_frac": rng.random(rows, dtype=np.float32),
        "location/micrograph_psize_A": np.full(rows, PSIZE, np.float32),
        "pick_stats/ncc_score": rng.random(rows, dtype=np.float32),
        "pick_stats/power": rng.random(rows, dtype=np.float32),
    }
    for group, psize in (("alignments2D", PSIZE_2D), ("alignments3D", PSIZE_3D)):
        table |= {
            f"{group}/shift": vectors(rng.normal(0, 4, (rows, 2))),
            f"{group}/psize_A": np.full(rows, psize, np.float32),
            f"{group}/split": rng.integers(2, size=rows, dtype=np.uint32),
            f"{group}/error": rng.random(rows, dtype=np.float32),
            f"{group}/error_min": rng.random(rows, dtype=np.float32),
        }
    return _finished(table, columns, drop)


def relion(rows=120, *, micrographs=4, seed=0, axes=2, columns=None, drop=()):
    """Return the same with columns of RELION 3.1; with `axes` 3, tomograms of RELION 4 and 5."""
    rng = np.random.default_rng(seed)
    number = np.sort(rng.integers(micrographs, size=rows)).tolist()
    names = [f"TS_{n:02}" if axes == 3 else micrograph_path(n) for n in number]
    table = {"rlnTomoName" if axes == 3 else "rlnMicrographName": pa.array(names, pa.string())}
    for axis in "XYZ"[:axes]:
        table[f"rlnCoordinate{axis}"] = rng.random(rows) * (120 if axes == 3 else 240)
    for axis in "XYZ"[:axes]:
        table[f"rlnOrigin{axis}Angst"] = rng.normal(0, 8, rows)
    table["rlnTomoTiltSeriesPixelSize" if axes == 3 else "rlnMicrographPixelSize"] = np.full(
        rows, PSIZE
    )
    table["rlnAutopickFigureOfMerit"] = rng.random(rows)
    table["rlnRandomSubset"] = rng.integers(1, 3, size=rows)
    return _finished(table, columns, drop)


def _finished(table, columns, drop):
    table = {name: values for name, values in table.items() if not name.startswith(tuple(drop))}
    return pa.table({**table, **(columns or {})})


def exposures(micrographs=4, *, columns=None, drop=()):
    """Return a micrograph table; each micrograph has a different pixel size."""
    number = np.arange(micrographs, dtype=np.uint64)
    table = {
        "uid": number + np.uint64(MICROGRAPH_UID),
        "micrograph_blob/path": [micrograph_path(n) for n in number.tolist()],
        "micrograph_blob/shape": pa.array([SHAPE] * micrographs, pa.list_(pa.uint32(), 2)),
        "micrograph_blob/psize_A": np.linspace(0.8, 2.0, micrographs).astype(np.float32),
    }
    return _finished(table, columns, drop)


def micrograph_path(number):
    return f"J1/imported/{number:03}_grid.mrc"


def vectors(values):
    """Return an (n, 2) array as a column of pairs, float32."""
    flat = pa.array(np.asarray(values, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=PAIR)


def values(table, name):
    """Return a column as float64, lists as rows."""
    return np.array(table.column(name).to_pylist(), dtype=np.float64)


def bits(array):
    """Return the content of an Arrow array for comparison: NaN equals NaN if all bits are equal."""
    if isinstance(array, pa.ChunkedArray):
        return [item for chunk in array.chunks for item in bits(chunk)]
    kind = array.type
    if pa.types.is_dictionary(kind):
        return bits(array.dictionary_decode())
    if pa.types.is_floating(kind):
        whole = {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[kind.bit_width]
        return array.view(whole).to_pylist()
    if pa.types.is_temporal(kind):
        return array.view(pa.int64() if kind.bit_width == 64 else pa.int32()).to_pylist()
    if pa.types.is_struct(kind):
        children = zip(*(bits(child) for child in array.flatten()), strict=True)
        present = array.is_valid().to_pylist()
        return [row if there else None for row, there in zip(children, present, strict=True)]
    if pa.types.is_map(kind):
        pairs = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        return bits(array.cast(pairs))
    if pa.types.is_nested(kind):
        items = iter(bits(array.flatten()))
        lengths = pc.list_value_length(array).to_pylist()
        return [None if n is None else [next(items) for _ in range(n)] for n in lengths]
    return array.to_pylist()


def assert_same_rows(one, other):
    """Check that two tables have the same schema (with metadata) and bit-identical rows."""
    assert one.schema.equals(other.schema, check_metadata=True)
    for name in one.schema.names:
        assert bits(one.column(name)) == bits(other.column(name)), name


def column_with_bad_values(column, bad_value, rows):
    """Return a column of `cryosparc(30)` with a value in some rows."""
    array = values(cryosparc(30), column)
    array[list(rows)] = bad_value
    return {column: array}


def uids(table):
    return table.column("uid").to_pylist()


def write_file(table, path, **options):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(table, path, **options)
    except pa.ArrowNotImplementedError as error:
        let_off_old_pyarrow(error)
    return Path(path)


OLD_PYARROW = int(pa.__version__.split(".")[0]) < 18
casts_views = pytest.mark.skipif(OLD_PYARROW, reason="pyarrow 17 cannot cast string_view")


def let_off_old_pyarrow(error):
    """Skip a test if pyarrow is older than 18 and cannot do it."""
    if not OLD_PYARROW:
        raise error
    pytest.skip(f"pyarrow {pa.__version__} cannot store this: {error}")


def write_folder(table, folder, files=3, **options):
    """Write the rows in order to files of about equal size."""
    for number, rows in enumerate(np.array_split(np.arange(table.num_rows), files)):
        write_file(table.take(rows), Path(folder) / f"batch-{number:03}.parquet", **options)
    return Path(folder)


def write_hive(table, folder, key, **options):
    """Write a folder `key`=VALUE for each value of a text or integer column, without that column in the files."""
    for value in table.column(key).unique().to_pylist():
        mask = np.array([other == value for other in table.column(key).to_pylist()])
        part = table.filter(pa.array(mask)).drop_columns([key])
        name = str(value).replace("/", "%2F")
        write_file(part, Path(folder) / f"{key}={name}" / "data.parquet", **options)
    return Path(folder)


@dataclass(frozen=True)
class Output:
    """The output of a finished run."""

    folder: Path

    @property
    def kept(self):
        return self.read("particles_kept")

    @property
    def rejected(self):
        return self.read("particles_rejected")

    @property
    def duplicates(self):
        return self.read("duplicates")

    @property
    def manifest(self):
        return json.loads((self.folder / "manifest.json").read_text())

    def parts(self, name):
        return sorted(path for path in (self.folder / name).rglob("*") if path.is_file())

    def read(self, name):
        # Without the columns in the names of folders.
        parts = [pq.read_table(part, partitioning=None) for part in self.parts(name)]
        return pa.concat_tables(parts)

    @property
    def decisions(self):
        """Map (file, row) of every rejected row to (file, row) of its winner, and the distance."""
        listed = self.duplicates
        rejected = zip(listed["file"].to_pylist(), listed["row"].to_pylist(), strict=True)
        winner = zip(
            listed["winner_file"].to_pylist(), listed["winner_row"].to_pylist(), strict=True
        )
        decisions = zip(winner, listed["distance_A"].to_pylist(), strict=True)
        return dict(zip(rejected, decisions, strict=True))

    @property
    def by_uid(self):
        """Map the uid of every rejected row to the uid of its winner, and the distance."""
        listed = self.duplicates.select(["uid", "winner_uid", "distance_A"]).to_pydict()
        return {uid: decisions for uid, *decisions in zip(*listed.values(), strict=True)}


def contents(folder):
    """Return every file below a folder, by relative path."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def stamps(folder):
    """Return size and modification time of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
    }
