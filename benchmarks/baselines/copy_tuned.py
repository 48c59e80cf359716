"""Copy with the reader and writer of dask-dedup: the practical limit. Arguments: INPUT... OUTPUT"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dask_dedup.formats import open_table
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.formats.parquet import writer

*inputs, output = map(Path, sys.argv[1:])
output.mkdir(parents=True)
work = [
    (source, table, fragment)
    for source, table in enumerate(open_table(path) for path in inputs)
    for fragment in table.fragments
]


def copy(item):
    source, table, fragment = item
    rows = parquet.read(table, fragment)
    writer.write(rows, output / f"part-{source}-{fragment.number:05d}.parquet")


with ThreadPoolExecutor(2) as pool:
    list(pool.map(copy, work))
