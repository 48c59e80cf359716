"""Copy with two threads and pyarrow: zstd 1, dictionaries for text. Arguments: INPUT... OUTPUT"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

*inputs, output = map(Path, sys.argv[1:])
output.mkdir(parents=True)


def copy(numbered):
    number, path = numbered
    target = output / f"part-{number:05d}.parquet"
    text = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": text}
    with (
        pq.ParquetFile(path, read_dictionary=text) as source,
        pq.ParquetWriter(target, source.schema_arrow, **options) as writer,
    ):
        for group in range(source.num_row_groups):
            writer.write_table(source.read_row_group(group, use_threads=False))


paths = sorted(path for folder in inputs for path in folder.glob("*.parquet"))
with ThreadPoolExecutor(2) as pool:
    list(pool.map(copy, enumerate(paths)))
