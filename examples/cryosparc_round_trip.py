"""CryoSPARC round trip: read result groups, and write result groups for *Import Result Group*.

The program simulates the picks of pickers in the format of CryoSPARC, and removes the
duplicates. A group is a .csg file with the names of a .cs file and of a passthrough file::

    python examples/cryosparc_round_trip.py --output round_trip

For your own groups::

    dask-dedup run J10/J10_particles.csg J12/J12_particles.csg --output round_trip
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml

from dask_dedup import DedupError, DedupParams, run
from dask_dedup.simulation import simulate_pickers


def records_of(folder: Path) -> np.ndarray:
    """Return the particles of a simulated picker as the structured array of a .cs file."""
    table = pq.read_table(folder)
    columns = {}
    for name in table.column_names:
        values = table.column(name).to_numpy()
        if values.dtype == object:
            texts = isinstance(values[0], str)
            values = values.astype(bytes) if texts else np.stack(values)
        columns[name] = values
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    records = np.empty(table.num_rows, dtype=kinds)
    for name, values in columns.items():
        records[name] = values
    return records


def write_group(records: np.ndarray, folder: Path, job: str) -> Path:
    """Write a group. One file has the results of the job, and the passthrough file has the other fields."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for part, prefixes in (
        ("particles", ("pick_stats", "alignments2D")),
        ("passthrough_particles", ("location",)),
    ):
        fields = ["uid", *(n for n in records.dtype.names if n.partition("/")[0] in prefixes)]
        part_records = np.empty(records.size, [(name, records.dtype[name]) for name in fields])
        for name in fields:
            part_records[name] = records[name]
        with (folder / f"{job}_{part}.cs").open("wb") as file:
            np.save(file, part_records)
        for prefix in prefixes:
            results[prefix] = {
                "metafile": f">{job}_{part}.cs",
                "num_items": records.size,
                "type": f"particle.{prefix}",
            }
    group = {"name": "particles", "title": "Particles", "type": "particle"}
    content = {
        "created": "2026-01-01 00:00:00",
        "group": group,
        "results": results,
        "version": "v4.7",
    }
    path = folder / f"{job}_particles.csg"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=5_000)
    args = parser.parse_args()
    groups = []
    pickers = simulate_pickers(args.output / "picks", particles=args.particles)
    for number, folder in enumerate(pickers, start=10):
        job = f"J{number}"
        groups.append(write_group(records_of(folder), args.output / job, job))
    result = run(groups, args.output / "result", DedupParams(prefer_input_order=True))
    for group in groups:
        counts = []
        for outcome in ("particles_kept", "particles_rejected"):
            listed = yaml.safe_load((result.output / outcome / group.name).read_text())["results"]
            (count,) = {entry["num_items"] for entry in listed.values()}
            counts.append(count)
        print(f"{group.name}: {counts[0]:,} kept, {counts[1]:,} rejected")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None
