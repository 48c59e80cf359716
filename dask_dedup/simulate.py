"""Simulated picks of several pickers on the same particles: seeded, streaming, of any size.

A micrograph's random numbers come from the seed and its own number, so that neither the size of a
part nor a further picker changes what the pickers see.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.errors import InputError, OutputExistsError
from dask_dedup.rank import splitmix64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Uints = NDArray[np.uint64]

#: About so many rows a part.
PART_ROWS = 200_000
#: Parts that rows in random order are dealt to at a time.
WINDOW_PARTS = 4

#: A K3 camera (rows, columns); pixel sizes and lengths in angstrom.
SHAPE = (4092, 5760)
PSIZE_MIC = 0.83
PSIZE_ALIGN = 2 * PSIZE_MIC
DIAMETER = 120.0
#: How far from the true centre an alignment ends, sigma of each axis.
RESIDUAL = 1.0

# Half a diameter from each edge stays empty, which no jitter crosses.
_HEIGHT, _WIDTH = (pixels * PSIZE_MIC - DIAMETER for pixels in SHAPE)
_BANDS, _PER_BAND = int(_HEIGHT // DIAMETER) + 1, int(_WIDTH // DIAMETER) + 1

# First word of a spawn key: what the random numbers are for.
_TRUTH, _PICKS, _ORDER, _UIDS = range(4)

# Dictionaries of random numbers would only cost time and room.
_REPEATED = ["location/micrograph_uid", "location/micrograph_path"]


class _Picker(NamedTuple):
    detection: float
    jitter: float
    false_per_true: float
    worst: float
    best: float


_KNOWN = {"blob": _Picker(0.75, 6, 0.2, 0, 5), "template": _Picker(0.85, 3, 0.1, 0.1, 0.9)}
_OTHER = _Picker(0.8, 4.5, 0.15, 0, 1)


def simulate_pickers(
    folder: str | Path,
    *,
    particles: int = 20_000,
    micrographs: int = 60,
    pickers: Sequence[str] = ("blob", "template"),
    seed: int = 0,
    clustered: bool = True,
) -> list[Path]:
    """Write the picks of several pickers on the same particles, with CryoSPARC's columns.

    Writes ``FOLDER/PICKER/part-00000.parquet``, ... of about 200,000 rows each, and the exposures,
    ``FOLDER/micrographs.parquet``. True particles are 120 angstrom or more apart. A picker finds
    some, misplaces each a little, adds false picks and scores on a scale of its own; the alignment
    shift leads back to the true centre but for a residual of 1 angstrom.

    Parameters
    ----------
    folder : str or Path
    particles : int
        True particles in all, spread evenly over the micrographs.
    micrographs : int
    pickers : sequence of str
        ``blob`` finds 75 % with 6 angstrom jitter and adds 20 % false picks, ``template`` 85 % with
        3 angstrom and 10 %; any other name lies in between.
    seed : int
        The same seed gives byte-identical files on the same library versions.
    clustered : bool
        Whether a micrograph's rows follow each other, in one part. If not, the rows of every four
        parts together are shuffled, so that a micrograph lies all over four parts.

    Returns
    -------
    list of Path
        The pickers' folders.

    Raises
    ------
    InputError
        If an argument is out of its range, or the particles do not fit on the micrographs.
    OutputExistsError
        If `folder` already holds what would be written.
    """
    _check(particles, micrographs, pickers, seed)
    exposures = Path(folder) / "micrographs.parquet"
    folders = [Path(folder) / name for name in pickers]
    for place in (exposures, *folders):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise OutputExistsError(f"{place} exists; remove it or simulate into another folder")
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
    in_part = max(PART_ROWS * micrographs // max(particles, micrographs), 1)
    parts = 1 if clustered else WINDOW_PARTS
    starts = range(0, micrographs, in_part * parts)
    windows = [range(i, min(i + starts.step, micrographs)) for i in starts]
    with pq.ParquetWriter(exposures, _exposures(np.empty(0, np.uint64), seed).schema) as writer:
        for window in windows:
            writer.write_table(_exposures(np.array(window, np.uint64), seed))
    for slot, place in enumerate(folders, start=1):
        picker, number = _KNOWN.get(place.name, _OTHER), 0
        for window in windows:
            # Ends rather than counts are rounded, so that the counts add up.
            ends = [i * particles // micrographs for i in (*window, window.stop)]
            spans = zip(window, pairwise(ends), strict=True)
            rows = np.concatenate([_pick(i, b - a, picker, slot, seed) for i, (a, b) in spans])
            if not clustered:
                rows = rows[_random(seed, _ORDER, slot, window.start).permutation(len(rows))]
            for part in np.array_split(rows, -(-len(window) // in_part)):
                _write(part, place / f"part-{number:05d}.parquet", slot, seed)
                number += 1
    return folders


def _check(particles: int, micrographs: int, pickers: Sequence[str], seed: int) -> None:
    if particles < 1 or not 1 <= micrographs < 2**32 or seed < 0:
        raise InputError(
            f"{particles} particles, {micrographs} micrographs, seed {seed}: "
            "there must be 1 or more particles and micrographs, and the seed must be 0 or more"
        )
    names = {name for name in pickers if name == Path(name).name and name != "micrographs.parquet"}
    if isinstance(pickers, str) or not 1 <= len(pickers) == len(names - {"", ".."}) <= 255:
        raise InputError(f"pickers is {pickers!r}; it must be 1 to 255 different folder names")
    most = _BANDS * _PER_BAND
    if particles > micrographs * most:
        raise InputError(
            f"{particles} particles do not fit on {micrographs} micrographs {DIAMETER:g} angstrom "
            f"apart, {most} on each; use {-(-particles // most)} micrographs or more"
        )


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _uids(seed: int, micrograph: Uints, slot: int, row: Uints) -> Uints:
    """Hash (micrograph, slot, row) one to one: unique without remembering any."""
    place = (micrograph << np.uint64(32)) + (row << np.uint64(8)) + np.uint64(slot)
    return splitmix64(place ^ _random(seed, _UIDS).integers(2**64, dtype=np.uint64))


def _exposures(micrographs: Uints, seed: int) -> pa.Table:
    # Slot 0: the pickers' begin at 1.
    uids = _uids(seed, micrographs, 0, np.zeros_like(micrographs))
    path = "J1/imported/{:021d}_FoilHole_{:04d}_patch_aligned_doseweighted.mrc".format
    columns = {
        "uid": uids,
        "micrograph_blob/path": pa.array(
            map(path, uids.tolist(), (micrographs + np.uint64(1)).tolist()), pa.string()
        ),
        "micrograph_blob/shape": _vectors(np.full((len(uids), 2), SHAPE, np.uint32)),
        "micrograph_blob/psize_A": np.full(len(uids), PSIZE_MIC, np.float32),
    }
    return pa.table(columns)


def _place(count: int, rng: np.random.Generator) -> Floats:
    """Give `count` centres at least a diameter apart, (count, 2) float64, angstrom.

    Bands lie a diameter apart; the particles of a band are hard rods on a line, whose gaps are
    those of sorted uniform numbers (Tonks 1936, doi:10.1103/PhysRev.50.955).
    """
    fewest, square = -(-count // _PER_BAND), round((count * _HEIGHT / _WIDTH) ** 0.5)
    bands = min(max(fewest, square, 1), _BANDS)
    in_band = rng.multivariate_hypergeometric([_PER_BAND] * bands, count)
    band = np.repeat(np.arange(bands), in_band)
    ordinal = np.arange(count) - (np.cumsum(in_band) - in_band)[band]
    gaps = np.sort(band + rng.random(count)) - band
    x = gaps * (_WIDTH - (in_band[band] - 1) * DIAMETER) + ordinal * DIAMETER
    thickness = (_HEIGHT - (bands - 1) * DIAMETER) / bands
    y = rng.random(count) * thickness + band * (thickness + DIAMETER)
    return np.column_stack([x, y]) + DIAMETER / 2


def _pick(micrograph: int, count: int, picker: _Picker, slot: int, seed: int) -> Floats:
    """Pick the particles of one micrograph: (n, 15) float64, which `_write` makes columns of."""
    truth = _place(count, _random(seed, _TRUTH, micrograph))
    rng = _random(seed, _PICKS, slot, micrograph)
    found = truth[rng.random(count) < picker.detection]
    false = rng.random((rng.poisson(picker.false_per_true * picker.detection * count), 2))
    centre = np.concatenate([found, false * (_WIDTH, _HEIGHT) + DIAMETER / 2])
    n = len(centre)
    jitter = rng.normal(0, picker.jitter, (n, 2))
    shift = jitter + rng.normal(0, RESIDUAL, (n, 2))
    quality = np.where(np.arange(n) < len(found), rng.beta(6, 3, n), rng.beta(2, 5, n))
    score = picker.worst + (picker.best - picker.worst) * quality
    error = 25_000 + 1_500 * (0.5 - quality) + rng.normal(0, 150, n)
    place = [np.full(n, micrograph), np.arange(n)]
    numbers = [*place, centre + jitter, shift, score, error, rng.random((n, 7))]
    return np.column_stack(numbers)[rng.permutation(n)]


def _write(rows: Floats, path: Path, slot: int, seed: int) -> None:
    micrograph, row = rows[:, :2].T.astype(np.uint64)
    x, y, shift_x, shift_y, score, error, *chance = rows[:, 2:].T
    numbers, where = np.unique(micrograph, return_inverse=True)
    exposures = _exposures(numbers, seed).take(where)
    columns = {
        "uid": _uids(seed, micrograph, slot, row),
        "location/micrograph_uid": exposures["uid"],
        # A group for each hole of a 3 x 3 beam-shift pattern.
        "location/exp_group_id": (micrograph % np.uint64(9)).astype("u4"),
        "location/micrograph_path": exposures["micrograph_blob/path"],
        "location/micrograph_shape": exposures["micrograph_blob/shape"],
        "location/center_x_frac": (x / PSIZE_MIC / SHAPE[1]).astype("f4"),
        "location/center_y_frac": (y / PSIZE_MIC / SHAPE[0]).astype("f4"),
        "location/micrograph_psize_A": exposures["micrograph_blob/psize_A"],
        "pick_stats/ncc_score": score.astype("f4"),
        "pick_stats/power": (300 + 200 * chance[0]).astype("f4"),
        "pick_stats/template_idx": (20 * chance[1]).astype("u4"),
        "pick_stats/angle_rad": (2 * np.pi * chance[2]).astype("f4"),
        "alignments2D/shift": _vectors(
            (np.stack([shift_x, shift_y], 1) / PSIZE_ALIGN).astype("f4")
        ),
        "alignments2D/psize_A": np.full(len(rows), PSIZE_ALIGN, "f4"),
        "alignments2D/pose": (2 * np.pi * chance[3]).astype("f4"),
        "alignments2D/error": error.astype("f4"),
        "alignments2D/error_min": (error - 50 * chance[4]).astype("f4"),
        "alignments2D/class": (50 * chance[5]).astype("u4"),
        "alignments2D/split": (2 * chance[6]).astype("u4"),
    }
    table = pa.table(columns)
    pq.write_table(table, path, use_dictionary=_REPEATED, compression="zstd", compression_level=1)


def _vectors(values: NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(values.ravel(), 2)
