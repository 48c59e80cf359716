"""Remove duplicates from tables in an object store, and read the files in the manifest.

    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_ENDPOINT_URL=https://minio.lab:9000
    python examples/object_store.py --bucket picks

The program simulates two pickers and copies the tables to ``s3://BUCKET/dask-dedup-example/``. It
removes the duplicates, verifies the result and reads it. Without AWS_ENDPOINT_URL, the store is
Amazon S3.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile

import pyarrow.parquet as pq
from upath import UPath

import dask_dedup
from dask_dedup import DedupError, DedupParams
from dask_dedup.simulation import simulate_pickers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--particles", type=int, default=20_000)
    options = parser.parse_args()
    folder = UPath(f"s3://{options.bucket}/dask-dedup-example")

    with tempfile.TemporaryDirectory() as scratch:
        for table in simulate_pickers(
            f"{scratch}/picks",
            particles=options.particles,
            micrographs=max(1, options.particles // 330),
            pickers=("template", "blob"),
        ):
            for file in table.glob("*.parquet"):
                folder.fs.put_file(str(file), (folder / table.name / file.name).path)

    inputs = [str(folder / "template"), str(folder / "blob")]
    params = DedupParams(prefer_input_order=True)
    result = dask_dedup.run(inputs, str(folder / "result"), params, overwrite=True)
    print(f"{result.rows:,} particles, {result.kept:,} kept, {result.rejected:,} rejected")
    print(dask_dedup.verify(str(folder / "result")).lines()[-1])

    # The folder can also have leftovers of an interrupted run. The manifest lists only the result.
    manifest = json.loads((folder / "result" / "manifest.json").read_text())
    paths = [entry["path"] for entry in manifest["outputs"]]
    kept = [(folder / "result" / path).path for path in paths if path.startswith("particles_kept/")]
    table = pq.read_table(kept, filesystem=folder.fs, columns=["uid"])
    print(
        f"{table.num_rows:,} rows in the {len(kept)} files of particles_kept that the manifest lists"
    )


if __name__ == "__main__":
    try:
        main()
    except (DedupError, OSError) as error:
        sys.exit(str(error))
