"""Particle centres and the greedy rule, in the style of an experienced user."""

import numpy as np
from scipy.spatial import cKDTree

SEPARATION = 20.0
NARROW = [
    "uid",
    "location/micrograph_uid",
    "location/center_x_frac",
    "location/center_y_frac",
    "location/micrograph_shape",
    "location/micrograph_psize_A",
    "alignments3D/shift",
    "alignments3D/psize_A",
    "pick_stats/ncc_score",
]


def centres(x_frac, y_frac, shape, psize, shift, psize_shift):
    """Return centres in angstrom, (n, 2)."""
    pixels = np.column_stack([x_frac * shape[:, 1], y_frac * shape[:, 0]]).astype(np.float64)
    return pixels * psize[:, None] - shift * psize_shift[:, None]


def keep_best(points, score):
    """Return a mask of the points of one micrograph that are kept, (n,) bool. Higher scores win."""
    pairs = cKDTree(points).query_pairs(SEPARATION, output_type="ndarray")
    keep = np.ones(len(points), dtype=bool)
    if not len(pairs):
        return keep
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(points), dtype=np.int64)
    rank[order] = np.arange(len(points))
    better = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    worse = pairs.sum(axis=1) - better
    by_rank = np.argsort(rank[better], kind="stable")
    for b, w in zip(better[by_rank].tolist(), worse[by_rank].tolist(), strict=True):
        if keep[b]:
            keep[w] = False
    return keep


def keep_best_of_all(micrograph, points, score):
    """Return a mask of the points of many micrographs that are kept, (n,) bool."""
    keep = np.ones(len(score), dtype=bool)
    order = np.argsort(micrograph, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(micrograph[order]) != 0))
    for rows in np.split(order, starts[1:]):
        keep[rows] = keep_best(points[rows], score[rows])
    return keep
