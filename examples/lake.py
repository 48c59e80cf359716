"""Publish a week of sessions as Delta tables, and query them. Run this as a script or cell by cell.

::

    pip install 'dask-dedup[delta]' duckdb
    python examples/lake.py --output week
"""

# %% A week of sessions with two pickers each
from __future__ import annotations

import argparse
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

import dask_dedup
from dask_dedup import DedupParams
from dask_dedup.simulation import simulate_pickers

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--output", type=Path, default=Path("week"))
parser.add_argument("--particles", type=int, default=2_000)
parser.add_argument("--days", type=int, default=7)
args = parser.parse_args()
SCORE = "pick_stats/ncc_score"


def spoil(picks: Path, day: int) -> None:
    """Lower the scores a little every day, and repeat a micrograph on day 4."""
    for file in sorted(picks.rglob("template/*.parquet")):
        table = pq.read_table(file)
        weaker = np.asarray(table[SCORE]) * np.float32(1 - 0.03 * day)
        table = table.set_column(table.column_names.index(SCORE), SCORE, pa.array(weaker))
        if day == 4:
            first = table["location/micrograph_uid"][0]
            again = table.filter(pa.compute.equal(table["location/micrograph_uid"], first))
            uids = np.asarray(again["uid"]) ^ np.uint64(1 << 40)
            table = pa.concat_tables([table, again.set_column(0, "uid", pa.array(uids))])
        pq.write_table(table, file)


# %% For each session: remove the duplicates and publish the three tables
lake = args.output / "lake"
for day in range(1, args.days + 1):
    session = f"2024-03-{day + 3:02}"
    folder = args.output / session
    pickers = simulate_pickers(
        folder / "picks",
        particles=args.particles,
        micrographs=max(1, args.particles // 100),
        pickers=("template", "blob"),
        seed=day,
    )
    spoil(folder / "picks", day)
    result = dask_dedup.run(pickers, folder / "result", DedupParams(prefer_input_order=True))
    for table in ("kept", "rejected", "duplicates"):
        dask_dedup.publish(
            result.output, delta=lake / table, table=table, tags={"session": session}
        )
    print(f"{session}: {result.kept:,} of {result.rows:,} particles kept")

# %% Open the tables in DuckDB
connection = duckdb.connect()
for table in ("kept", "rejected", "duplicates"):
    connection.register(table, DeltaTable(str(lake / table)).to_pyarrow_table())

# %% Run the queries of examples/lake.sql
for question in (Path(__file__).parent / "lake.sql").read_text().split("\n\n")[1:]:
    title = question.partition("\n")[0].removeprefix("-- ")
    print(f"\n{title}")
    print(connection.sql(question))

# %% Look up a rejected particle and its winner
lost = "select uid, winner_uid, distance_A from duplicates limit 1"
((uid, winner, distance),) = connection.sql(lost).fetchall()
print(f"particle {uid} is {distance:.1f} A from {winner}, which was kept:")
print(connection.sql(f'select session, input_name, "{SCORE}" from kept where uid = {winner}'))
