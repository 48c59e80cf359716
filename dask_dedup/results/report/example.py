"""Example micrographs for the report: picks, winners and image."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.errors import InputError
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.micrographs.row_keys import RowMicrographs
from dask_dedup.particles.micrographs.stripping import bare_name
from dask_dedup.results.report.summary import sample_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from dask_dedup.results.finished_run import FinishedRun, Part
    from dask_dedup.results.report.summary import Sample, Summary

    Floats = NDArray[np.float64]

NO_WINNER = -1
#: Maximum number of pixels along the longer side.
MAX_PIXELS = 1_500
#: Percentiles of the binned image that are drawn black and white.
CONTRAST = (2.0, 98.0)

_STACK_NUMBER = re.compile(r"^\d+@")


@dataclass(frozen=True, slots=True)
class MicrographImage:
    """The binned image of a micrograph.

    Attributes
    ----------
    pixels : (h, w) float32
        The first row is at y = 0.
    shape : tuple of int
        (ny, nx) before binning.
    low, high : float
        Grey values that are drawn black and white.
    """

    pixels: NDArray[np.float32]
    shape: tuple[int, int]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Example:
    """Data for drawing one micrograph.

    Attributes
    ----------
    name : str
    why : str
        Why it is shown, such as "most rejected".
    kept, rejected : (n, 2) float64
        Centres, x and y, in `unit`.
    winner : (r,) intp
        For each rejected particle, the index of its winner in `kept`, or `NO_WINNER`.
    unit : {"A", "pixel", "fraction"}
        Unit of the centres; angstrom if the run measured distances.
    psize : float or None
        Angstrom per pixel.
    field : tuple of float
        Width and height in `unit`.
    field_known : bool
        True if `field` is the micrograph, False if it is the extent of the picks.
    image : MicrographImage or None
    image_note : str
        Path of the image, or why there is none.
    is_projection : bool
        Whether the particles are in a tomogram.
    """

    name: str
    why: str
    kept: Floats
    rejected: Floats
    winner: NDArray[np.intp]
    unit: str
    psize: float | None
    field: tuple[float, float]
    field_known: bool
    image: MicrographImage | None
    image_note: str
    is_projection: bool


def choose_examples(
    run: FinishedRun, summary: Summary, named: Sequence[str]
) -> list[tuple[int, str]]:
    """Choose micrographs to show in the report. Return the key of each micrograph, and the reason."""
    if not summary.micrographs.size:
        if named:
            raise InputError(
                f"{run.output}: the result has no micrographs, so {named[0]!r} cannot be shown."
            )
        return []
    by_rejected = np.lexsort((summary.micrographs, -summary.kept, -summary.rejected))
    some = by_rejected[summary.rejected[by_rejected] > 0]
    chosen: dict[int, str] = {}
    if some.size:
        chosen[int(summary.micrographs[some[0]])] = "most rejected"
        middle = int(summary.micrographs[some[some.size // 2]])
        chosen.setdefault(middle, "median number of rejected")
    else:
        by_count = np.lexsort((summary.micrographs, -summary.kept))
        chosen[int(summary.micrographs[by_count[0]])] = "most particles"
    for name in named:
        chosen.setdefault(_find(run, summary, name), "requested")
    return list(chosen.items())


def _find(run: FinishedRun, summary: Summary, name: str) -> int:
    keys: list[int] = summary.micrographs.tolist()
    names = {summary.name_of(key): key for key in keys}
    names |= {str(key): key for key in keys}
    bare: dict[str, list[int]] = {}
    for key in keys:
        stored = summary.names[key].name if key in summary.names else ""
        bare.setdefault(bare_name(stored), []).append(key)
    alike = bare.get(bare_name(name), [])
    if name in names:
        return names[name]
    if len(alike) == 1:
        return alike[0]
    near = [summary.name_of(key) for key in alike[:3]]
    near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.3) or list(names)[:3]
    raise InputError(f"{run.output}: no micrograph {name!r}. Similar names: {', '.join(near)}.")


def make_example(run: FinishedRun, summary: Summary, key: int, why: str) -> Example:
    """Read the picks, winners and image of the micrograph `key`."""
    sample = sample_of(run, summary, key)
    name = summary.name_of(key)
    part, psize, shape = _field(run, summary, key)
    unit = "A" if run.params.measures else run.roles[part.source].unit
    if unit == "angstrom":
        unit = "A"
    image, note = _image(run, summary.names[key].name if key in summary.names else "")
    if image is not None and shape is not None and image.shape != shape:
        note = (
            f"the image has {image.shape[1]} x {image.shape[0]} pixels, but the micrograph "
            f"{shape[1]} x {shape[0]}"
        )
        image = None
    if image is not None:
        shape = image.shape
    kept, rejected = (
        np.column_stack([picks.x, picks.y]) for picks in (sample.kept, sample.rejected)
    )
    scale = {"A": psize, "pixel": 1.0, "fraction": None}[unit]
    known, corner = True, np.zeros(2)
    if unit == "fraction":
        field = (1.0, 1.0)
    elif shape is not None and scale is not None:
        field = (shape[1] * scale, shape[0] * scale)
    else:
        image, note = None, note if image is None else "the pixel size is not known"
        points = np.concatenate([kept, rejected])
        # Centred coordinates begin in the middle of the tomogram.
        known, corner = False, np.minimum(points.min(axis=0), 0.0)
        width, height = np.maximum(points.max(axis=0) - corner, 1.0).tolist()
        field = (width, height)
    return Example(
        name=name,
        why=why,
        kept=kept - corner,
        rejected=rejected - corner,
        winner=find_winners(sample),
        unit=unit,
        psize=psize,
        field=field,
        field_known=known,
        image=image,
        image_note=note,
        is_projection=bool(sample.kept.z.any() or sample.rejected.z.any()),
    )


def _field(
    run: FinishedRun, summary: Summary, key: int
) -> tuple[Part, float | None, tuple[int, int] | None]:
    """Find a `Part` with the micrograph. Also return the micrograph's pixel size and shape (ny, nx), if known."""
    for part in summary.parts_of(key):
        roles = run.roles[part.source]
        for path in (part.kept, part.rejected):
            for found, rows in run.read_picks(part, path, (roles.shape or "",)):
                here = (found.picks.micrograph == key) & run.compared(found)
                at = np.flatnonzero(here)[:1]
                if not at.size:
                    continue
                psize = found.psize if found.psize is not None else found.sizes.stored
                size = roles.given_psize
                if psize is not None and psize[at[0]] > 0:
                    size = float(psize[at[0]])
                return part, size, _shape(run, part, rows.slice(at[0], 1))
    raise InputError(f"{run.output}: the particles of micrograph {key} are missing.")


def _shape(run: FinishedRun, part: Part, row: pa.Table) -> tuple[int, int] | None:
    table, roles = run.micrographs, run.roles[part.source]
    shape = np.array([np.nan, np.nan])
    if table is not None and table.shape is not None:
        at = table.find(RowMicrographs.of(Columns(row, "the result"), roles))[0]
        shape = table.shape[at] if at >= 0 else shape
    elif roles.shape:
        shape = Columns(row, "the result").vectors(roles.shape, 2)[0]
    if not (np.isfinite(shape) & (shape > 0)).all():
        return None
    return int(shape[0]), int(shape[1])


def _image(run: FinishedRun, name: str) -> tuple[MicrographImage | None, str]:
    start = Path(run.manifest["directory"])
    tables = [start / entry["path"] for entry in run.manifest["inputs"]]
    path = find_image(name, [start, *(table.parent for table in tables)])
    if path is None:
        return None, "no image was found"
    try:
        return read_image(path), f"image: {path}"
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        return None, f"the image {path} cannot be read: {reason}"


def find_image(name: str, folders: Sequence[Path]) -> Path | None:
    """Find the MRC file of a micrograph by its stored name. Search `folders` and their parents.

    CryoSPARC may put ``>`` before the name, and RELION an image number and ``@``.
    """
    stored = Path(_STACK_NUMBER.sub("", name.lstrip(">")))
    if stored.suffix.lower() != ".mrc":
        return None
    above = dict.fromkeys(path for folder in folders for path in (folder, *folder.parents))
    candidates = [*(path / stored for path in above), *(path / stored.name for path in folders)]
    if stored.is_absolute():
        candidates.insert(0, stored)
    # os.path.isfile is False for impossible names, too.
    return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113


def read_image(path: Path) -> MicrographImage:
    """Read an MRC image, binned to at most `MAX_PIXELS` per side. The file is memory-mapped."""
    import mrcfile

    with warnings.catch_warnings():
        # Faults of the header do not matter for a background.
        warnings.simplefilter("ignore")
        with mrcfile.mmap(path, mode="r", permissive=True) as file:
            data = file.data
            if data is None:
                raise ValueError("it contains no image")
            data = data[0] if data.ndim == 3 and len(data) == 1 else data
            if data.ndim != 2 or not data.size or np.iscomplexobj(data):
                raise ValueError(f"it is not a single image (its shape is {data.shape})")
            shape = (int(data.shape[0]), int(data.shape[1]))
            pixels = _binned(data, -(-max(shape) // MAX_PIXELS))
    usable = pixels[np.isfinite(pixels)]
    if not usable.size:
        raise ValueError("it contains no finite value")
    low, high = np.percentile(usable, CONTRAST).tolist()
    return MicrographImage(pixels, shape, low, high if high > low else low + 1.0)


def _binned(data: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Average each square of `factor` x `factor` pixels. Drop incomplete squares at the edges."""
    height, width = data.shape[0] // factor, data.shape[1] // factor
    rows = np.empty((height, width), dtype=np.float32)
    for row in range(height):
        strip = np.asarray(data[row * factor : (row + 1) * factor, : width * factor], np.float32)
        rows[row] = strip.reshape(factor, width, factor).mean(axis=(0, 2))
    return rows


def find_winners(sample: Sample) -> NDArray[np.intp]:
    """Return, for each rejected pick, the index of its winner in `sample.kept`, or `NO_WINNER`, (r,) intp.

    Without uids, the winner is the pick of the recorded score whose distance is closest to the recorded one.
    """
    kept, recorded = sample.kept, Columns(sample.winners, "duplicates")
    distance, score = recorded.floats("distance_A"), recorded.floats("winner_score")
    has_uid = ~recorded.nulls("winner_uid")
    has_winner = ~recorded.nulls("winner_file")
    winner = np.full(len(sample.rejected), NO_WINNER, dtype=np.intp)
    if not len(kept):
        return winner
    order = np.argsort(kept.uid, kind="stable")
    uid = recorded.integers("winner_uid")
    at = np.searchsorted(kept.uid[order], uid).clip(max=len(kept) - 1)
    same = has_uid & (kept.uid[order][at] == uid)
    winner[same] = order[at][same]
    for row in np.flatnonzero(has_winner & ~same).tolist():
        squares = [
            (getattr(kept, axis) - getattr(sample.rejected, axis)[row]) ** 2 for axis in "xyz"
        ]
        off = np.abs(np.sqrt(np.sum(squares, axis=0)) - distance[row])
        other_score = (kept.score != score[row]) & ~np.isnan(score[row])
        winner[row] = int(np.lexsort((off, other_score))[0])
    return winner
