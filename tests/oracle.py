"""The rules by brute force, as a reference for the fast code.

Written from the specification; imports nothing from the package.
"""

from __future__ import annotations

import math

import numpy as np

MASK = 2**64 - 1


def splitmix64(value):
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def rank_tuple(*, uid, score=None, higher=True, seed=0, priority=0, source=0, row=0):
    """Return the rank as a tuple; smaller is better. With `score` None, all scores tie."""
    if score is None:
        by_score = (0, 0.0)
    elif math.isnan(score) or score == -999:
        by_score = (1, 0.0)
    else:
        by_score = (0, -score if higher else score)
    return (priority, *by_score, splitmix64(uid ^ seed), uid, (source, row))


def greedy(centres, micrographs, rank_tuples, min_separation, share_label=None):
    """Return the winner of each row (-1 if it is kept) and the distance to it."""
    points = [tuple(point) for point in np.asarray(centres, dtype=float).tolist()]
    micrographs = np.asarray(micrographs).tolist()
    winner = np.full(len(points), -1)
    distance = np.full(len(points), np.nan)
    kept = {}
    for row in sorted(range(len(points)), key=rank_tuples.__getitem__):
        same_micrograph = kept.setdefault(micrographs[row], [])
        for better in same_micrograph:
            if share_label is not None and share_label(row, better):
                continue
            gap = _distance(points[row], points[better])
            if _within(points[row], points[better], gap, min_separation):
                winner[row], distance[row] = better, gap
                break
        else:
            same_micrograph.append(row)
    return winner, distance


def crowded(centres, micrographs, min_separation, share_label=None):
    """Return the distance of each row to its closest duplicate; NaN if it has none."""
    points = [tuple(point) for point in np.asarray(centres, dtype=float).tolist()]
    micrographs = np.asarray(micrographs).tolist()
    closest = np.full(len(points), np.nan)
    for i in range(len(points)):
        for j in range(len(points)):
            if i == j or micrographs[i] != micrographs[j]:
                continue
            if share_label is not None and share_label(i, j):
                continue
            gap = _distance(points[i], points[j])
            if _within(points[i], points[j], gap, min_separation):
                closest[i] = np.fmin(closest[i], gap)
    return closest


def relion_matrix(rot, tilt, psi):
    """Return the rotation matrix of `Euler_angles2matrix` in RELION's euler.cpp."""
    ca, cb, cg = (math.cos(math.radians(value)) for value in (rot, tilt, psi))
    sa, sb, sg = (math.sin(math.radians(value)) for value in (rot, tilt, psi))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def _distance(a, b):
    return math.sqrt(sum((p - q) * (p - q) for p, q in zip(a, b, strict=True)))


def _within(a, b, gap, min_separation):
    return a == b if min_separation == 0 else gap <= min_separation
