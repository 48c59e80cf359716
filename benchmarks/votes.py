"""Measure the extra cost of votes and of ranks by score (standings) on picks of three real pickers.

    python -m benchmarks.votes PICKS --rows 5_000_000 --repeats 3 --scratch /scratch

PICKS is a folder with a subfolder of EMAN box files for each picker. The picks of a picker become a Parquet table with
the columns of `benchmarks.generate`, and are repeated on further micrographs. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.generate import FILE_ROWS, splitmix, table
from benchmarks.measure import Measurement, measure

#: Side of the micrographs of EMPIAR-10017 in pixels, and their pixel size in angstrom.
SIDE, PSIZE = 4096, 1.77
CASES = {
    "without": [],
    "votes": ["--votes"],
    "standing": ["--score-scale", "standing"],
    "both": ["--votes", "--score-scale", "standing"],
}


def read_picks(folder: Path, micrographs: list[str]) -> np.ndarray:
    """Return the picks of a picker as rows of micrograph number, x and y (fractions), and score."""
    parts = []
    for number, name in enumerate(micrographs):
        x, y, width, height, score = np.loadtxt(folder / name, ndmin=2).T
        columns = (np.full(x.size, number), (x + width / 2) / SIDE, (y + height / 2) / SIDE, score)
        parts.append(np.column_stack(columns))
    return np.concatenate(parts)


def write_table(picks: np.ndarray, copies: int, micrographs: int, output: Path, salt: int) -> None:
    """Write the picks of a picker `copies` times, each time on new micrographs."""
    output.mkdir(parents=True)
    rows = len(picks) * copies
    for part, start in enumerate(range(0, rows, FILE_ROWS)):
        number = np.arange(start, min(rows, start + FILE_ROWS), dtype=np.uint64)
        copy, row = np.divmod(number.astype(np.int64), len(picks))
        micrograph, x, y, score = picks[row].T
        micrograph = (copy * micrographs + micrograph.astype(np.int64)).astype(np.uint64)
        made = table("clustered", number, rows)
        replaced = {
            "uid": splitmix(number * np.uint64(8) + np.uint64(salt)),
            "location/micrograph_uid": splitmix(micrograph),
            "location/center_x_frac": x.astype(np.float32),
            "location/center_y_frac": y.astype(np.float32),
            "location/micrograph_psize_A": np.full(x.size, PSIZE, np.float32),
            "location/micrograph_shape": pa.FixedSizeListArray.from_arrays(
                pa.array(np.full(2 * x.size, SIDE, np.uint32)), 2
            ),
            "pick_stats/ncc_score": score,
        }
        for name, values in replaced.items():
            made = made.set_column(
                made.schema.get_field_index(name),
                made.schema.field(name),
                pa.chunked_array([values]),
            )
        pq.write_table(made, output / f"part-{part:06d}.parquet", row_group_size=FILE_ROWS // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picks", type=Path)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--separation", type=float, default=95.0)
    parser.add_argument("--scratch", type=Path, required=True)
    arguments = parser.parse_args()
    pickers = sorted(folder for folder in arguments.picks.iterdir() if folder.is_dir())
    micrographs = sorted(file.name for file in pickers[0].glob("*.box"))
    found = [read_picks(folder, micrographs) for folder in pickers]
    copies = arguments.rows // sum(map(len, found))
    inputs = [arguments.scratch / "inputs" / folder.name for folder in pickers]
    if not all(folder.exists() for folder in inputs):
        shutil.rmtree(arguments.scratch / "inputs", ignore_errors=True)
        for salt, (picks, output) in enumerate(zip(found, inputs, strict=True)):
            write_table(picks, copies, len(micrographs), output, salt)
    program = [sys.executable, "-m", "dask_dedup", "run"]
    output = arguments.scratch / "output"
    options = ["-o", str(output), "-q", "--min-separation", str(arguments.separation)]
    taken: dict[str, list[Measurement]] = {name: [] for name in CASES}
    for number in range(arguments.repeats):
        for name in np.random.default_rng(number).permutation(list(CASES)).tolist():
            shutil.rmtree(output, ignore_errors=True)
            taken[name].append(measure([*program, *map(str, inputs), *options, *CASES[name]]))
            print(f"round {number + 1} {name}: {taken[name][-1]}", file=sys.stderr, flush=True)
    shutil.rmtree(output)
    print("| | wall (s) | CPU (s) | peak memory (MB) | wall / without | CPU / without |")
    print("|---|---|---|---|---|---|")
    for name, each in taken.items():
        rounds = list(zip(each, taken["without"], strict=True))
        wall = statistics.median(one.wall / base.wall for one, base in rounds)
        cpu = statistics.median(one.cpu / base.cpu for one, base in rounds)
        medians = [
            statistics.median(getattr(one, what) for one in each) for what in ("wall", "cpu")
        ]
        memory = statistics.median(one.rss for one in each) / 1e6
        print(
            f"| {name} | {medians[0]:.1f} | {medians[1]:.1f} | {memory:,.0f} | {wall:.2f} | {cpu:.2f} |"
        )


if __name__ == "__main__":
    main()
