"""Simulate the picks of several particle pickers on the same micrographs.

The random numbers for a micrograph depend on the seed, the number of the micrograph and the position of the picker
in the list. The size of the parts and additional pickers do not change them.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dask_dedup.dedup.rank import splitmix64
from dask_dedup.errors import InputError, OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Uints = NDArray[np.uint64]

#: Approximate rows per part, and number of consecutive parts whose rows are shuffled together.
PART_ROWS, WINDOW_PARTS = 200_000, 4
#: Rows and columns of a K3 camera.
SHAPE = (4092, 5760)
#: All in angstrom. RESIDUAL is the error of an alignment (sigma per axis).
PSIZE_MIC, PSIZE_ALIGN, DIAMETER, RESIDUAL = 0.83, 1.66, 120.0, 1.0
# A margin of half a diameter stays empty.
_HEIGHT, _WIDTH = (pixels * PSIZE_MIC - DIAMETER for pixels in SHAPE)
_BANDS, _PER_BAND = int(_HEIGHT // DIAMETER) + 1, int(_WIDTH // DIAMETER) + 1
# First number of a `spawn_key`: the purpose of the random numbers.
_TRUTH, _PICKS, _ORDER, _UIDS = range(4)
# Only these columns repeat values. For others, dictionary encoding would cost time and space.
_REPEATED = ["location/micrograph_uid", "location/micrograph_path"]
_NO_FOLDERS = ("", "..", "micrographs.parquet")


class _Picker(NamedTuple):
    detection: float = 0.8
    jitter: float = 4.5
    false_per_true: float = 0.15
    worst: float = 0
    best: float = 1


_KNOWN = {"blob": _Picker(0.75, 6, 0.2, 0, 5), "template": _Picker(0.85, 3, 0.1, 0.1, 0.9)}


#: Width of the boxes of `simulate_project`, in pixels.
BOX = 180
# The threshold of crYOLO leaves out boxes with a confidence below 0.5.
_CRYOLO, _TOPAZ, _RELION = _Picker(0.85, 4, 0.15, 0.2, 1), _Picker(0.9, 3, 0.2, -3, 5), _Picker()
_CBOX_COLUMNS = (
    *(f"Coordinate{axis}" for axis in "XYZ"),
    *("Width", "Height", "Depth", "Confidence"),
)
_PICK_COLUMNS = (
    *("CoordinateX", "CoordinateY", "AutopickFigureOfMerit", "ClassNumber", "AnglePsi"),
)
_OPTICS_COLUMNS = (
    *("OpticsGroupName", "OpticsGroup", "MicrographPixelSize"),
    *("Voltage", "SphericalAberration", "AmplitudeContrast"),
)
_OPTICS = f"opticsGroup1 1 {PSIZE_MIC} 300.0 2.7 0.1"


def simulate_pickers(
    folder: str | Path,
    *,
    particles: int = 20_000,
    micrographs: int = 60,
    pickers: Sequence[str] = ("blob", "template"),
    seed: int = 0,
    clustered: bool = True,
) -> list[Path]:
    """Simulate several particle pickers. Write the picks of each to Parquet files with CryoSPARC columns.

    Writes ``FOLDER/PICKER/part-00000.parquet``, ... of about 200,000 rows each, and the micrograph
    table ``FOLDER/micrographs.parquet``. True particles are at least 120 angstrom apart. A picker
    finds some of them, moves each by a small random distance and adds false picks. Each picker has
    a different scale of scores. With the alignment shift, the centre has an error of 1 angstrom.

    Parameters
    ----------
    folder : str or Path
    particles, micrographs : int
        Number of true particles and of micrographs. All micrographs have about the same number of particles.
    pickers : sequence of str
        Names of the pickers. ``blob`` finds 75 % of the particles with a jitter of 6 angstrom, and adds 20 % false
        picks. ``template`` finds 85 % with a jitter of 3 angstrom, and adds 10 %. Pickers with other names are
        between these two.
    seed : int
        The same seed gives byte-identical files on the same library versions.
    clustered : bool
        Whether the rows of a micrograph are consecutive and in a single part. If False, the rows of four parts at a
        time are shuffled.

    Returns
    -------
    list of Path
        The folder of each picker.

    Raises
    ------
    InputError
        If an argument is out of range, or the particles do not fit on the micrographs.
    OutputExistsError
        If a file or folder to write already exists.
    """
    _check(particles, micrographs, pickers, seed)
    exposures = Path(folder) / "micrographs.parquet"
    folders = [Path(folder) / name for name in pickers]
    for path in (exposures, *folders):
        if path.exists():
            raise OutputExistsError(f"{path} exists; remove it or simulate into another folder")
    in_part = max(PART_ROWS * micrographs // max(particles, micrographs), 1)
    step = in_part if clustered else in_part * WINDOW_PARTS
    for slot, picker_folder in enumerate(folders, start=1):
        picker_folder.mkdir(parents=True)
        picker = _KNOWN.get(picker_folder.name, _Picker())
        for first in range(0, micrographs, step):
            window = range(first, min(first + step, micrographs))
            # The ends are rounded instead of the counts, so that the counts add up to the total.
            ends = [i * particles // micrographs for i in (*window, window.stop)]
            spans = zip(window, pairwise(ends), strict=True)
            rows = np.concatenate([_pick(i, b - a, picker, slot, seed) for i, (a, b) in spans])
            if not clustered:
                rows = rows[_random(seed, _ORDER, slot, first).permutation(len(rows))]
            parts = np.array_split(rows, -(-len(window) // in_part))
            for number, part in enumerate(parts, first // in_part):
                _write(part, picker_folder / f"part-{number:05d}.parquet", slot, seed)
    pq.write_table(_exposures(np.arange(micrographs, dtype=np.uint64), seed), exposures)
    return folders


def _check(particles: int, micrographs: int, pickers: Sequence[str], seed: int) -> None:
    if particles < 1 or micrographs < 1 or seed < 0:
        raise InputError(f"{particles=}, {micrographs=}, {seed=}: must be at least 1, 1 and 0")
    names = {name for name in pickers if name == Path(name).name and name not in _NO_FOLDERS}
    if isinstance(pickers, str) or not 1 <= len(pickers) == len(names) <= 255:
        raise InputError(f"pickers is {pickers!r}; it must be 1 to 255 different folder names")
    least = -(-particles // (_BANDS * _PER_BAND))
    if micrographs < least:
        raise InputError(f"{particles} particles need {least} micrographs, not {micrographs}")


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _uids(seed: int, micrograph: Uints, slot: int, row: Uints) -> Uints:
    """Return an array of unique uids. Slot 0 is for uids of micrographs, slot N for particles of picker N."""
    number = (micrograph << np.uint64(32)) + (row << np.uint64(8)) + np.uint64(slot)
    return splitmix64(number ^ _random(seed, _UIDS).integers(2**64, dtype=np.uint64))


def _exposures(micrographs: Uints, seed: int) -> pa.Table:
    uids = _uids(seed, micrographs, 0, np.zeros_like(micrographs))
    path = "J1/imported/{:021}_FoilHole_{:04}_patch_aligned_doseweighted.mrc".format
    paths = map(path, uids.tolist(), micrographs.tolist())
    columns = {
        "uid": uids,
        "micrograph_blob/path": pa.array(paths, pa.string()),
        "micrograph_blob/shape": pa.array([SHAPE] * len(uids), pa.list_(pa.uint32(), 2)),
        "micrograph_blob/psize_A": np.full(len(uids), PSIZE_MIC, "f4"),
    }
    return pa.table(columns)


def _positions(count: int, rng: np.random.Generator) -> Floats:
    """Return (count, 2) random particle centres in angstrom, at least a particle diameter apart.

    The image is divided into bands one diameter apart. Within a band, particles are hard rods on a line, and
    sorted uniform random numbers give their gaps (Tonks 1936, doi:10.1103/PhysRev.50.955).
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
    """Simulate the picks of one picker on one micrograph. Return (n, 15) numbers for `_write`."""
    truth = _positions(count, _random(seed, _TRUTH, micrograph))
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
    numbers = [shift, centre + jitter, score, error, rng.random((n, 7))]
    return np.column_stack([np.full(n, micrograph), np.arange(n), *numbers])[rng.permutation(n)]


def _write(rows: Floats, path: Path, slot: int, seed: int) -> None:
    micrograph, row = rows[:, :2].T.astype(np.uint64)
    shift = (rows[:, 2:4] / PSIZE_ALIGN).astype("f4").ravel()
    x, y, score, error, *chance = rows[:, 4:].T
    numbers, where = np.unique(micrograph, return_inverse=True)
    exposures = _exposures(numbers, seed).take(where)
    columns = {
        "uid": _uids(seed, micrograph, slot, row),
        "location/micrograph_uid": exposures["uid"],
        # One group per hole of a 3 x 3 beam-shift pattern.
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
        "alignments2D/shift": pa.FixedSizeListArray.from_arrays(shift, 2),
        "alignments2D/psize_A": np.full(len(rows), PSIZE_ALIGN, "f4"),
        "alignments2D/pose": (2 * np.pi * chance[3]).astype("f4"),
        "alignments2D/error": error.astype("f4"),
        "alignments2D/error_min": (error - 50 * chance[4]).astype("f4"),
        "alignments2D/class": (50 * chance[5]).astype("u4"),
        "alignments2D/split": (2 * chance[6]).astype("u4"),
    }
    pq.write_table(pa.table(columns), path, use_dictionary=_REPEATED, compression="zstd")


def simulate_project(
    folder: str | Path, *, particles: int = 3_000, micrographs: int = 12, seed: int = 0
) -> None:
    """Simulate the pick files of three pickers in a RELION project.

    Writes ``CBOX/*.cbox`` (crYOLO, all boxes), ``topaz/topaz_picks.txt``, the RELION job
    ``AutoPick/job010`` with its list, and the micrograph table ``CtfFind/job003/micrographs_ctf.star``.
    The pickers find the same particles, as in `simulate_pickers`.

    Parameters
    ----------
    folder : str or Path
        New folder.
    particles, micrographs, seed : int
        As in `simulate_pickers`.

    Raises
    ------
    InputError
        If an argument is out of range, or the particles do not fit on the micrographs.
    OutputExistsError
        If the folder exists.
    """
    _check(particles, micrographs, ("crYOLO", "topaz", "RELION"), seed)
    project = Path(folder)
    if project.exists():
        raise OutputExistsError(f"{project} exists; remove it or simulate into another folder")
    autopick = "AutoPick/job010/Micrographs"
    for name in ("CBOX", "topaz", autopick, "CtfFind/job003"):
        (project / name).mkdir(parents=True)
    topaz = ["image_name\tx_coord\ty_coord\tscore\n"]
    listed, known = [], []
    ends = [number * particles // micrographs for number in range(micrographs + 1)]
    for number, (start, stop) in enumerate(pairwise(ends)):
        name = f"mic_{number:04d}"
        path = f"MotionCorr/job002/Micrographs/{name}.mrc"
        boxes, found, picked = (
            _in_pixels(_pick(number, stop - start, picker, slot, seed))
            for slot, picker in enumerate((_CRYOLO, _TOPAZ, _RELION), start=1)
        )
        half = BOX / 2
        lines = [
            f"{x - half:.3f} {y - half:.3f} <NA> {BOX} {BOX} <NA> {s:.6f}" for x, y, s in boxes
        ]
        (project / "CBOX" / f"{name}.cbox").write_text(
            "data_global\n\n_cbox_format_version 1.0\n\n"
            + _star("cryolo", [f"_{column}" for column in _CBOX_COLUMNS], lines)
        )
        topaz += [f"{name}\t{x:.0f}\t{y:.0f}\t{s:.4f}\n" for x, y, s in found]
        lines = [f"{x:.3f} {y:.3f} {s:.6f} 1 0.0" for x, y, s in picked]
        (project / autopick / f"{name}_autopick.star").write_text(
            _star("", [f"_rln{column}" for column in _PICK_COLUMNS], lines)
        )
        listed.append(f"{path} {autopick}/{name}_autopick.star")
        known.append(f"{path} 1")
    (project / "topaz/topaz_picks.txt").write_text("".join(topaz))
    labels = ["_rlnMicrographName", "_rlnMicrographCoordinates"]
    (project / "AutoPick/job010/autopick.star").write_text(
        _star("coordinate_files", labels, listed)
    )
    (project / "CtfFind/job003/micrographs_ctf.star").write_text(
        _star("optics", [f"_rln{column}" for column in _OPTICS_COLUMNS], [_OPTICS])
        + _star("micrographs", ["_rlnMicrographName", "_rlnOpticsGroup"], known)
    )


def _in_pixels(picks: Floats) -> list[list[float]]:
    """Return x and y in pixels and the score of each pick. `picks` are the rows from `_pick`."""
    rows: list[list[float]] = np.column_stack([picks[:, 4:6] / PSIZE_MIC, picks[:, 6]]).tolist()
    return rows


def _star(block: str, labels: Sequence[str], rows: Sequence[str]) -> str:
    names = [f"{label} #{number}" for number, label in enumerate(labels, start=1)]
    return "\n".join([f"\ndata_{block}\n", "loop_", *names, *rows, "", ""])
