"""`remove_duplicates` in a Dask program, on a cluster of several worker processes."""

from __future__ import annotations

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow.parquet as pq
import pytest
from distributed import wait

from dask_dedup import DedupParams, remove_duplicates
from dask_dedup.simulation import simulate_pickers

PARAMS = DedupParams(min_separation=30.0, score_field="pick_stats/ncc_score:higher")
MICROGRAPH = "location/micrograph_uid"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The inplace keyword"),  # Dask 2026.8 on pandas 3.1
]


@pytest.fixture(scope="module")
def pickers(tmp_path_factory):
    """Folders of the picks of two pickers, several files each."""
    folder = tmp_path_factory.mktemp("pickers")
    for picker in simulate_pickers(folder, particles=6_000, micrographs=30):
        (file,) = picker.glob("*.parquet")
        table = pq.read_table(file)
        file.unlink()
        for number in range(4):
            rows = table.num_rows // 4 + 1
            pq.write_table(table.slice(number * rows, rows), picker / f"part-{number}.parquet")
    return [folder / "blob", folder / "template"]


@pytest.fixture
def particles(pickers):
    with dask.config.set({"dataframe.convert-string": False}):
        yield dd.concat([dd.read_parquet(folder) for folder in pickers])


@pytest.fixture
def expected(pickers):
    """The result of pandas in this process."""
    files = [file for folder in pickers for file in sorted(folder.glob("*.parquet"))]
    return remove_duplicates(pd.concat([pd.read_parquet(file) for file in files]), PARAMS)


def test_it_is_one_step_of_a_larger_graph(cluster, particles, expected):
    """Filtered before, counted by micrograph after, all of it lazy and computed at once."""
    half = particles[particles[MICROGRAPH] % 2 == 0]
    kept, rejected = remove_duplicates(half, PARAMS)
    counts, away = dask.compute(kept.groupby(MICROGRAPH).size(), rejected.shape[0])
    same = expected[0][expected[0][MICROGRAPH] % 2 == 0].groupby(MICROGRAPH).size()
    pd.testing.assert_series_equal(counts.sort_index(), same, check_names=False)
    assert away == (expected[1][MICROGRAPH] % 2 == 0).sum() > 0


def test_results_are_those_of_pandas_and_picks_are_shuffled_between_workers(
    cluster, particles, expected, caplog
):
    kept, rejected = dask.persist(*remove_duplicates(particles, PARAMS))
    wait([kept, rejected])
    # The scheduler runs in this process and logs each shuffle between workers.
    shuffles = [line for line in caplog.messages if "initialized by task" in line]
    assert len(shuffles) == 2
    holders = {worker for workers in cluster.who_has(kept).values() for worker in workers}
    assert len(holders) == 2
    for part, same in zip((kept, rejected), expected, strict=True):
        pd.testing.assert_frame_equal(part.compute(), same)


def test_kept_particles_go_to_parquet_with_the_schema_of_the_input(
    cluster, pickers, particles, expected, tmp_path
):
    schema = pq.read_schema(pickers[0] / "part-0.parquet")
    kept = remove_duplicates(particles, PARAMS)[0]
    kept.to_parquet(tmp_path / "kept", schema=schema, write_index=False)
    rows = pd.read_parquet(tmp_path / "kept")
    assert pq.read_schema(tmp_path / "kept" / "part.0.parquet").equals(schema)
    assert len(list((tmp_path / "kept").glob("*.parquet"))) == particles.npartitions == 8
    assert rows["uid"].tolist() == expected[0]["uid"].tolist()
