"""Broken Parquet files and folders."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import column_with_bad_values, cryosparc, relion, write_file, write_folder
from valid_files import STAR, put

from damaged.case import case


def parquet(folder, content=None, table=None, **options):
    if content is None:
        write_file(cryosparc(30) if table is None else table, folder / "picks.parquet", **options)
        return [folder / "picks.parquet"]
    return put(folder, "picks.parquet", content)


def picks(folder, *, name="picks.parquet", rows=30, **options):
    """Write simulated picks; return the path."""
    return write_file(cryosparc(rows, **options), folder / name)


def blank(path, column, *, remove=False):
    """Blank (or remove) the bytes of a column chunk; the footer stays intact."""
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(0).column(metadata.schema.names.index(column))
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    content = path.read_bytes()
    size = chunk.total_compressed_size
    middle = b"" if remove else b"\0" * size
    path.write_bytes(content[:start] + middle + content[start + size :])
    return path


def parquet_bytes(table=None, **options):
    sink = io.BytesIO()
    pq.write_table(cryosparc(30) if table is None else table, sink, **options)
    return sink.getvalue()


@case
def parquet_empty(folder):
    return parquet(folder, b"")


@case
def parquet_of_something_else(folder):
    return parquet(folder, b"uid,x,y\n1,2,3\n" * 10)


@case
def parquet_cut_off(folder):
    return parquet(folder, parquet_bytes()[:-100])


@case
def parquet_without_its_beginning(folder):
    return parquet(folder, parquet_bytes()[100:])


@case
def parquet_encrypted(folder):
    content = parquet_bytes()
    return parquet(folder, b"PARE" + content[4:-4] + b"PARE")


@case
def parquet_footer_longer_than_the_file(folder):
    return parquet(folder, b"PAR1" + bytes(80) + b"\xff\xff\xff\x7fPAR1")


@case
def parquet_footer_of_noise(folder):
    return parquet(folder, b"PAR1" + b"\xf5" * 400 + (400).to_bytes(4, "little") + b"PAR1")


@case
def parquet_page_of_noise(folder):
    content = parquet_bytes(compression="none")
    return parquet(folder, content[:4] + b"\xf5" * 200 + content[204:])


@case
def parquet_page_that_fails_its_checksum(folder):
    content = parquet_bytes(
        pa.table({"uid": np.arange(4) + 0x1122334455667700}),
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        write_statistics=False,
    )
    at = content.index(b"\x77\x66\x55\x44\x33\x22\x11") + 3
    whole = cryosparc(4, drop=["uid"])
    write_file(whole, folder / "picks" / "a.parquet")
    assert content[at] == 0x44
    put(folder / "picks", "b.parquet", content[:at] + b"\x45" + content[at + 1 :])
    return [folder / "picks"]


@case
def parquet_text_not_utf8(folder):
    content = parquet_bytes(compression="none")
    return parquet(
        folder, content.replace(b"J1/imported/000_grid", b"J1/imported/\xff\xfe\xff_grid")
    )


@case
def parquet_row_group_of_terabytes(folder):
    table = pa.table({"uid": pa.array([1], pa.uint64())})
    content = parquet_bytes(table, use_dictionary=False, compression="none", write_statistics=False)
    return parquet(folder, with_rows(content, 2**46))


def with_rows(content, rows):
    """Change the footer of a file with one row so that it claims many rows everywhere."""
    varint, rest = bytearray(), 2 * rows
    while rest >= 128:
        varint.append(rest % 128 + 128)
        rest //= 128
    varint.append(rest)
    length = int.from_bytes(content[-8:-4], "little")
    # In Thrift: a 64-bit field with the next field number, and the value 1.
    footer = content[-8 - length : -8].replace(b"\x16\x02", b"\x16" + varint)
    return content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@case
def parquet_column_twice(folder):
    table = cryosparc(30)
    return parquet(folder, table=table.append_column("uid", table["uid"]))


@case
def parquet_no_columns(folder):
    return parquet(folder, table=pa.table({}))


@case
def parquet_empty_folder(folder):
    (folder / "picks").mkdir()
    return [folder / "picks"]


@case
def parquet_folder_of_stars(folder):
    (folder / "picks").mkdir()
    put(folder / "picks", "mic1.star", STAR)
    return [folder / "picks"]


@case
def parquet_folder_with_one_broken_file(folder):
    write_folder(cryosparc(30), folder / "picks")
    put(folder / "picks", "batch-001.parquet", b"PAR1")
    return [folder / "picks"]


@case
def parquet_folder_of_two_schemas(folder):
    write_folder(cryosparc(30), folder / "picks", files=1)
    write_file(cryosparc(30, columns={"uid": pa.array(["a"] * 30)}), folder / "picks" / "z.parquet")
    return [folder / "picks"]


@case
def parquet_one_nan_position(folder):
    return parquet(
        folder,
        table=cryosparc(30, columns=column_with_bad_values("location/center_x_frac", np.nan, [3])),
    )


@case
def parquet_one_micrograph_null(folder):
    uids = [None if row == 5 else 7 for row in range(30)]
    return parquet(
        folder,
        table=cryosparc(30, columns={"location/micrograph_uid": pa.array(uids, pa.uint64())}),
    )


@case
def parquet_positions_in_words(folder):
    return parquet(folder, table=cryosparc(30, columns={"location/center_x_frac": ["half"] * 30}))


@case
def parquet_column_named_by_an_escape(folder):
    return parquet(
        folder, table=cryosparc(30, drop=["location"], columns={"\x1b[2Jx": np.ones(30)})
    )


@case
def parquet_of_relion_without_pixel_size(folder):
    return parquet(folder, table=relion(30, drop=["rlnMicrographPixelSize"]))


@case
def parquet_folder_of_hidden_files(folder):
    picks(folder / "batches", name="_part.parquet")
    return [folder / "batches"]


@case
def parquet_of_three_bytes(folder):
    (folder / "picks.parquet").write_bytes(b"PAR")
    return [folder / "picks.parquet"]


@case
def parquet_folder_with_a_cut_file(folder):
    write_folder(cryosparc(30), folder / "batches")
    path = folder / "batches" / "batch-001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    return [folder / "batches"]


@case
def parquet_column_blanked(folder):
    return [blank(picks(folder), "location/center_x_frac")]


@case
def parquet_column_removed(folder):
    return [blank(picks(folder), "uid", remove=True)]


@case
def parquet_payload_blanked(folder):
    return [blank(picks(folder), "pick_stats/power")]
