"""Measure runs and inspections of many pick files: several pickers, one file per micrograph.

python -m benchmarks.pick_files --pickers 4 --files 1000 --picks 160 --scratch FOLDER
python -m benchmarks.pick_files --pickers 2 --files 20000 --picks 40 --scratch FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np

from benchmarks.measure import measure

_EXTENSIONS = {"cbox": ".cbox", "star": "_autopick.star", "topaz": ".txt", "box": ".box"}
_STAR = """
data_

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAutopickFigureOfMerit #3
_rlnClassNumber #4
_rlnAnglePsi #5
"""
_CBOX = "data_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n" + "".join(
    f"_{name} #{number}\n"
    for number, name in enumerate(
        ("CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height", "Depth", "Confidence"), 1
    )
)


def main() -> None:
    """Write the files, then print wall time, CPU time and memory of each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pickers", type=int, default=4)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--picks", type=int, default=160)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--commands", default="run,inspect,verify")
    options = parser.parse_args()
    kinds = [*_EXTENSIONS] * options.pickers
    folders = [
        write_picker(options.scratch / f"{kind}{n}", kind, options.files, options.picks, seed=n)
        for n, kind in enumerate(kinds[: options.pickers])
    ]
    result = options.scratch / "result"
    shutil.rmtree(result, ignore_errors=True)
    program = [sys.executable, "-m", "dask_dedup"]
    inputs = [*map(str, folders), "--min-separation", "80", "--micrograph-pixel-size", "1"]
    for name, command in (
        ("run", ["run", *inputs, "--output", str(result), "--prefer-input-order", "--no-report"]),
        ("inspect", ["inspect", *inputs]),
        ("verify", ["verify", str(result)]),
    ):
        if name not in options.commands.split(","):
            continue
        cost = measure([*program, *command])
        print(f"{name:<8} {cost.wall:6.1f} s, CPU {cost.cpu:6.1f} s, {cost.rss / 1e6:6.0f} MB")


def write_picker(folder: Path, kind: str, files: int, picks: int, *, seed: int) -> Path:
    """Write the picks of one picker, one file per micrograph of 4,096 px. Return the folder."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    for number in range(files):
        rng = np.random.default_rng([seed, number])
        x, y = rng.uniform(100, 3996, (2, picks)).round(2)
        score = rng.uniform(0.3, 1, picks).round(6)
        rows = zip(x.tolist(), y.tolist(), score.tolist(), strict=True)
        if kind == "cbox":
            lines = [f"{a - 90:.2f} {b - 90:.2f} <NA> 180 180 <NA> {s}" for a, b, s in rows]
            text = _CBOX + "\n".join(lines) + "\n\n"
        elif kind == "star":
            lines = [f"{a:12.6f} {b:12.6f} {s:12.6f} 1 0.000000 " for a, b, s in rows]
            text = _STAR + "\n".join(lines) + "\n"
        elif kind == "topaz":
            name = f"mic_{number:05d}"
            lines = [f"{name}\t{a:.0f}\t{b:.0f}\t{s}" for a, b, s in rows]
            text = "image_name\tx_coord\ty_coord\tscore\n" + "\n".join(lines) + "\n"
        else:
            text = "".join(f"{a - 90:.0f}\t{b - 90:.0f}\t180\t180\t{s}\n" for a, b, s in rows)
        (folder / f"mic_{number:05d}{_EXTENSIONS[kind]}").write_text(text)
    return folder


if __name__ == "__main__":
    main()
