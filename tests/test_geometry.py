"""Centres in angstrom, compared with the formulas for single numbers."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import relion_matrix
from scipy.spatial.transform import Rotation

from dask_dedup.particles.geometry import (
    centres_in_angstrom,
    pixels_from_fractions,
    rotate_subtomogram_shift,
)

coordinate = st.floats(-1e5, 1e5)
pixel_size = st.floats(0.1, 20)
angle = st.floats(-360, 360)


@examples(200)
@given(
    st.integers(2, 3).flatmap(
        lambda axes: st.lists(
            st.tuples(*[coordinate] * axes, *[st.floats(-50, 50)] * axes, pixel_size, pixel_size),
            min_size=1,
            max_size=5,
        )
    )
)
def test_centres_equal_the_formula(rows):
    axes = (len(rows[0]) - 2) // 2
    table = np.array(rows)
    centres = centres_in_angstrom(
        table[:, :axes], table[:, -2], table[:, axes : 2 * axes] * table[:, -1:]
    )
    for row, centre in zip(rows, centres.tolist(), strict=True):
        psize_mic, psize_shift = row[-2:]
        for axis in range(axes):
            pixels = row[axis] - row[axes + axis] * psize_shift / psize_mic
            assert centre[axis] == pixels * psize_mic


def test_without_a_shift_pixels_are_multiplied():
    centres = centres_in_angstrom(np.array([[10.0, 20.0], [1.0, 3.0]]), np.array([0.5, 2.0]))
    assert centres.tolist() == [[5.0, 10.0], [2.0, 6.0]]


def test_a_shift_in_angstrom_is_subtracted_unchanged():
    centre = centres_in_angstrom(
        np.array([[100.0, 200.0]]), np.array([2.0]), np.array([[3.0, -4.0]])
    )
    assert centre.tolist() == [[197.0, 404.0]]


def test_each_row_has_its_own_pixel_size():
    pixels, shift = np.full((3, 2), 100.0), np.full((3, 2), 1.0)
    centres = centres_in_angstrom(
        pixels, np.array([1.0, 2.0, 4.0]), shift * np.array([[1.0], [1.0], [8.0]])
    )
    assert centres[:, 0].tolist() == [99.0, 199.0, 392.0]


def test_micrograph_shape_is_height_then_width():
    fraction = np.array([[0.5, 0.25], [0.0, 1.0]])
    shape = np.array([[4092.0, 5760.0], [100.0, 200.0]])
    assert pixels_from_fractions(fraction, shape).tolist() == [[2880.0, 1023.0], [0.0, 100.0]]


@examples(200)
@given(st.tuples(angle, angle, angle), st.tuples(*[st.floats(-100, 100)] * 3))
def test_a_subtomogram_shift_is_rotated_by_relions_matrix(angles, shift):
    turned = rotate_subtomogram_shift(np.array([shift]), np.array([angles]))
    np.testing.assert_allclose(turned[0], relion_matrix(*angles) @ np.array(shift), atol=1e-10)


@given(st.tuples(angle, angle, angle))
def test_relions_matrix_is_the_transpose_of_scipys(angles):
    scipys = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(relion_matrix(*angles), scipys.T, atol=1e-12)


@pytest.mark.parametrize(
    ("angles", "shift", "turned"),
    [
        ((0, 0, 0), (1, 2, 3), (1, 2, 3)),
        ((90, 0, 0), (1, 0, 0), (0, -1, 0)),
        ((0, 90, 0), (1, 0, 0), (0, 0, 1)),
        ((0, 0, 90), (0, 1, 0), (1, 0, 0)),
        ((90, 90, 0), (0, 1, 0), (0, 0, 1)),
    ],
)
def test_quarter_turns(angles, shift, turned):
    result = rotate_subtomogram_shift(np.array([shift], float), np.array([angles], float))
    np.testing.assert_allclose(result[0], turned, atol=1e-15)


def test_every_row_has_its_own_rotation():
    random = np.random.default_rng(0)
    shift, angles = random.normal(size=(20, 3)), random.uniform(-180, 180, (20, 3))
    turned = rotate_subtomogram_shift(shift, angles)
    for row in range(20):
        np.testing.assert_allclose(turned[row], relion_matrix(*angles[row]) @ shift[row])


@pytest.mark.parametrize("axes", [2, 3])
def test_no_rows_give_no_centres(axes):
    empty = np.empty((0, axes))
    assert centres_in_angstrom(empty, np.empty(0), empty).shape == (0, axes)
    assert rotate_subtomogram_shift(np.empty((0, 3)), np.empty((0, 3))).shape == (0, 3)
