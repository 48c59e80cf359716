"""The rules by brute force, as a reference for the fast code.

Written from the specification; imports nothing from the package.
"""

from __future__ import annotations

import math
import struct

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


def content_hash(numbers, name=None):
    """Return the hash that stands in for a uid: of the position, shift, angles and score, then of the particle name."""
    hashed = 0
    for number in numbers:
        if number is None or math.isnan(number):
            word = 0x7FF8000000000000
        else:
            word = struct.unpack("<Q", struct.pack("<d", number or 0.0))[0]
        hashed = splitmix64(hashed ^ word)
    text = (name or "").encode()
    for start in range(0, len(text), 8):
        hashed = splitmix64(hashed ^ int.from_bytes(text[start : start + 8], "little"))
    return hashed


#: Columns in the content hash besides position and score, in order.
SHIFTS_AND_ANGLES = [
    *(f"rlnOrigin{axis}Angst" for axis in "XYZ"),
    *(f"rlnOrigin{axis}" for axis in "XYZ"),
    *(f"rlnAngle{angle}" for angle in ("Rot", "Tilt", "Psi")),
    *(f"wrpAngle{angle}1" for angle in ("Rot", "Tilt", "Psi")),
    *(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")),
]
CRYOSPARC_SHIFTS_AND_ANGLES = [
    "alignments3D/shift",
    "alignments2D/shift",
    "alignments3D/pose",
    "alignments2D/pose",
]
#: Numbers of a vector. Other columns have one number a row.
LENGTHS = {"alignments3D/shift": 2, "alignments2D/shift": 2, "alignments3D/pose": 3}


def content_hashes(rows, score=None):
    """Return the hash of each row. `rows` are dicts by column name, `score` is the column that ranks."""
    found = []
    for row in rows:
        if "rlnCenteredCoordinateXAngst" in row:
            position = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
        elif "rlnCoordinateX" in row:
            position = [f"rlnCoordinate{axis}" for axis in "XYZ" if f"rlnCoordinate{axis}" in row]
        else:
            position = ["location/center_x_frac", "location/center_y_frac"]
        others = SHIFTS_AND_ANGLES if "rln" in position[0] else CRYOSPARC_SHIFTS_AND_ANGLES
        numbers = []
        for name in [*position, *others, score]:
            value = row.get(name)
            length = LENGTHS.get(name, 1)
            numbers += [value] if length == 1 else value or [None] * length
        texts = [row[name] for name in ("rlnTomoParticleName", "rlnImageName") if name in row]
        found.append(content_hash(numbers, texts[0] if texts else None))
    return found


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
            gap = distance_between(points[row], points[better])
            if within(points[row], points[better], gap, min_separation):
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
            gap = distance_between(points[i], points[j])
            if within(points[i], points[j], gap, min_separation):
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


def distance_between(a, b):
    return math.sqrt(sum((p - q) * (p - q) for p, q in zip(a, b, strict=True)))


def within(a, b, gap, min_separation):
    return a == b if min_separation == 0 else gap <= min_separation
