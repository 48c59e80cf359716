"""Copy with the reader and writer of dask-dedup: the practical limit. Arguments: INPUT... OUTPUT"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dask_dedup.formats import open_table
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet import writer
from dask_dedup.formats.parquet.encoding import SAMPLE_ROWS, choose_encodings

*inputs, output = map(Path, sys.argv[1:])
output.mkdir(parents=True)
tables = [open_table(path, source) for source, path in enumerate(inputs)]
encodings = [
    choose_encodings(table.schema, "auto", parquet.read_sample(table, SAMPLE_ROWS))
    for table in tables
]
work = [fragment for table in tables for fragment in table.fragments]


def copy(fragment):
    table = tables[fragment.source]
    path = output / f"part-{fragment.source}-{fragment.number:05d}.parquet"
    writer.write(parquet.read(table, fragment), table.schema, encodings[fragment.source], path)


with ThreadPoolExecutor(2) as pool:
    list(pool.map(copy, work))
