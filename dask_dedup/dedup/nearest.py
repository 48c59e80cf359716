"""Find the distance from each particle to its closest duplicate, without a list of all pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dask_dedup.dedup import pairs
from dask_dedup.dedup.arrays import begins_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_dedup.dedup.pairs import Bools, Floats, Indices, Points

#: Number of points in a block. The candidates of a block are listed together.
_BLOCK_ROWS = 2**17


def closest_duplicates(points: Points, min_separation: float) -> Floats:
    """Return the distance from each point to its closest duplicate, (n,); infinite for points without a duplicate.

    Points with equal position, micrograph and labels must have been reduced to one point before
    (`coincident.find_coincident`).
    """
    closest = np.full(len(points), np.inf)
    if points.are_apart(min_separation):
        return closest
    search = pairs.PairSearch.over(points, min_separation)
    if search.estimate() <= pairs.PAIR_BUDGET:
        return closest_of_pairs(len(points), *search.pairs())
    for queries, targets in _comparable(points):
        _search_nearest(search, np.flatnonzero(queries), np.flatnonzero(targets), closest)
    return closest


def closest_of_pairs(n: int, i: Indices, j: Indices, distance: Floats) -> Floats:
    """Return the least distance of each of `n` points in the pairs (i, j), (n,); infinite for points in no pair."""
    closest = np.full(n, np.inf)
    np.minimum.at(closest, i, distance)
    np.minimum.at(closest, j, distance)
    return closest


def _search_nearest(
    search: pairs.PairSearch, queries: Indices, targets: Indices, closest: Floats
) -> None:
    """Lower `closest`, in place, to the distance between each query and its nearest target other than itself.

    A tree finds the nearest distance in the layout. Then the exact distance is measured to all targets at about this
    distance. Most queries have few such targets.
    """
    if not queries.size or not targets.size:
        return
    tree = search.take(targets).tree
    slack = 2.0 * (search.reach - search.min_separation)
    # If the queries are also targets, each query finds itself first.
    k = [2] if queries is targets or np.array_equal(queries, targets) else [1]
    beyond = np.nextafter(search.reach, np.inf)
    for start in range(0, queries.size, _BLOCK_ROWS):
        rows = queries[start : start + _BLOCK_ROWS]
        nearest = np.ravel(tree.query(search.layout[rows], k, distance_upper_bound=beyond)[0])
        rows, nearest = rows[np.isfinite(nearest)], nearest[np.isfinite(nearest)]
        found = tree.query_ball_point(search.layout[rows], nearest + slack)
        number = np.fromiter(map(len, found), dtype=np.intp, count=rows.size)
        i = np.repeat(rows, number)
        j = targets[np.fromiter((n for few in found for n in few), np.intp, int(number.sum()))]
        close, distance = search.points.measure(i, j, search.min_separation)
        close &= i != j
        np.minimum.at(closest, i[close], distance[close])


def _comparable(points: Points) -> Iterator[tuple[Bools, Bools]]:
    """Yield pairs of masks (queries, targets) that together cover all pairs of points that may be duplicates.

    In each pair of masks, the labels allow that any query and any target are duplicates.

    Two labels differ if a binary digit of their numbers differs. So there are two pairs of masks for each digit, and
    three for points without a label. The masks of a pair are equal or disjoint.
    """
    whole = np.ones(len(points), dtype=bool)
    found = [(whole, whole)]
    for label in points.labels:
        without = label < 0
        sides = [(without, without), (without, ~without), (~without, without)]
        number = _number_labels(points.micrographs, label)
        for bit in range(int(number.max()).bit_length()):
            digit = (number >> bit & 1).astype(bool)
            sides += [(digit & ~without, ~digit & ~without), (~digit & ~without, digit & ~without)]
        found = [
            (queries & one, targets & other) for queries, targets in found for one, other in sides
        ]
    yield from found


def _number_labels(micrographs: Indices, label: Indices) -> Indices:
    """Number the distinct labels of each micrograph from 0."""
    order = np.lexsort([label, micrographs])
    start = begins_run(micrographs[order])
    number = np.cumsum(start | begins_run(label[order]))
    first = np.repeat(number[start], np.diff(np.flatnonzero(np.append(start, True))))
    result = np.empty(label.size, dtype=np.intp)
    result[order] = number - first
    return result
