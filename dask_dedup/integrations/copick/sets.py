"""Sets of picks: their names and groups, and their points read from and stored in a project."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from dask_dedup.errors import InputError, RunError
from dask_dedup.formatting import counted
from dask_dedup.hints import parameter
from dask_dedup.monitoring.log import LINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from copick.models import CopickPicks, CopickPoint
    from numpy.typing import NDArray

#: Number of names that a message lists.
_LISTED = 8
_POSITION = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")

Item = TypeVar("Item")

log = logging.getLogger("dask_dedup")


class SetName(NamedTuple):
    """Name of a set of picks. The sets of a run have different names."""

    object: str
    user: str
    session: str

    @classmethod
    def of(cls, picks: CopickPicks) -> SetName:
        """Return the name of a set."""
        return cls(picks.pickable_object_name, picks.user_id, picks.session_id)

    def __str__(self) -> str:
        return f"{self.object}:{self.user}/{self.session}"


@dataclass(frozen=True, slots=True)
class Group:
    """Sets that are compared with each other, and the names under which the result is stored."""

    inputs: list[SetName]
    kept: SetName
    rejected: SetName | None

    @property
    def outputs(self) -> list[SetName]:
        """The names under which the result is stored."""
        return [self.kept, self.rejected] if self.rejected else [self.kept]


@dataclass(slots=True)
class LoadedSet:
    """A set of picks of one run, with a mask of the rejected points.

    Attributes
    ----------
    name : SetName
    picks : CopickPicks
    points : list of CopickPoint
    rejected : (n,) bool
    """

    name: SetName
    picks: CopickPicks
    points: list[CopickPoint]
    rejected: NDArray[np.bool_]

    @property
    def run(self) -> str:
        """Name of the run."""
        return str(self.picks.run.name)

    @property
    def trusted(self) -> bool:
        """Whether the orientations of the points are trusted. True for a set without points."""
        return bool(self.picks.trust_orientation or not self.points)

    @property
    def filaments(self) -> set[int]:
        """Numbers of the filaments."""
        return {point.instance_id for point in self.points if point.instance_id}


def load(picks: CopickPicks) -> LoadedSet:
    """Load the points of a set."""
    name = SetName.of(picks)
    try:
        points = list(picks.points or ())
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{name} in run {picks.run.name}: cannot be read: {reason(error)}"
        ) from error
    if picks.meta.unit != "angstrom":
        raise InputError(
            f"{name} in run {picks.run.name}: the unit is {picks.meta.unit}, not angstrom."
        )
    return LoadedSet(name, picks, points, np.zeros(len(points), dtype=bool))


def as_table(points: Sequence[CopickPoint], run: str) -> pa.Table:
    """Return the points as a table with the names of RELION: tomogram, centre in angstrom, filament, and the score."""
    centre = np.array(
        [
            (at.x + t[0][3], at.y + t[1][3], at.z + t[2][3])
            for at, t in ((point.location, point.transformation_) for point in points)
        ],
        dtype=np.float64,
    ).reshape(-1, 3)
    score = [np.nan if point.score is None else point.score for point in points]
    rows = np.zeros(len(points), dtype=np.int32)
    return pa.table(
        {
            "rlnTomoName": pa.DictionaryArray.from_arrays(rows, [run]),
            **dict(zip(_POSITION, centre.T.copy(), strict=True)),
            "score": np.array(score, dtype=np.float64),
            "rlnHelicalTubeID": pa.array(
                [point.instance_id or None for point in points], pa.int64()
            ),
        }
    )


def by_run(loaded: Iterable[LoadedSet]) -> dict[str, list[LoadedSet]]:
    """Return the sets of each run."""
    runs: dict[str, list[LoadedSet]] = {}
    for each in loaded:
        runs.setdefault(each.run, []).append(each)
    return runs


def find_copies(loaded: Sequence[LoadedSet]) -> list[SetName]:
    """Return the names of sets that have only points that are also, bit for bit, in other sets of the same run."""
    contents = [{(each.run, *_as_tuple(point)) for point in each.points} for each in loaded]
    number = Counter(chain.from_iterable(contents))
    own = {
        each.name
        for each, points in zip(loaded, contents, strict=True)
        if any(number[point] == 1 for point in points)
    }
    return [*dict.fromkeys(each.name for each in loaded if each.points and each.name not in own)]


def _as_tuple(point: CopickPoint) -> tuple[Any, ...]:
    at = point.location
    return at.x, at.y, at.z, point.score, *chain.from_iterable(point.transformation_)


def store(result: Sequence[tuple[Group, list[LoadedSet]]], *, renumber: bool) -> None:
    """Store the kept and the rejected points of each run."""
    work = [
        (name, name == group.rejected, run, sets)
        for group, loaded in result
        for run, sets in by_run(loaded).items()
        for name in group.outputs
    ]
    for done, (name, rejected, run, sets) in enumerate(logging_progress(work, "stored")):
        points: list[CopickPoint] = []
        above = 0
        for each in sets:
            mask = each.rejected if rejected else ~each.rejected
            points += [_raised(each.points[row], above) for row in np.flatnonzero(mask).tolist()]
            if renumber:
                above += max(each.filaments, default=0)
        spacings = {each.picks.meta.voxel_spacing for each in sets if each.points}
        try:
            picks = sets[0].picks.run.new_picks(name.object, name.session, name.user, exist_ok=True)
            picks.meta.trust_orientation = all(each.trusted for each in sets)
            picks.meta.voxel_spacing = spacings.pop() if len(spacings) == 1 else None
            picks.points = points
            picks.store()
        except BaseException as error:
            stored = f"{done} of {counted(len(work), 'set')} are stored"
            if isinstance(error, Exception):
                again = parameter("overwrite")
                raise RunError(
                    f"{name} in run {run}: cannot be stored: {reason(error)}. {stored}; fix this and "
                    f"run again with {again}."
                ) from error
            log.warning("%s; the set %s in run %s may be incomplete", stored, name, run)
            raise


def _raised(point: CopickPoint, above: int) -> CopickPoint:
    """Return a point with `above` added to the number of its filament."""
    if not (above and point.instance_id):
        return point
    return point.model_copy(update={"instance_id": point.instance_id + above})


def logging_progress(items: Sequence[Item], done: str) -> Iterator[Item]:
    """Yield sets. Log progress every `LINE_SECONDS`. `done` is the verb in the message, such as "read"."""
    last = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            log.info("%s %s of %s sets of picks", done, f"{number:,}", f"{len(items):,}")
        yield item


def listed(names: Iterable[str]) -> str:
    """Return names as text. If there are many names, list only the first names."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def reason(error: Exception) -> str:
    """Return an error as one line of text. For errors of pydantic, return the first problem and its location."""
    problems = getattr(error, "errors", None)
    if callable(problems) and (found := problems()):
        return f"{'.'.join(map(str, found[0]['loc']))}: {found[0]['msg']}"
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__
