"""Columns get their roles, or a message says which one is missing and what to do."""

from __future__ import annotations

import numpy as np
import pytest

from dask_dedup.dedup.params import DedupParams
from dask_dedup.errors import InputError
from dask_dedup.particles.checks.pixel_size import check_pixel_size
from dask_dedup.particles.column_roles import needs_pixel_size, resolve_roles
from dask_dedup.particles.inputs import compare_roles
from dask_dedup.particles.micrographs.table import MicrographTable

POSITION = ("location/center_x_frac", "location/center_y_frac")
CRYOSPARC = (
    "uid",
    "location/micrograph_uid",
    "location/micrograph_path",
    "location/micrograph_shape",
    "location/micrograph_psize_A",
    *POSITION,
    "pick_stats/ncc_score",
)
ALIGNED_2D = tuple(f"alignments2D/{name}" for name in ("shift", "psize_A", "error", "split"))
ALIGNED_3D = tuple(f"alignments3D/{name}" for name in ("shift", "psize_A", "error", "split"))
RELION = (
    "rlnMicrographName",
    "rlnCoordinateX",
    "rlnCoordinateY",
    "rlnMicrographPixelSize",
    "rlnAutopickFigureOfMerit",
)
ORIGIN_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
ORIGIN_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
SUBTOMOGRAM = tuple(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi"))
TOMOGRAM = (
    "rlnTomoName",
    "rlnCoordinateX",
    "rlnCoordinateY",
    "rlnCoordinateZ",
    "rlnTomoTiltSeriesPixelSize",
)


def roles_of(columns, **params):
    params.setdefault("score_field", "none")
    return resolve_roles(list(columns), DedupParams(**params), "some.star")


def without(columns, *names):
    return tuple(name for name in columns if name not in names)


def error_of(columns, **params):
    with pytest.raises(InputError) as caught:
        roles_of(columns, **params)
    message = str(caught.value)
    assert message.startswith("some.star: ")
    return message


def micrograph_table(shape=True):
    return MicrographTable(
        path="exposures",
        keys=np.array([1], np.uint64),
        psize=np.ones(1),
        shape=np.ones((1, 2)) if shape else None,
    )


def test_cryosparc_columns():
    roles = roles_of(CRYOSPARC, score_field="ncc_score")
    assert roles.convention == "cryosparc"
    assert roles.micrograph == "location/micrograph_uid"
    assert roles.position == POSITION
    assert roles.unit == "fraction"
    assert roles.shape == "location/micrograph_shape"
    assert roles.psize_mic == "location/micrograph_psize_A"
    assert roles.score == "pick_stats/ncc_score"
    assert roles.uid == "uid"
    assert roles.shift == ()
    assert roles.shift_name == "none"


def test_cryosparc_micrographs_are_matched_by_path_if_there_is_no_uid():
    roles = roles_of(without(CRYOSPARC, "location/micrograph_uid"))
    assert roles.micrograph == "location/micrograph_path"


def test_relion_3_1_columns():
    roles = roles_of((*RELION, *ORIGIN_ANGSTROM[:2], "rlnRandomSubset"), score_field="ncc_score")
    assert roles.convention == "relion"
    assert roles.micrograph == "rlnMicrographName"
    assert roles.position == ("rlnCoordinateX", "rlnCoordinateY")
    assert roles.unit == "pixel"
    assert roles.psize_mic == "rlnMicrographPixelSize"
    assert roles.shift == ORIGIN_ANGSTROM[:2]
    assert roles.psize_shift is None
    assert roles.score == "rlnAutopickFigureOfMerit"
    assert roles.uid is None
    assert roles.half == "rlnRandomSubset"


@pytest.mark.parametrize("size", ["rlnImagePixelSize", "rlnPixelSize"])
def test_relion_3_0_shifts_are_in_particle_pixels(size):
    roles = roles_of((*RELION, *ORIGIN_PIXELS[:2], size))
    assert roles.shift == ORIGIN_PIXELS[:2]
    assert roles.psize_shift == size


def test_relion_shifts_in_angstrom_are_preferred():
    roles = roles_of((*RELION, *ORIGIN_PIXELS[:2], *ORIGIN_ANGSTROM[:2], "rlnImagePixelSize"))
    assert roles.shift == ORIGIN_ANGSTROM[:2]
    assert roles.psize_shift is None


def test_tomograms_have_three_axes():
    roles = roles_of((*TOMOGRAM, *ORIGIN_ANGSTROM))
    assert roles.micrograph == "rlnTomoName"
    assert roles.position == TOMOGRAM[1:4]
    assert roles.unit == "pixel"
    assert roles.psize_mic == "rlnTomoTiltSeriesPixelSize"
    assert roles.shift == ORIGIN_ANGSTROM
    assert roles.subtomogram == ()


def test_tomograms_come_before_micrograph_names():
    assert roles_of((*TOMOGRAM, "rlnMicrographName")).micrograph == "rlnTomoName"


def test_relion_5_centred_coordinates_are_in_angstrom():
    roles = roles_of((*TOMOGRAM, *CENTRED, *ORIGIN_ANGSTROM))
    assert roles.position == CENTRED
    assert roles.unit == "angstrom"
    assert roles.psize_mic is None
    assert roles.shift == ORIGIN_ANGSTROM


def test_subtomogram_angles_rotate_the_shift():
    assert roles_of((*TOMOGRAM, *ORIGIN_ANGSTROM, *SUBTOMOGRAM)).subtomogram == SUBTOMOGRAM
    assert roles_of((*TOMOGRAM, *SUBTOMOGRAM)).subtomogram == ()
    unshifted = roles_of((*TOMOGRAM, *ORIGIN_ANGSTROM, *SUBTOMOGRAM), shift_key="none")
    assert unshifted.subtomogram == ()


def test_each_column_with_a_role_is_read_once():
    roles = roles_of((*CRYOSPARC, *ALIGNED_3D, "blob/path"), score_field="error")
    assert len(set(roles.columns)) == len(roles.columns)
    assert set(roles.columns) == {
        *without(CRYOSPARC, "location/micrograph_path", "pick_stats/ncc_score"),
        *ALIGNED_3D,
    }
    twice = roles_of(RELION, score_field="rlnCoordinateX:higher")
    assert twice.columns.count("rlnCoordinateX") == 1


@pytest.mark.parametrize(
    ("columns", "shift"),
    [
        ((*ALIGNED_2D, *ALIGNED_3D), ("alignments3D/shift",)),
        (ALIGNED_2D, ("alignments2D/shift",)),
        (ALIGNED_3D, ("alignments3D/shift",)),
        ((), ()),
    ],
)
def test_auto_applies_the_3d_shift_else_the_2d_shift_else_none(columns, shift):
    roles = roles_of((*CRYOSPARC, *columns))
    assert roles.shift == shift
    assert roles.psize_shift == (shift[0].replace("shift", "psize_A") if shift else None)
    assert roles.shift_name == (shift[0] if shift else "none")


@pytest.mark.parametrize("group", ["alignments2D", "alignments3D"])
def test_a_named_shift_is_used(group):
    roles = roles_of((*CRYOSPARC, *ALIGNED_2D, *ALIGNED_3D), shift_key=group)
    assert roles.shift == (f"{group}/shift",)
    assert roles.psize_shift == f"{group}/psize_A"
    assert roles.half == f"{group}/split"


def test_the_shift_can_be_left_out():
    roles = roles_of((*CRYOSPARC, *ALIGNED_2D, *ALIGNED_3D), shift_key="none")
    assert roles.shift == ()
    assert roles_of((*RELION, *ORIGIN_ANGSTROM), shift_key="none").shift == ()


def test_at_separation_zero_auto_applies_no_shift():
    assert roles_of((*CRYOSPARC, *ALIGNED_3D), min_separation=0.0).shift == ()
    assert roles_of((*RELION, *ORIGIN_ANGSTROM), min_separation=0.0).shift == ()


def test_separation_zero_needs_no_pixel_size():
    params = DedupParams(min_separation=0.0, score_field="none")
    for columns in (("location/micrograph_uid", *POSITION), RELION[:3]):
        roles = resolve_roles(columns, params, "some.star")
        assert not needs_pixel_size(roles, params)
        check_pixel_size(roles, params, None, "some.star")


def test_a_shift_asked_for_at_separation_zero_needs_a_pixel_size():
    columns = without((*CRYOSPARC, *ALIGNED_3D), "location/micrograph_psize_A")
    params = DedupParams(min_separation=0.0, score_field="none", shift_key="alignments3D")
    roles = resolve_roles(columns, params, "some.star")
    assert roles.shift == ("alignments3D/shift",)
    assert needs_pixel_size(roles, params)


def test_coordinates_in_angstrom_need_no_pixel_size():
    params = DedupParams(score_field="none")
    roles = resolve_roles(("rlnTomoName", *CENTRED), params, "some.star")
    assert not needs_pixel_size(roles, params)
    check_pixel_size(roles, params, None, "some.star")


@pytest.mark.parametrize(
    ("columns", "field", "chosen"),
    [
        (CRYOSPARC, "ncc_score", "pick_stats/ncc_score"),
        ((*CRYOSPARC, *ALIGNED_2D, *ALIGNED_3D), "error", "alignments3D/error"),
        ((*CRYOSPARC, *ALIGNED_2D), "error", "alignments2D/error"),
        ((*CRYOSPARC, "alignments2D/error_min"), "error_min", "alignments2D/error_min"),
        ((*CRYOSPARC, "ctf/fit"), "ctf/fit:lower", "ctf/fit"),
        (CRYOSPARC, "none", None),
        (RELION, "ncc_score", "rlnAutopickFigureOfMerit"),
        ((*RELION, "rlnLCCmax"), "rlnLCCmax:higher", "rlnLCCmax"),
        (RELION, "none", None),
    ],
)
def test_the_score_column(columns, field, chosen):
    assert roles_of(columns, score_field=field).score == chosen


def test_the_error_is_that_of_the_applied_shift():
    columns = (*CRYOSPARC, *ALIGNED_2D, *ALIGNED_3D)
    roles = roles_of(columns, score_field="error", shift_key="alignments2D")
    assert roles.score == "alignments2D/error"


def test_a_missing_score_lists_the_alternatives():
    columns = without((*CRYOSPARC, *ALIGNED_3D, "alignments3D/cross_cor"), "pick_stats/ncc_score")
    message = error_of(columns, score_field="ncc_score")
    assert "pick_stats/ncc_score" in message
    for usable in ("error", "alignments3D/cross_cor:higher", "none", "COLUMN:lower"):
        assert usable in message
    assert "error_min" not in message
    assert "score_field" in message


def test_a_missing_relion_score_lists_the_alternatives():
    columns = (*RELION[:4], "rlnMaxValueProbDistribution", "rlnNrOfSignificantSamples")
    message = error_of(columns, score_field="ncc_score")
    assert "rlnAutopickFigureOfMerit" in message
    assert "rlnMaxValueProbDistribution:higher" in message
    assert "rlnNrOfSignificantSamples:lower" in message
    assert "none" in message


def test_a_score_that_was_refused_is_not_offered():
    columns = (*CRYOSPARC, *ALIGNED_3D[:2], "alignments2D/error")
    message = error_of(columns, score_field="error")
    offered = message.partition("Set score_field to ")[2].split(" (")[0].split(", ")
    assert "alignments2D/error:lower" in offered
    assert "error" not in offered


@pytest.mark.parametrize("columns", [CRYOSPARC, RELION])
@pytest.mark.parametrize("field", ["error", "nonsense:higher"])
def test_a_score_that_is_not_there_is_refused(columns, field):
    message = error_of(columns, score_field=field)
    assert field.partition(":")[0] in message
    assert "ncc_score" in message
    assert "none" in message


def test_a_table_of_both_conventions_is_ambiguous():
    message = error_of((*CRYOSPARC, *RELION))
    assert "location/center_x_frac" in message
    assert "RELION" in message
    assert "Remove one" in message


def test_a_table_without_positions_is_refused():
    message = error_of(("uid", "ctf/defocus"))
    assert "no particle positions" in message
    for column in (*POSITION, "rlnCoordinateX", "rlnCoordinateY"):
        assert column in message
    assert "found only" not in message


def test_half_a_position_is_named():
    message = error_of(("location/micrograph_uid", POSITION[0]))
    assert f"found only {POSITION[0]}" in message
    message = error_of(("rlnMicrographName", "rlnCoordinateY"))
    assert "found only rlnCoordinateY" in message


def test_a_table_without_micrographs_is_refused():
    message = error_of(POSITION)
    assert "location/micrograph_uid" in message
    assert "location/micrograph_path" in message
    message = error_of(without(RELION, "rlnMicrographName"))
    assert "rlnMicrographName" in message
    assert "rlnTomoName" in message


@pytest.mark.parametrize("group", ["alignments2D", "alignments3D"])
def test_a_shift_without_its_pixel_size_is_refused(group):
    message = error_of((*CRYOSPARC, f"{group}/shift"))
    assert f"{group}/shift" in message
    assert f"{group}/psize_A" in message
    assert "shift_key='none'" in message
    assert roles_of((*CRYOSPARC, f"{group}/shift"), shift_key="none").shift == ()


def test_relion_3_0_shifts_without_a_pixel_size_are_refused():
    message = error_of((*RELION, *ORIGIN_PIXELS))
    assert "rlnOriginX" in message
    assert "rlnImagePixelSize" in message
    assert "shift_key='none'" in message


def test_a_named_shift_that_is_not_there_is_refused():
    message = error_of((*CRYOSPARC, *ALIGNED_2D), shift_key="alignments3D")
    assert "alignments3D/shift" in message
    assert "The table has alignments2D" in message
    message = error_of(CRYOSPARC, shift_key="alignments3D")
    assert "shift_key='none'" in message


@pytest.mark.parametrize("group", ["alignments2D", "alignments3D"])
def test_a_cryosparc_shift_is_refused_for_relion_columns(group):
    message = error_of((*RELION, *ORIGIN_ANGSTROM), shift_key=group)
    assert f"shift_key={group!r}" in message
    assert "RELION" in message
    assert "auto" in message
    assert "none" in message


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        (without(CRYOSPARC, "location/micrograph_psize_A"), "location/micrograph_psize_A"),
        (without(RELION, "rlnMicrographPixelSize"), "rlnMicrographPixelSize"),
    ],
)
def test_a_missing_pixel_size_lists_three_solutions(columns, column):
    params = DedupParams(score_field="none")
    roles = resolve_roles(columns, params, "some.star")
    with pytest.raises(InputError) as caught:
        check_pixel_size(roles, params, None, "some.star", columns)
    message = str(caught.value)
    assert message.startswith("some.star: ")
    for solution in ("or micrographs", column, "micrograph_pixel_size"):
        assert solution in message
    assert ("RELION's Extract" in message) == (column == "rlnMicrographPixelSize")
    for hint in ("rlnImagePixelSize", "rlnMicrographOriginalPixelSize"):
        with pytest.raises(InputError, match=hint if "rln" in column else "no micrograph"):
            check_pixel_size(roles, params, None, "some.star", [*columns, hint])
    given = DedupParams(score_field="none", micrograph_pixel_size=1.5)
    check_pixel_size(resolve_roles(columns, given, "some.star"), given, None, "some.star")
    check_pixel_size(roles, params, micrograph_table(), "some.star")


def test_a_missing_micrograph_shape_lists_the_solutions():
    params = DedupParams(score_field="none")
    roles = resolve_roles(without(CRYOSPARC, "location/micrograph_shape"), params, "some.cs")
    for micrographs in (None, micrograph_table(shape=False)):
        with pytest.raises(InputError) as caught:
            check_pixel_size(roles, params, micrographs, "some.cs")
        message = str(caught.value)
        assert message.startswith("some.cs: ")
        for solution in ("location/micrograph_shape", "pass micrographs", "micrograph_blob/shape"):
            assert solution in message
    check_pixel_size(roles, params, micrograph_table(), "some.cs")


UID, PATH = "location/micrograph_uid", "location/micrograph_path"


def compared(*tables, **params):
    params = DedupParams(score_field="none", **params)
    named = [(f"table{number}", columns) for number, columns in enumerate(tables)]
    roles = [resolve_roles(columns, params, name) for name, columns in named]
    return [(role.micrograph, role.match) for role in compare_roles(roles, named, params)]


def incomparable(*tables, **params):
    with pytest.raises(InputError) as caught:
        compared(*tables, **params)
    return str(caught.value)


def test_inputs_that_all_have_uids_are_matched_by_uid():
    assert compared((UID, *POSITION), (UID, PATH, *POSITION)) == [(UID, "uid")] * 2


def test_inputs_are_matched_by_path_if_one_has_no_uid():
    assert compared((UID, PATH, *POSITION), (PATH, *POSITION)) == [(PATH, "path")] * 2


def test_relion_inputs_are_matched_by_path():
    assert compared(RELION) == [("rlnMicrographName", "path")]
    assert compared(TOMOGRAM) == [("rlnTomoName", "path")]


def test_cryosparc_and_relion_inputs_are_matched_by_name():
    met = compared((UID, PATH, *POSITION), RELION)
    assert met == [(PATH, "name"), ("rlnMicrographName", "name")]


@pytest.mark.parametrize("match", ["path", "name"])
def test_how_micrographs_match_can_be_chosen(match):
    assert compared((UID, PATH, *POSITION), match_micrographs=match) == [(PATH, match)]
    assert compared(RELION, match_micrographs=match) == [("rlnMicrographName", match)]


def test_uids_cannot_be_matched_with_paths():
    for message in (
        incomparable((PATH, *POSITION), (UID, *POSITION)),
        incomparable(RELION, (UID, *POSITION)),
    ):
        assert message.startswith("table1: ")
        assert PATH in message
        assert "Add the column" in message
        assert "match_micrographs" in message


@pytest.mark.parametrize("columns", [(PATH, *POSITION), RELION])
def test_matching_by_uid_needs_uids(columns):
    message = incomparable(columns, match_micrographs="uid")
    assert message.startswith("table0: ")
    assert UID in message
    assert "match_micrographs" in message


def test_micrographs_and_tomograms_cannot_be_compared():
    message = incomparable(TOMOGRAM, RELION)
    assert message.startswith("table0: was read as picks in tomograms")
    assert "but table1 has no z coordinate" in message
    assert "Run them separately" in message


def test_angstrom_and_pixels_cannot_be_compared():
    message = incomparable(TOMOGRAM, ("rlnTomoName", *CENTRED))
    assert "table0 rlnCoordinateX" in message
    assert f"table1 {CENTRED[0]}" in message
    assert "run them separately" in message


def test_fractions_and_pixels_can_be_compared_only_in_angstrom():
    assert len(compared((PATH, *POSITION), RELION)) == 2
    message = incomparable((PATH, *POSITION), RELION, min_separation=0.0)
    assert "run them separately" in message


@pytest.mark.parametrize(
    ("columns", "option", "label"),
    [
        (CRYOSPARC, "ignore_within_filament", "filament/filament_uid"),
        (RELION, "ignore_within_filament", "rlnHelicalTubeID"),
        (CRYOSPARC, "undo_symmetry_expansion", "sym_expand/src_uid"),
    ],
)
def test_filaments_and_symmetry_copies_have_a_column(columns, option, label):
    roles = roles_of((*columns, label), **{option: True})
    assert roles.label == label
    assert label in roles.columns
    assert roles_of((*columns, label)).label is None
    message = error_of(columns, **{option: True})
    assert label in message
    assert option in message


def test_symmetry_copies_need_neither_shift_nor_pixel_size():
    columns = (*without(CRYOSPARC, "location/micrograph_psize_A"), *ALIGNED_3D)
    params = DedupParams(score_field="none", undo_symmetry_expansion=True)
    roles = resolve_roles((*columns, "sym_expand/src_uid"), params, "some.cs")
    assert roles.shift == ()
    assert not needs_pixel_size(roles, params)


@pytest.mark.parametrize(
    ("table", "cure"),
    [
        (
            "in/rlnMicrographName=m1.mrc/a.parquet",
            "Pass the folder above rlnMicrographName=m1.mrc.",
        ),
        ("STAR/m1.star", "If the picks are of m1.mrc, rename the file to m1_autopick.star."),
    ],
)
def test_a_path_that_names_the_micrograph_is_used_in_the_cure(table, cure):
    with pytest.raises(InputError, match="no micrograph column") as caught:
        resolve_roles(["rlnCoordinateX", "rlnCoordinateY"], DedupParams(), table)
    assert str(caught.value).endswith(cure)
