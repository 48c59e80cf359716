"""Choose how the Parquet columns are encoded and compressed, once for all files of a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dask_dedup.formats.parquet.schema import held_schema, is_list

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Values of the parameter `compression`.
COMPRESSIONS: tuple[str, ...] = ("auto", "zstd", "lz4", "snappy", "none")
#: The encodings of a table are chosen from the values in this many rows.
SAMPLE_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Encodings:
    """Encodings of a table's columns. Columns have their Parquet paths, such as ``a.list.element``.

    Attributes
    ----------
    codecs : tuple of (str, str)
        Path and compression codec of each column.
    dictionaries, byte_streams, deltas : tuple of str
        Columns with dictionary encoding, byte-stream-split encoding and delta encoding of integers, respectively.
    statistics : tuple of str
        Columns with statistics (minimum and maximum) in the file.
    """

    codecs: tuple[tuple[str, str], ...]
    dictionaries: tuple[str, ...]
    byte_streams: tuple[str, ...]
    deltas: tuple[str, ...]
    statistics: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments for `pyarrow.parquet.ParquetWriter`."""
        encodings = dict.fromkeys(self.byte_streams, "BYTE_STREAM_SPLIT")
        encodings |= dict.fromkeys(self.deltas, "DELTA_BINARY_PACKED")
        return {
            "compression": dict(self.codecs),
            "compression_level": {path: 1 for path, codec in self.codecs if codec == "zstd"},
            "use_dictionary": list(self.dictionaries) or False,
            "column_encoding": encodings or None,
            "write_statistics": list(self.statistics) or False,
        }


def choose_encodings(
    schema: pa.Schema, compression: str, sample: Mapping[str, pa.ChunkedArray] | None = None
) -> Encodings:
    """Choose the encodings of a table's columns.

    Dictionary encoding is used for text, and for numbers that repeat in the sample. For other numbers, dictionary
    encoding takes 4 to 9 times as long.

    ``auto`` compresses numbers with LZ4 and other columns with zstd. It also chooses these encodings:

    - byte-stream-split for other floats;
    - without a sample, delta encoding for int64. In the tables of a run's result, int64 columns are row numbers.

    Other values of `compression` are the codec for all columns. Only dictionary encoding is used, because some
    readers do not know the other encodings.

    Text that does not repeat has no statistics. Statistics would take a fifth of the writing time, and a search could
    not skip rows with them.

    Parameters
    ----------
    schema : pyarrow.Schema
    compression : str
        One of `COMPRESSIONS`.
    sample : mapping of str to pyarrow.ChunkedArray, optional
        The first `SAMPLE_ROWS` values of each column. Encodings of columns without a sample depend on their types.
    """
    held = held_schema(schema)
    auto = compression == "auto"
    codecs = dict.fromkeys(_column_paths(held), "zstd" if auto else compression)
    dictionaries, byte_streams, deltas, without_statistics = [], [], [], set()
    for field in held:
        path, kind, values = field.name, field.type, (sample or {}).get(field.name)
        while is_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
            values = None if values is None else pc.list_flatten(values)
        if pa.types.is_dictionary(kind):
            dictionaries.append(path)
            if values is not None and len(values.unique()) * 2 > len(values):
                without_statistics.add(path)
            continue
        if not pa.types.is_primitive(kind) or kind in (pa.bool_(), pa.float16()):
            continue
        if values is None:
            is_constant, repeats = False, kind.bit_width <= 16
        else:
            distinct = len(values.unique())
            is_constant, repeats = distinct == 1, distinct * 2 <= len(values)
        if auto:
            codecs[path] = "lz4"
        if repeats and not (
            auto and is_constant
        ):  # for a single repeated value, LZ4 is faster than a dictionary
            dictionaries.append(path)
        elif auto and not is_constant and pa.types.is_floating(kind):
            byte_streams.append(path)
        elif auto and values is None and kind == pa.int64():
            deltas.append(path)
    statistics = tuple(path for path in codecs if path not in without_statistics)
    return Encodings(
        codecs=tuple(codecs.items()),
        dictionaries=tuple(dictionaries),
        byte_streams=tuple(byte_streams),
        deltas=tuple(deltas),
        statistics=statistics,
    )


@lru_cache(maxsize=8)
def encodings_by_type(schema: pa.Schema, compression: str) -> Encodings:
    """Choose the encodings of a table's columns by their types."""
    return choose_encodings(schema, compression)


def _column_paths(schema: pa.Schema) -> list[str]:
    """Return the path of each column in a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    columns = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [columns.column(number).path for number in range(len(columns))]
