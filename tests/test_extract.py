"""The rows of a fragment become picks, in order; invalid rows are counted and the first are named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from oracle import content_hashes, relion_matrix
from tables import (
    MICROGRAPH_UID,
    PSIZE,
    PSIZE_2D,
    PSIZE_3D,
    SHAPE,
    cryosparc,
    exposures,
    micrograph_path,
    relion,
    uids,
    values,
)

from dask_dedup.dedup.params import DedupParams
from dask_dedup.formats import Fragment
from dask_dedup.particles.column_roles import resolve_roles
from dask_dedup.particles.extract import extract
from dask_dedup.particles.inputs import compare_roles
from dask_dedup.particles.micrographs.names import hash_texts
from dask_dedup.particles.micrographs.stripping import bare_name
from dask_dedup.particles.micrographs.table import micrograph_table
from dask_dedup.particles.pixel_sizes import TABLE
from dask_dedup.particles.scan_summary import ScoreRange, summarize

SHIFTED = ("alignments2D/", "alignments3D/")
POSITION = ("location/center_x_frac", "location/center_y_frac")
UID, PATH = "location/micrograph_uid", "location/micrograph_path"
PSIZE_MIC = "location/micrograph_psize_A"


def prepare(table, micrographs=None, *, number=0, source=0, first_row=0, **params):
    """Return the arguments of `extract`."""
    params.setdefault("score_field", "none")
    params = DedupParams(**params)
    roles = resolve_roles(table.column_names, params, "some.parquet")
    (roles,) = compare_roles([roles], [("some.parquet", table.column_names)], params)
    if micrographs is not None:
        micrographs = micrograph_table(micrographs, "exposures", roles.naming, roles.groups)
    fragment = Fragment(number, source, first_row, table.num_rows, ())
    return table.select(roles.columns), fragment, roles, params, micrographs


def replaced(table, name, stored):
    return table.set_column(table.column_names.index(name), name, stored)


def stored_as(kind, values):
    """Return an Arrow array; pyarrow 17 cannot make every dictionary in one step."""
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind)
    plain = pa.array(values, kind.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(plain.indices.cast(kind.index_type), plain.dictionary)


def picks_of(table, micrographs=None, **options):
    found = extract(*prepare(table, micrographs, **options))
    assert found.problems == []
    return found.picks


def summary_of(arguments):
    _, fragment, roles, params, _ = arguments
    return summarize(extract(*arguments), fragment, roles, params)


def problems_of(table, micrographs=None, **options):
    return extract(*prepare(table, micrographs, **options)).problems


def centres(picks):
    axes = (picks.x, picks.y, picks.z) if picks.z.any() else (picks.x, picks.y)
    return np.column_stack(axes)


def fractions(table):
    return np.column_stack([values(table, name) for name in POSITION])


def test_cryosparc_centres_are_exact_in_float64():
    table = cryosparc(drop=SHIFTED)
    psize = np.float64(np.float32(PSIZE))
    wanted = fractions(table) * np.array([SHAPE[1], SHAPE[0]], float) * psize
    picks = picks_of(table)
    np.testing.assert_array_equal(centres(picks), wanted)
    assert picks.x.dtype == np.float64
    assert (picks.z == 0).all()


@pytest.mark.parametrize(
    ("key", "group", "psize"),
    [
        ("auto", "alignments3D", PSIZE_3D),
        ("alignments3D", "alignments3D", PSIZE_3D),
        ("alignments2D", "alignments2D", PSIZE_2D),
    ],
)
def test_cryosparc_shifts_are_in_their_own_pixels(key, group, psize):
    table = cryosparc()
    mic, own = np.float64(np.float32(PSIZE)), np.float64(np.float32(psize))
    pixels = fractions(table) * np.array([SHAPE[1], SHAPE[0]], float)
    wanted = (pixels - values(table, f"{group}/shift") * own / mic) * mic
    np.testing.assert_array_equal(centres(picks_of(table, shift_key=key)), wanted)


def test_relion_3_1_shifts_are_in_angstrom():
    table = relion()
    pixels = np.column_stack([values(table, f"rlnCoordinate{axis}") for axis in "XY"])
    shift = np.column_stack([values(table, f"rlnOrigin{axis}Angst") for axis in "XY"])
    wanted = (pixels - shift / PSIZE) * PSIZE
    np.testing.assert_array_equal(centres(picks_of(table)), wanted)


def test_relion_3_0_shifts_are_in_particle_pixels():
    table = relion(drop=["rlnOrigin"], rows=6)
    shift = np.arange(12.0).reshape(6, 2)
    table = table.append_column("rlnOriginX", [shift[:, 0]])
    table = table.append_column("rlnOriginY", [shift[:, 1]])
    table = table.append_column("rlnImagePixelSize", [np.full(6, 3.0)])
    pixels = np.column_stack([values(table, f"rlnCoordinate{axis}") for axis in "XY"])
    wanted = (pixels - shift * 3.0 / PSIZE) * PSIZE
    np.testing.assert_array_equal(centres(picks_of(table)), wanted)


def test_tomograms_have_three_axes():
    table = relion(axes=3)
    pixels = np.column_stack([values(table, f"rlnCoordinate{axis}") for axis in "XYZ"])
    shift = np.column_stack([values(table, f"rlnOrigin{axis}Angst") for axis in "XYZ"])
    wanted = (pixels - shift / PSIZE) * PSIZE
    np.testing.assert_array_equal(centres(picks_of(table)), wanted)


def centred(rows=7, **columns):
    random = np.random.default_rng(5)
    names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    position = {name: random.normal(0, 500, rows) for name in names}
    shift = {f"rlnOrigin{axis}Angst": random.normal(0, 9, rows) for axis in "XYZ"}
    return pa.table({"rlnTomoName": ["TS_01"] * rows, **position, **shift, **columns})


def positions(table):
    return np.column_stack([values(table, f"rlnCenteredCoordinate{axis}Angst") for axis in "XYZ"])


def shifts(table):
    return np.column_stack([values(table, f"rlnOrigin{axis}Angst") for axis in "XYZ"])


def test_centred_coordinates_are_in_angstrom_already():
    table = centred()
    np.testing.assert_array_equal(centres(picks_of(table)), positions(table) - shifts(table))
    unshifted = picks_of(table, shift_key="none")
    np.testing.assert_array_equal(centres(unshifted), positions(table))


@pytest.mark.parametrize("pixels", [False, True])
def test_the_shift_of_a_rotated_subtomogram_is_rotated(pixels):
    angles = np.random.default_rng(6).uniform(-180, 180, (7, 3))
    table = centred(
        **{
            f"rlnTomoSubtomogram{name}": angles[:, axis]
            for axis, name in enumerate(("Rot", "Tilt", "Psi"))
        }
    )
    unit = 1.0
    if pixels:
        names = [
            name.replace("Angst", "") if "Origin" in name else name for name in table.column_names
        ]
        unit = 1.7
        table = table.rename_columns(names).append_column("rlnImagePixelSize", [np.full(7, unit)])
        shift = np.column_stack([values(table, f"rlnOrigin{axis}") for axis in "XYZ"])
    else:
        shift = shifts(table)
    turned = [
        relion_matrix(*angle) @ offset for angle, offset in zip(angles, shift * unit, strict=True)
    ]
    np.testing.assert_allclose(centres(picks_of(table)), positions(table) - turned, atol=1e-9)


def test_at_separation_zero_the_stored_coordinates_are_compared():
    table = cryosparc(drop=[PSIZE_MIC, "location/micrograph_shape"])
    picks = picks_of(table, min_separation=0.0)
    np.testing.assert_array_equal(centres(picks), fractions(table))
    table = relion(drop=["rlnMicrographPixelSize"])
    picks = picks_of(table, min_separation=0.0)
    np.testing.assert_array_equal(picks.x, values(table, "rlnCoordinateX"))


def test_no_centre_is_minus_zero():
    table = relion(3, drop=["rlnOrigin"], columns={"rlnCoordinateX": [-0.0, 0.0, -1.0]})
    assert not np.signbit(picks_of(table).x[:2]).any()


def test_uid_score_and_half_set_are_unchanged():
    table = cryosparc()
    picks = picks_of(table, score_field="ncc_score", shift_key="alignments2D")
    assert picks.uid.tolist() == uids(table)
    np.testing.assert_array_equal(picks.score, values(table, "pick_stats/ncc_score"))
    np.testing.assert_array_equal(picks.half, values(table, "alignments2D/split"))
    assert max(uids(table)) > 2**63
    assert np.isnan(picks_of(table).score).all()


def test_missing_half_sets_are_minus_one():
    half = pa.array([1, None, 2, None], pa.int32())
    picks = picks_of(relion(4, columns={"rlnRandomSubset": half}))
    assert picks.half.tolist() == [1, -1, 2, -1]
    assert picks_of(relion(4, drop=["rlnRandomSubset"])).half.tolist() == [-1] * 4
    odd = pa.array([np.nan, np.inf, 1e300, 2.0])
    assert picks_of(relion(4, columns={"rlnRandomSubset": odd})).half.tolist() == [-1, -1, -1, 2]


def test_missing_scores_are_nan_and_no_problem():
    score = pa.array([0.5, None, np.nan, -999.0], pa.float32())
    picks = picks_of(cryosparc(4, columns={"pick_stats/ncc_score": score}), score_field="ncc_score")
    np.testing.assert_array_equal(picks.score, [0.5, np.nan, np.nan, -999.0])


def test_a_content_hash_stands_in_for_a_missing_uid():
    table = relion(5)
    picks = picks_of(table, source=3, first_row=1_000, number=9, score_field="ncc_score")
    hashes = content_hashes(table.to_pylist(), "rlnAutopickFigureOfMerit")
    assert picks.uid.tolist() == hashes
    assert picks.source.tolist() == [3] * 5
    assert picks.row_id.tolist() == [(9 << 32) + row for row in range(5)]
    flipped = picks_of(table, flip_y=(0,), micrograph_height=240, score_field="ncc_score")
    assert flipped.uid.tolist() == hashes


def test_micrographs_are_distinguished_by_uid():
    table = cryosparc()
    assert picks_of(table).micrograph.tolist() == table.column(UID).to_pylist()


def test_micrographs_are_distinguished_by_path():
    table = cryosparc(drop=[UID])
    keys = hash_texts(table.column(PATH).to_pylist())
    np.testing.assert_array_equal(picks_of(table).micrograph, keys)


@pytest.mark.parametrize(
    "name",
    [
        "J7/motioncorrected/003942345678901234567_Grid1_0042_patch_aligned_doseweighted.mrc",
        "MotionCorr/job002/Movies/Grid1_0042_fractions.mrc",
        "Movies\\Grid1_0042.tiff",
        "Grid1_0042",
    ],
)
def test_micrographs_are_distinguished_by_bare_name(name):
    assert bare_name(name) == "Grid1_0042"
    table = relion(2, columns={"rlnMicrographName": [name, "other/Grid1_0043.mrc"]})
    picks = picks_of(table, match_micrographs="name")
    wanted = hash_texts(["Grid1_0042", "Grid1_0043"])
    assert picks.micrograph.tolist() == wanted.tolist()


FORMS = {
    "location/micrograph_shape": [
        pa.list_(pa.uint32()),
        pa.large_list(pa.int64()),
        pa.list_(pa.float32(), 2),
    ],
    "alignments3D/shift": [
        pa.list_(pa.float32()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float64(), 2),
    ],
    PATH: [
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int16(), pa.large_string()),
    ],
    UID: [pa.int64(), pa.dictionary(pa.int32(), pa.uint64())],
    "uid": [pa.dictionary(pa.int32(), pa.uint64()), pa.int64()],
    "alignments3D/split": [
        pa.int8(),
        pa.uint8(),
        pa.float32(),
        pa.dictionary(pa.int8(), pa.int8()),
    ],
    POSITION[0]: [pa.float64(), pa.dictionary(pa.int16(), pa.float32())],
    PSIZE_MIC: [pa.float64(), pa.dictionary(pa.int8(), pa.float32())],
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in FORMS.items() for kind in kinds], ids=str
)
def test_the_picks_do_not_depend_on_how_a_column_is_stored(name, kind):
    table = cryosparc(40, drop=[UID] if name == PATH else [])
    for column in ("uid", UID):
        if column in table.column_names:
            small = [value % 2**62 for value in table.column(column).to_pylist()]
            table = replaced(table, column, pa.array(small, pa.uint64()))
    other = replaced(table, name, stored_as(kind, table.column(name).to_pylist()))
    other = pa.concat_tables([other.slice(0, 7), other.slice(7, 0), other.slice(7)])
    one, same = picks_of(table), picks_of(other)
    for field, column in one.columns().items():
        np.testing.assert_array_equal(same.columns()[field], column)
        assert same.columns()[field].dtype == column.dtype


def test_fragments_join_to_the_whole():
    table = cryosparc(60, drop=["uid"])
    whole = picks_of(table, source=2)
    parts = [picks_of(table.slice(at, 20), source=2, first_row=at) for at in (0, 20, 40)]
    joined = type(whole).concatenate(parts)
    for name in ("micrograph", "x", "y", "z", "score", "uid", "source", "half"):
        np.testing.assert_array_equal(joined.columns()[name], whole.columns()[name])


def test_no_rows_give_no_picks():
    for table in (cryosparc(5), relion(5), relion(5, axes=3), centred(), relion(5, drop=["rlnO"])):
        assert len(picks_of(table.slice(0, 0))) == 0
    rotated = centred(
        **{f"rlnTomoSubtomogram{name}": np.zeros(7) for name in ("Rot", "Tilt", "Psi")}
    )
    assert len(picks_of(rotated.slice(0, 0))) == 0


def test_the_micrograph_tables_pixel_size_comes_first():
    table = cryosparc(drop=SHIFTED)
    known = exposures()
    picks = picks_of(table, known, micrograph_pixel_size=9.0)
    row = [uid - MICROGRAPH_UID for uid in table.column(UID).to_pylist()]
    psize = values(known, "micrograph_blob/psize_A")[row]
    pixels = fractions(table) * np.array([SHAPE[1], SHAPE[0]], float)
    np.testing.assert_array_equal(centres(picks), pixels * psize[:, np.newaxis])


def test_the_micrograph_table_is_joined_by_path_too():
    by_uid = picks_of(cryosparc(), exposures())
    by_path = picks_of(cryosparc(drop=[UID]), exposures(drop=["uid"]))
    np.testing.assert_array_equal(by_path.x, by_uid.x)
    backwards = exposures().take(list(range(3, -1, -1)))
    np.testing.assert_array_equal(picks_of(cryosparc(), backwards).x, by_uid.x)


def test_relion_particles_are_joined_with_relion_micrographs():
    table = relion(drop=["rlnOrigin"])
    known = pa.table(
        {
            "rlnMicrographName": [micrograph_path(n) for n in range(4)],
            "rlnMicrographPixelSize": [1.0, 2.0, 3.0, 4.0],
        }
    )
    psize = [int(name[12:15]) + 1.0 for name in table.column("rlnMicrographName").to_pylist()]
    wanted = values(table, "rlnCoordinateX") * psize
    np.testing.assert_array_equal(picks_of(table, known).x, wanted)


def test_the_tables_own_pixel_size_comes_before_the_option():
    table = cryosparc()
    np.testing.assert_array_equal(picks_of(table).x, picks_of(table, micrograph_pixel_size=9.0).x)


def test_the_parameter_is_used_if_no_table_has_a_pixel_size():
    table = cryosparc(drop=[*SHIFTED, PSIZE_MIC])
    picks = picks_of(table, micrograph_pixel_size=1.5)
    np.testing.assert_array_equal(picks.x, fractions(table)[:, 0] * SHAPE[1] * 1.5)


def test_each_row_has_its_own_pixel_size():
    sizes = np.linspace(0.5, 3, 120)
    table = relion(drop=["rlnOrigin"], columns={"rlnMicrographPixelSize": sizes})
    np.testing.assert_array_equal(picks_of(table).x, values(table, "rlnCoordinateX") * sizes)


def test_the_shape_comes_from_the_micrograph_table_if_particles_have_none():
    table = cryosparc(drop=["location/micrograph_shape"])
    known = exposures(columns={"micrograph_blob/psize_A": np.full(4, PSIZE, np.float32)})
    np.testing.assert_array_equal(picks_of(table, known).y, picks_of(cryosparc(), known).y)


def test_a_micrograph_missing_from_the_table_is_a_problem():
    table = cryosparc()
    (problem,) = problems_of(table, exposures(3))
    lost = [n for n, uid in enumerate(table.column(UID).to_pylist()) if uid == MICROGRAPH_UID + 3]
    assert "missing from exposures" in problem.what
    assert problem.column == UID
    assert problem.rows == len(lost)
    assert problem.first == tuple(lost[:3])


@pytest.mark.parametrize(
    ("table", "name", "bad", "what"),
    [
        (cryosparc, POSITION[1], [None, np.nan, np.inf, -np.inf], "no finite position"),
        (cryosparc, UID, [None, None, None, None], "no micrograph"),
        (cryosparc, "uid", [None, None, None, None], "no uid"),
        (cryosparc, PSIZE_MIC, [None, np.nan, 0.0, -1.0], "no pixel size above 0"),
        (
            cryosparc,
            "location/micrograph_shape",
            [None, [0, 10], [10, 0], [None, 10]],
            "no micrograph shape above 0",
        ),
        (
            cryosparc,
            "alignments3D/shift",
            [None, [np.nan, 0], [0, np.inf], [None, 1]],
            "no finite shift",
        ),
        (cryosparc, "alignments3D/psize_A", [None, np.nan, 0.0, np.inf], "no pixel size above 0"),
        (relion, "rlnCoordinateX", [None, np.nan, np.inf, -np.inf], "no finite position"),
        (relion, "rlnMicrographName", [None, None, None, None], "no micrograph"),
        (relion, "rlnMicrographPixelSize", [None, np.nan, 0.0, np.inf], "no pixel size above 0"),
        (relion, "rlnOriginYAngst", [None, np.nan, np.inf, -np.inf], "no finite shift"),
    ],
)
def test_invalid_rows_are_counted_and_the_first_named(table, name, bad, what):
    table = table()
    stored = table.column(name).to_pylist()
    rows = [5, 17, 60, 119]
    for row, value in zip(rows, bad, strict=True):
        stored[row] = value
    broken = replaced(table, name, pa.array(stored, table.schema.field(name).type))
    (problem,) = problems_of(broken)
    assert what in problem.what
    assert name in problem.column
    assert problem.rows == 4
    assert problem.first == (5, 17, 60)


def test_angles_that_are_not_finite_are_a_problem():
    angles = {f"rlnTomoSubtomogram{name}": np.zeros(7) for name in ("Rot", "Tilt", "Psi")}
    angles["rlnTomoSubtomogramTilt"] = np.array([0, 0, np.nan, 0, np.inf, 0, 0])
    (problem,) = problems_of(centred(**angles))
    assert "no finite angle" in problem.what
    assert problem.first == (2, 4)


def test_every_problem_of_a_row_is_named():
    table = cryosparc(
        3,
        drop=SHIFTED,
        columns={
            POSITION[0]: pa.array([None, 0.5, 0.5], pa.float32()),
            "uid": pa.array([1, None, 3], pa.uint64()),
            UID: pa.array([1, 1, None], pa.uint64()),
        },
    )
    whats = {problem.what: problem.first for problem in problems_of(table)}
    assert whats == {
        "have no micrograph": (2,),
        "have no finite position": (0,),
        "have no uid": (1,),
    }


def test_consequences_of_a_problem_are_not_further_problems():
    lost = cryosparc(
        2,
        columns={
            POSITION[0]: pa.array([None, 0.5], pa.float32()),
            "location/micrograph_shape": pa.array([None, [9, 9]]),
        },
    )
    assert [problem.what for problem in problems_of(lost)] == ["have no finite position"]
    unnamed = cryosparc(2, columns={UID: pa.array([None, MICROGRAPH_UID], pa.uint64())})
    whats = [problem.what for problem in problems_of(unnamed, exposures())]
    assert "have no micrograph" in whats
    assert not any("missing from" in what for what in whats)


def test_unused_columns_are_not_checked():
    sizes = pa.array([None] * 4, pa.float32())
    table = cryosparc(4, columns={PSIZE_MIC: sizes})
    assert problems_of(table, min_separation=0.0) == []
    assert problems_of(table, exposures()) == []
    broken = cryosparc(4, columns={"alignments3D/shift": pa.nulls(4)})
    assert problems_of(broken, shift_key="none") == []


def test_a_null_within_a_dictionary_is_a_null():
    paths = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a.mrc", None]))
    table = cryosparc(3, drop=[UID], columns={PATH: paths})
    (problem,) = problems_of(table)
    assert problem.what == "have no micrograph"
    assert problem.first == (1,)


def test_filaments_are_distinguished_whatever_their_uid():
    filament = np.array([2**63 + 5, 3, 2**64 - 1], np.uint64)
    table = cryosparc(3, columns={"filament/filament_uid": filament})
    params = DedupParams(score_field="none", ignore_within_filament=True)
    picks = picks_of(table, ignore_within_filament=True)
    (labels,) = picks.exclusions(params)
    assert (labels >= 0).all()
    assert np.unique(labels).size == 3


def test_relions_tubes_are_numbered_by_input():
    table = relion(3, columns={"rlnHelicalTubeID": [1, 2, 2]})
    labels = [
        picks_of(table, source=source, ignore_within_filament=True).label for source in (0, 1)
    ]
    assert labels[0].tolist() == [1, 2, 2]
    assert not set(labels[0].tolist()) & set(labels[1].tolist())


@pytest.mark.parametrize("shift_key", ["none", "alignments3D"])
def test_flip_y_mirrors_the_y_axis(shift_key):
    table = cryosparc()
    straight = picks_of(table, shift_key=shift_key)
    flipped = picks_of(table, shift_key=shift_key, flip_y=(0,))
    height = SHAPE[0] * float(np.float32(PSIZE))
    np.testing.assert_allclose(flipped.y, height - straight.y, atol=1e-9)
    np.testing.assert_array_equal(flipped.x, straight.x)
    other = picks_of(table, shift_key=shift_key, flip_y=(1,))
    np.testing.assert_array_equal(other.y, straight.y)


def test_flipping_pixels_uses_the_micrograph_height():
    table = relion()
    straight = picks_of(table)
    flipped = picks_of(table, flip_y=(0,), micrograph_height=SHAPE[0])
    np.testing.assert_allclose(flipped.y, SHAPE[0] * PSIZE - straight.y, atol=1e-9)


def test_centred_coordinates_are_flipped_about_zero():
    flipped = picks_of(centred(), flip_y=(0,))
    np.testing.assert_allclose(flipped.y, -picks_of(centred()).y, atol=1e-9)


def test_symmetry_copies_of_a_particle_have_one_position():
    source = np.array([2**63 + 5, 7, 2**63 + 5, 2**63 + 4], np.uint64)
    table = cryosparc(4, columns={"sym_expand/src_uid": source})
    params = DedupParams(score_field="none", undo_symmetry_expansion=True)
    points, separation = picks_of(table, undo_symmetry_expansion=True).points(params)
    assert separation == 0.0
    same = (points[:, np.newaxis] == points).all(axis=2)
    np.testing.assert_array_equal(same, source[:, np.newaxis] == source)


def test_a_scan_summary_counts_rows_by_micrograph():
    table = cryosparc(drop=[UID])
    summary = summary_of(prepare(table, number=4, source=1))
    paths = table.column(PATH).to_pylist()
    assert (summary.fragment, summary.source, summary.rows) == (4, 1, 120)
    name_of = {each.key: each.name for each in summary.names}
    counted = zip(summary.micrographs.tolist(), summary.counts.tolist(), strict=True)
    assert {name_of[key]: count for key, count in counted} == {
        path: paths.count(path) for path in set(paths)
    }
    keys, names, *_ = zip(*summary.names, strict=True)
    np.testing.assert_array_equal(keys, hash_texts(list(names)))
    assert summary.problems == []
    assert summary.score is None


def test_a_scan_summary_has_the_pixel_sizes_used_and_stored():
    summary = summary_of(prepare(cryosparc(), exposures()))
    assert summary.psize == {TABLE: (np.float32(0.8), np.float32(2.0))}
    assert summary.stored_psize == (np.float32(PSIZE), np.float32(PSIZE))
    summary = summary_of(prepare(centred()))
    assert summary.psize == {}
    assert np.isnan(summary.stored_psize).all()


def test_a_scan_summary_of_uids_has_no_names():
    assert summary_of(prepare(cryosparc())).names == []


def test_score_ranges_add_up():
    score = np.array([0.0, 1.5, np.nan, -999.0, -2.0, 0.0])
    whole = ScoreRange.of(score)
    assert whole == ScoreRange(rows=6, missing=1, sentinel=1, zero=2, low=-2.0, high=1.5)
    assert ScoreRange.of(score[:2]) + ScoreRange.of(score[2:]) == whole
    nothing = ScoreRange.of(np.empty(0))
    assert nothing + whole == whole
    unusable = ScoreRange.of(np.array([np.nan, -999.0]))
    assert (unusable.low, unusable.high) == (np.inf, -np.inf)


def test_a_scan_summary_has_the_score_range():
    summary = summary_of(prepare(cryosparc(), score_field="ncc_score"))
    assert summary.score.rows == 120
    assert summary.score.low >= 0
