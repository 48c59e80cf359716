"""Real STAR files of many programs are split without a change; real shifts make real duplicates."""

from __future__ import annotations

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from converters import read_dynamo
from scipy.spatial import cKDTree
from tables import Output

from dask_dedup import DedupParams, run, verify
from dask_dedup.formats import open_table, read

pytestmark = pytest.mark.real_data

#: Path, and the parameters that the file lacks.
STARS = {
    "cryosegnet_empiar10017/sample.star": {"micrograph_pixel_size": 1.77},
    "micrograph_cleaner/Ucsf_stack_1142_DW_autopick.star": {
        "micrograph_pixel_size": 1.0,
        "score_field": "ncc_score",
        "min_separation": 50.0,
    },
    "dynamo2m_chemoreceptor/warp2dynamo_example.star": {
        "min_separation": 25.0,
    },
    "napari_starfile/example_particles.star": {
        "micrograph_pixel_size": 20.712,
        "score_field": "rlnLCCmax:higher",
        "min_separation": 100.0,
    },
    "napari_starfile/example_particles_with_optics.star": {
        "micrograph_pixel_size": 4.0,
        "score_field": "rlnMaxValueProbDistribution:higher",
        "min_separation": 90.0,
    },
    "mtcurvefit/CCDC147C_001_particles_fitted.star": {
        "micrograph_pixel_size": 1.0,
        "min_separation": 5.0,
    },
    "cylindra_relion5/refine3d_run_it050_data.star": {},
}


def particle_lines(path):
    """Return the lines of the particle rows as bytes."""
    table = open_table(path)
    content = path.read_bytes()
    spans = [piece.blocks for fragment in table.fragments for piece in fragment.slices]
    return [
        line
        for start, end in spans
        for line in content[start:end].splitlines(keepends=True)
        if line.strip()
    ]


@pytest.mark.parametrize("name", STARS)
def test_every_real_star_is_split_row_for_row(real_data, tmp_path, name):
    gemmi = pytest.importorskip("gemmi")
    path = real_data / name
    result = run(path, tmp_path / "out", DedupParams(**{"score_field": "none", **STARS[name]}))
    outputs = [
        tmp_path / "out" / folder / path.name for folder in ("particles_kept", "particles_rejected")
    ]
    kept, rejected = map(particle_lines, outputs)
    whole = particle_lines(path)
    assert (len(kept), len(rejected)) == (result.kept, result.rejected)
    assert sorted(kept + rejected) == sorted(whole)
    position = {line: n for n, line in enumerate(whole)}
    if len(position) == len(whole):
        for part in (kept, rejected):
            assert part == sorted(part, key=position.__getitem__)
    blocks = [block.name for block in gemmi.cif.read(str(path))]
    assert [[block.name for block in gemmi.cif.read(str(out))] for out in outputs] == [blocks] * 2
    assert verify(tmp_path / "out").passed


def test_filaments_lose_about_as_many_rows_as_with_the_tool_of_their_authors(real_data, tmp_path):
    """The tool removed 20 overlapping rows of 1,023."""
    path = real_data / "mtcurvefit" / "CCDC147C_001_particles_fitted.star"
    params = DedupParams(min_separation=5.0, micrograph_pixel_size=1.0, score_field="none")
    rows = read_star(path)
    assert len(rows) == 1_023
    ranks = [
        oracle.rank_tuple(uid=uid, row=row) for row, uid in enumerate(oracle.content_hashes(rows))
    ]
    centres = [[row[f"rlnCoordinate{axis}"] for axis in "XYZ"] for row in rows]
    winner, _ = oracle.greedy(centres, [row["rlnTomoName"] for row in rows], ranks, 5.0)
    expected = {row: won for row, won in enumerate(winner.tolist()) if won >= 0}
    assert len(expected) == 20
    run(path, tmp_path / "out", params)
    found = Output(tmp_path / "out").decisions.items()
    assert {row: won for (_, row), ((_, won), _) in found} == expected


def read_star(path):
    """Return the rows of a STAR file with one table as dicts; values are numbers where they can be."""
    lines = path.read_text().splitlines()
    labels = [line.split()[0][1:] for line in lines if line.startswith("_")]
    last = max(n for n, line in enumerate(lines) if line.startswith("_"))

    def parse(text):
        try:
            return float(text)
        except ValueError:
            return text

    rows = (list(map(parse, line.split())) for line in lines[last + 1 :] if line.strip())
    return [dict(zip(labels, row, strict=True)) for row in rows]


@pytest.fixture
def dynamo(real_data):
    path = real_data / "dynamo2m_chemoreceptor" / "dynamo2warp_example.tbl"
    return path, read_dynamo(path, 1.0)


@pytest.mark.parametrize(
    ("reach", "with_shift", "without"), [(0.5, 165, 0), (1, 178, 0), (2, 197, 2)]
)
def test_duplicates_of_chemoreceptors_appear_only_after_shifts(dynamo, reach, with_shift, without):
    _, table = dynamo
    column = {name: np.asarray(table.column(name)) for name in table.column_names}
    stored = np.column_stack([column[f"rlnCoordinate{axis}"] for axis in "XYZ"])
    shift = np.column_stack([column[f"rlnOrigin{axis}Angst"] for axis in "XYZ"])
    for centres, pairs in ((stored - shift, with_shift), (stored, without)):
        trees = [cKDTree(centres[column["rlnTomoName"] == t]) for t in set(column["rlnTomoName"])]
        assert sum(len(tree.query_pairs(reach)) for tree in trees) == pairs


@pytest.mark.parametrize(
    ("reach", "rejected", "converted"), [(2, 191, True), (8, 825, True), (8, 825, False)]
)
def test_chemoreceptors_lose_as_many_as_in_a_greedy_walk(
    dynamo, tmp_path, reach, rejected, converted
):
    path, table = dynamo
    options = {"micrograph_pixel_size": 1.0}
    if converted:
        path = tmp_path / "converted.parquet"
        pq.write_table(table, path)
        options = {"score_field": "rlnLCCmax:higher"}
    result = run(path, tmp_path / "out", min_separation=reach, **options)
    assert (result.rows, result.rejected) == (4934, rejected)


def test_an_empty_cs_of_cryosparc(real_data, tmp_path):
    path = real_data / "cryosparc_schema" / "4k_dataset.cs"
    result = run(path, tmp_path / "out")
    assert (result.rows, result.kept) == (0, 0)
    kept = np.load(tmp_path / "out" / "particles_kept" / path.name)
    assert kept.dtype == np.load(path).dtype


def test_relion_5_positions_are_centred_and_in_angstrom(real_data):
    table = open_table(real_data / "cylindra_relion5" / "refine3d_run_it050_data.star")
    columns = ["rlnTomoName", "rlnCenteredCoordinateXAngst"]
    rows = pa.concat_tables([read(table, part, columns) for part in table.fragments])
    assert rows.num_rows == table.rows
    assert np.asarray(rows.column(1)).min() < 0
