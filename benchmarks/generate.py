"""Generate particle tables with the columns of CryoSPARC, of any size, in little memory.

    python -m benchmarks.generate clustered --rows 5_000_000 --output /scratch/clustered

The tables have 41 columns with text and vectors, and about 300 picks per micrograph. A quarter of the picks are second
picks of the same particle. All scores differ, so the result does not depend on the rule for ties.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PICKS = 300
FILE_ROWS, GROUP_ROWS = 250_000, 125_000
NX, NY, PSIZE = 5760, 4092, 1.1
CASES = ("clustered", "random", "two-pickers", "expanded", "giant", "chain-rising", "chain-random")


def splitmix(values: np.ndarray) -> np.ndarray:
    """Return splitmix64 hashes."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(number: np.ndarray, salt: int) -> np.ndarray:
    """Return a random value in [0, 1) for each particle number, the same in every order."""
    return (splitmix(number * np.uint64(977) + np.uint64(salt)) >> np.uint64(11)) / 2.0**53


def order(case: str, rows: int, start: int, stop: int) -> np.ndarray:
    """Return the particle numbers of some rows: in order, or permuted for the case ``random``."""
    row = np.arange(start, stop, dtype=np.uint64)
    if case != "random":
        return row
    # A permutation without memory: multiply by a number that is coprime to `rows`.
    factor = next(f for f in range(int(rows * 0.618), rows) if np.gcd(f, rows) == 1)
    return (row * np.uint64(factor) + np.uint64(12345)) % np.uint64(rows)


def geometry(case: str, number: np.ndarray, rows: int) -> tuple[np.ndarray, ...]:
    """Return micrograph, x and y in angstrom, and score of each particle."""
    width, height = NX * PSIZE, NY * PSIZE
    if case == "giant":
        # 200 neighbours within 20 A of each pick.
        side = np.sqrt(rows * np.pi * 20.0**2 / 200)
        return number * 0, uniform(number, 1) * side, uniform(number, 2) * side, uniform(number, 3)
    if case.startswith("chain"):
        score = number / rows if case == "chain-rising" else uniform(number, 3)
        return number * 0, number * 15.0, number * 0.0, score
    if case == "expanded":
        original = number // np.uint64(60)
        x, y = uniform(original, 1) * width, uniform(original, 2) * height
        return original // np.uint64(PICKS), x, y, uniform(number, 3)
    # Every fourth pick is a second pick of the previous particle, a few angstrom away.
    again = number % np.uint64(4) == 3
    original = np.where(again, number - np.uint64(1), number)
    x = uniform(original, 1) * width + np.where(again, 6.0 * (uniform(number, 4) - 0.5), 0.0)
    y = uniform(original, 2) * height + np.where(again, 6.0 * (uniform(number, 5) - 0.5), 0.0)
    return number // np.uint64(PICKS), x.clip(0, width), y.clip(0, height), uniform(number, 3)


def table(case: str, number: np.ndarray, rows: int, columns: int = 41) -> pa.Table:
    """Return the table of some particles."""
    micrograph, x, y, score = geometry(case, number, rows)
    n = number.size
    giant = case == "giant" or case.startswith("chain")
    size = (max(x.max(), y.max(), 1.0) / PSIZE + 1) if giant else 0
    nx, ny = (2**26, 2**26) if giant and size > NX else (NX, NY)
    rng = np.random.default_rng(int(number[0]))

    def vector(values: np.ndarray, width: int) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)

    def floats() -> np.ndarray:
        return rng.random(n, dtype=np.float32)

    def same(value: object, dtype: str) -> np.ndarray:
        return np.full(n, value, dtype)

    def text(numbers: np.ndarray, form: str) -> pa.Array:
        distinct, codes = np.unique(numbers, return_inverse=True)
        names = pa.array([form.format(int(value)) for value in distinct])
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), names).cast(
            "string"
        )

    path = "J7/motioncorrected/{0:021d}_Grid1_{0:06d}_patch_aligned_doseweighted.mrc"
    # float32 has too few digits for fractions of a giant micrograph.
    real = np.float64 if giant else np.float32
    data: dict[str, object] = {
        "uid": splitmix(number),
        "location/micrograph_uid": splitmix(micrograph) | np.uint64(1),
        "location/micrograph_path": text(micrograph, path),
        "location/micrograph_shape": vector(np.tile(np.array([ny, nx], np.uint32), n), 2),
        "location/center_x_frac": (x / PSIZE / nx).astype(real),
        "location/center_y_frac": (y / PSIZE / ny).astype(real),
        "location/micrograph_psize_A": same(PSIZE, "f4"),
        "location/exp_group_id": same(1, "u4"),
        "pick_stats/ncc_score": score,
        "pick_stats/power": floats() * 1000,
        "pick_stats/template_idx": rng.integers(0, 50, n).astype(np.uint32),
        "pick_stats/angle_rad": floats(),
        "blob/path": text(micrograph, "J8/extract/{0:021d}_particles.mrc"),
        "blob/idx": (number % np.uint64(PICKS)).astype(np.uint32),
        "blob/shape": vector(same(256, "u4").repeat(2), 2),
        "blob/psize_A": same(PSIZE, "f4"),
        "blob/sign": same(-1, "f4"),
        "ctf/type": text(micrograph * 0, "spline"),
        "ctf/exp_group_id": same(1, "u4"),
        "ctf/accel_kv": same(300, "f4"),
        "ctf/cs_mm": same(2.7, "f4"),
        "ctf/amp_contrast": same(0.1, "f4"),
        "ctf/df1_A": floats() * 20_000,
        "ctf/df2_A": floats() * 20_000,
        "ctf/df_angle_rad": floats(),
        "ctf/phase_shift_rad": same(0, "f4"),
        "ctf/scale": same(1, "f4"),
        "alignments2D/shift": vector(rng.normal(0, 1e-3, 2 * n).astype(np.float32), 2),
        "alignments2D/pose": floats(),
        "alignments2D/psize_A": same(PSIZE, "f4"),
        "alignments2D/error": floats(),
        "alignments2D/class": rng.integers(0, 50, n).astype(np.uint32),
        "alignments2D/class_posterior": floats(),
        "alignments3D/shift": vector(np.zeros(2 * n, np.float32), 2),
        "alignments3D/pose": vector(rng.random(3 * n, dtype=np.float32), 3),
        "alignments3D/psize_A": same(PSIZE, "f4"),
        "alignments3D/error": floats(),
        "alignments3D/split": rng.integers(0, 2, n).astype(np.uint32),
        "alignments3D/alpha": floats(),
        "alignments3D/cross_cor": floats(),
        "alignments3D/class": same(0, "u4"),
    }
    needed = ("pick_stats/ncc_score", "alignments3D/shift", "alignments3D/psize_A")
    while len(data) > columns:
        data.pop(next(name for name in reversed(data) if name not in needed))
    for extra in range(len(data), columns):
        data[f"further/column_{extra}"] = floats()
    return pa.table(data)


def generate(
    case: str, rows: int, output: Path, columns: int = 41, file_rows: int = FILE_ROWS
) -> list[Path]:
    """Write the tables of a case (one, or two for ``two-pickers``); return their folders."""
    shutil.rmtree(output, ignore_errors=True)
    halves = 2 if case == "two-pickers" else 1
    folders = []
    for half in range(halves):
        folder = output / f"picker{half + 1}" if halves > 1 else output
        folder.mkdir(parents=True)
        folders.append(folder)
        for part, start in enumerate(range(0, rows // halves, file_rows)):
            stop = min(rows // halves, start + file_rows)
            with pq.ParquetWriter(
                folder / f"part-{part:06d}.parquet", schema_of(case, rows, columns)
            ) as file:
                for first in range(start, stop, GROUP_ROWS):
                    last = min(stop, first + GROUP_ROWS)
                    # The second picker has the particles with odd numbers.
                    number = order(case, rows, first, last) * np.uint64(halves) + np.uint64(half)
                    file.write_table(table(case, number, rows, columns))
    return folders


def schema_of(case: str, rows: int, columns: int) -> pa.Schema:
    """Return the schema of a case."""
    return table(case, np.arange(2, dtype=np.uint64), rows, columns).schema


def generate_files(files: int, rows: int, output: Path, case: str = "clustered") -> None:
    """Write a table as many small files with `rows` rows each, unless the folder exists."""
    if output.exists():
        return
    output.mkdir()
    total = files * rows
    whole = table(case, order(case, total, 0, total), total)
    for number in range(files):
        some = whole.slice(number * rows, rows)
        pq.write_table(some, output / f"part-{number:06d}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=5_000_000)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=41)
    parser.add_argument("--file-rows", type=int, default=FILE_ROWS)
    arguments = parser.parse_args()
    for folder in generate(
        arguments.case, arguments.rows, arguments.output, arguments.columns, arguments.file_rows
    ):
        print(folder)


if __name__ == "__main__":
    main()
