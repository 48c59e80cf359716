"""Without uids, a hash of the particle decides between equal scores, so files and row order do not matter."""

from __future__ import annotations

import datetime

import numpy as np
import oracle
import pyarrow as pa
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from tables import Output, casts_views, contents, cryosparc, relion, write_file, write_folder

from dask_dedup import DedupParams, run, verify
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.star import lines
from dask_dedup.particles import extract
from dask_dedup.particles.column_roles import resolve_roles
from dask_dedup.particles.column_values import Columns
from dask_dedup.particles.content_hash import content_hash
from dask_dedup.results.verify.content import content_hashes

numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1.0, np.nan, -999.0]),
)
texts = st.one_of(
    st.none(), st.text(max_size=30), st.sampled_from(["", "1@a.mrcs", "ångström/é", "a" * 8])
)
NUMBERS = [
    "rlnCoordinateX",
    "rlnCoordinateY",
    "rlnAutopickFigureOfMerit",
    "rlnOriginXAngst",
    "rlnOriginYAngst",
    "rlnOriginX",
    "rlnImagePixelSize",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
    "rlnTomoSubtomogramRot",
    "rlnTomoSubtomogramTilt",
    "rlnTomoSubtomogramPsi",
]
SCORE = "rlnAutopickFigureOfMerit"


def hashes(table, score="ncc_score"):
    params = DedupParams(score_field=score, shift_key="none")
    roles = resolve_roles(table.schema.names, params, "the table")
    rows = table.select(roles.columns)
    mine = content_hash(Columns(rows, "the table"), roles).tolist()
    assert content_hashes(rows, roles).tolist() == mine
    return mine


def encoded(values, layout):
    array = pa.array(values, pa.large_string() if layout == "large" else pa.string())
    if layout == "dictionary":
        return array.dictionary_encode()
    if layout == "chunks":
        return pa.chunked_array([array[:3], array[3:3], array[3:]], pa.string())
    if layout == "null in the dictionary":
        texts = array.dictionary_encode().dictionary.to_pylist()
        index = [texts.index(value) if value is not None else len(texts) for value in values]
        return pa.DictionaryArray.from_arrays(
            pa.array(index, pa.int32()), pa.array([*texts, None], pa.string())
        )
    return array


@examples(150)
@given(
    rows=st.integers(0, 12),
    layout=st.sampled_from(["plain", "large", "dictionary", "chunks", "null in the dictionary"]),
    name=st.sampled_from(["rlnImageName", "rlnTomoParticleName", None]),
    drop=st.sets(st.sampled_from(NUMBERS[3:])),
    score=st.booleans(),
    data=st.data(),
)
def test_the_hash_is_as_documented(rows, layout, name, drop, score, data):
    column = st.lists(numbers, min_size=rows, max_size=rows)
    table = {n: pa.array(data.draw(column), pa.float64()) for n in NUMBERS if n not in drop}
    table["rlnMicrographName"] = pa.array(["m.mrc"] * rows, pa.string())
    if name:
        table[name] = encoded(data.draw(st.lists(texts, min_size=rows, max_size=rows)), layout)
    table = pa.table(table)
    expected = oracle.content_hashes(table.to_pylist(), SCORE if score else None)
    assert hashes(table, "ncc_score" if score else "none") == expected


def test_the_hash_of_cryosparc_particles_without_a_uid():
    rng = np.random.default_rng(0)
    pose = pa.FixedSizeListArray.from_arrays(rng.random(360).astype(np.float32), 3)
    more = {"alignments3D/pose": pose, "alignments2D/pose": rng.random(120).astype(np.float32)}
    table = cryosparc(columns=more, drop=["uid"])
    assert hashes(table) == oracle.content_hashes(table.to_pylist(), "pick_stats/ncc_score")


@pytest.mark.parametrize("kind", [pa.int32(), pa.float32(), pa.decimal128(12, 3)])
def test_the_type_of_a_number_does_not_matter(kind):
    table = relion(3, columns={"rlnAngleRot": pa.array([1.0, 2.0, 3.0])})
    at = table.schema.names.index("rlnAngleRot")
    other = table.set_column(at, "rlnAngleRot", table["rlnAngleRot"].cast(kind))
    assert hashes(other) == hashes(table)


def test_the_name_of_the_micrograph_does_not_matter():
    moved = relion(columns={"rlnMicrographName": pa.array(["elsewhere.mrc"] * 120)})
    assert hashes(moved) == hashes(relion())


def test_a_particle_name_is_preferred_to_an_image_name():
    names = {"rlnTomoParticleName": [f"TS_01/{n}" for n in range(5)]}
    both = relion(5, columns={**names, "rlnImageName": ["x"] * 5})
    assert hashes(both) == hashes(relion(5, columns=names))


@pytest.mark.parametrize(
    "value",
    [
        pa.array(["text"] * 5),
        pa.array([True] * 5),
        pa.nulls(5),
        pa.array([datetime.date(2026, 1, 2)] * 5),
        pa.array([[1.0, 2.0]] * 5),
        pa.array([{"x": 1.0}] * 5),
    ],
    ids=lambda value: str(value.type),
)
def test_columns_of_another_type_stop_no_run_and_count_as_missing(tmp_path, value):
    table = relion(5, columns={"rlnAngleRot": value})
    assert hashes(table) == hashes(relion(5))
    run(write_file(table, tmp_path / "in.parquet"), tmp_path / "out")
    assert verify(tmp_path / "out").passed


@pytest.mark.parametrize("name", ["alignments3D/pose", "alignments2D/pose", "alignments2D/shift"])
def test_absent_and_null_numbers_and_vectors_are_the_same(name):
    table = cryosparc(drop=["uid", name])
    kind = pa.float32() if name == "alignments2D/pose" else pa.list_(pa.float32())
    for other in (pa.nulls(120, kind), pa.nulls(120), pa.array(["text"] * 120)):
        assert hashes(table.append_column(name, other)) == hashes(table)


def test_a_missing_angle_is_not_another_missing_angle():
    first, second = (
        relion(5, columns={name: pa.array([5.0] * 5)}) for name in ("rlnAngleRot", "rlnAnglePsi")
    )
    assert not set(hashes(first)) & set(hashes(second))


def test_files_with_different_columns_are_one_input_or_two_alike(tmp_path):
    """Only the second file has angles. Every particle is in both, at the same score."""
    first = relion(columns={SCORE: np.zeros(120), "tag": np.arange(120)})
    angles = {"rlnAngleRot": np.arange(120.0), "tag": np.arange(120, 240)}
    second = relion(columns={SCORE: np.zeros(120), **angles})
    paths = [
        write_file(table, tmp_path / "in" / f"{number}.parquet")
        for number, table in enumerate((first, second))
    ]
    apart = decisions(paths, tmp_path / "two")
    assert decisions(tmp_path / "in", tmp_path / "one") == apart
    assert len({tag < 120 for tag in apart}) == 2


@casts_views
@pytest.mark.parametrize("encode", [False, True])
def test_names_may_be_views(encode):
    names = pa.array(["1@a.mrcs", None, "", "000002@long/folder/a.mrcs"])
    views = names.cast(pa.string_view())
    if encode:
        names = names.dictionary_encode()
        views = pa.DictionaryArray.from_arrays(
            names.indices, names.dictionary.cast(pa.string_view())
        )
    tables = [relion(4, columns={"rlnImageName": each}) for each in (names, views)]
    assert hashes(tables[1]) == hashes(tables[0])
    assert hashes(tables[0]) != hashes(relion(4))


def symmetric(rows=60, copies=3, seed=0):
    """Return a RELION table with equal scores. The symmetry copies of a particle differ in their angles."""
    table = relion(rows, seed=seed, columns={SCORE: np.zeros(rows)})
    table = table.take(pa.array(np.repeat(np.arange(rows), copies)))
    rng = np.random.default_rng(seed)
    for name in ("Rot", "Tilt", "Psi"):
        table = table.append_column(f"rlnAngle{name}", pa.array(rng.random(rows * copies) * 360))
    images = [f"{row // copies + 1:06}@Extract/job003/a.mrcs" for row in range(rows * copies)]
    table = table.append_column("rlnImageName", pa.array(images))
    return table.append_column("tag", pa.array(np.arange(rows * copies)))


def as_star(table, path):
    text = ["data_particles", "", "loop_", *(f"_{name}" for name in table.schema.names)]
    text += [" ".join(map(str, row.values())) for row in table.to_pylist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*text, ""]))
    return path


def decisions(paths, out, **params):
    """Map the tag of each rejected row to the tag of its winner."""
    result = run(paths, out, DedupParams(**params), output_format="parquet")
    assert verify(out).passed
    output = Output(out)
    tags = {}
    for path in paths if isinstance(paths, list) else [paths]:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            tags |= {(str(file), row): tag for row, tag in enumerate(read_tags(file))}
    assert result.kept + result.rejected == len(tags)
    return {tags[row]: tags.get(winner) for row, (winner, _) in output.decisions.items()}


def read_tags(file):
    if file.suffix == ".star":
        text = file.read_text().splitlines()
        at = [line for line in text if line.startswith("_")].index("_tag")
        return [int(line.split()[at]) for line in text if "@" in line]
    return pa.parquet.read_table(file)["tag"].to_pylist()


@pytest.mark.parametrize("form", ["star", "parquet"])
@pytest.mark.parametrize(
    "params",
    [{}, pytest.param({"score_field": "none", "seed": 7}, marks=pytest.mark.slow)],
    ids=str,
)
def test_any_order_of_rows_in_one_or_several_files_gives_the_same_decisions(
    tmp_path, monkeypatch, form, params
):
    monkeypatch.setattr(lines, "FRAGMENT_BYTES", 4000)
    table = symmetric()
    rows = table.to_pylist()
    tuples = [
        oracle.rank_tuple(uid=uid, row=row, seed=params.get("seed", 0))
        for row, uid in enumerate(oracle.content_hashes(rows, None if params else SCORE))
    ]
    centres = [
        [row[f"rlnCoordinate{a}"] * 1.2 - row[f"rlnOrigin{a}Angst"] for a in "XY"] for row in rows
    ]
    winner, _ = oracle.greedy(centres, [r["rlnMicrographName"] for r in rows], tuples, 20)
    expected = {row: won for row, won in enumerate(winner.tolist()) if won >= 0}
    assert len(expected) > 120
    for order in range(2):
        random = np.random.default_rng(order)
        mixed = table.take(random.permutation(180) if order else np.arange(180))
        if form == "parquet":
            one = write_file(mixed, tmp_path / f"{order}.parquet")
            several = write_folder(mixed, tmp_path / f"{order}", files=4)
        else:
            one = as_star(mixed, tmp_path / f"{order}.star")
            parts = enumerate(np.array_split(np.arange(len(rows)), 4))
            several = [as_star(mixed.take(p), tmp_path / f"{order}/{n}.star") for n, p in parts]
        assert decisions(one, tmp_path / f"one-{order}", **params) == expected
        assert decisions(several, tmp_path / f"several-{order}", **params) == expected


def test_rows_equal_in_everything_are_told_apart_by_input_and_row(tmp_path):
    table = relion(4)
    paths = [write_file(table, tmp_path / f"{name}.parquet") for name in "ba"]
    run(paths, tmp_path / "out", DedupParams(between_inputs_only=True))
    rejected = Output(tmp_path / "out").duplicates
    assert set(rejected["input"].to_pylist()) == {str(paths[1])}
    assert rejected["row"].to_pylist() == rejected["winner_row"].to_pylist()


def test_a_run_of_relion_particles_gives_no_warning_about_uids(tmp_path):
    run(write_file(relion(), tmp_path / "in.parquet"), tmp_path / "out")
    assert Output(tmp_path / "out").manifest["warnings"] == []


def test_verify_finds_ties_that_the_row_number_decided(tmp_path):
    path = write_file(relion(columns={SCORE: np.zeros(120)}), tmp_path / "in.parquet")
    with pytest.MonkeyPatch.context() as patch:
        numbers = lambda columns, roles: np.arange(len(columns), dtype=np.uint64)  # noqa: E731
        patch.setattr(extract, "content_hash", numbers)
        run(path, tmp_path / "out")
    assert not verify(tmp_path / "out").passed


@pytest.mark.slow
def test_a_cluster_makes_the_same_files(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
    paths = [
        write_folder(symmetric(seed=seed), tmp_path / f"in-{seed}", files=4) for seed in (1, 2)
    ]
    params = {
        "score_field": {str(paths[1]): "tag:lower"},
        "prefer_input_order": True,
    }
    run(paths, tmp_path / "here", **params)
    run(paths, tmp_path / "there", client=cluster, **params)
    for name in ("particles_kept", "particles_rejected", "duplicates"):
        assert contents(tmp_path / "here" / name) == contents(tmp_path / "there" / name)
    assert verify(tmp_path / "there").passed
