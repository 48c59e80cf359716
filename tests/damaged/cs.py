"""Broken .cs files of both kinds."""

from __future__ import annotations

import io

import numpy as np
from valid_files import csdat, npy, part, put, records

from damaged.case import case


def cs(folder, content):
    return put(folder, "picks.cs", content)


def header(text, body=b""):
    padded = text.encode() + b" " * (-len(text) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(padded).to_bytes(2, "little") + padded + body


def described(descr, shape="(1,)", body=b"\0" * 8, order="False"):
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}", body)


@case
def cs_empty(folder):
    return cs(folder, b"")


@case
def cs_of_an_unknown_kind(folder):
    return cs(folder, b"PK\3\4" + bytes(100))


@case
def npy_pickled(folder):
    file = io.BytesIO()
    np.save(file, np.array([{"uid": 1}], dtype=object), allow_pickle=True)
    return cs(folder, file.getvalue())


@case
def npy_pickled_in_one_field(folder):
    return cs(folder, described("[('uid', '<u8'), ('location/micrograph_path', '|O')]"))


@case
def npy_cut_off_in_the_magic(folder):
    return cs(folder, npy(records())[:9])


@case
def npy_cut_off_in_the_header(folder):
    return cs(folder, npy(records())[:60])


@case
def npy_cut_off_in_the_rows(folder):
    return cs(folder, npy(records())[:-10])


@case
def npy_with_extra_bytes(folder):
    return cs(folder, npy(records()) + b"more")


@case
def npy_header_that_is_code(folder):
    return cs(folder, header("__import__('os').system('touch /tmp/was-here')"))


@case
def npy_header_of_deep_brackets(folder):
    return cs(folder, header("(" * 30_000))


@case
def npy_claims_exabytes(folder):
    return cs(folder, described("[('uid', '<u8')]", "(4611686018427387904,)"))


@case
def npy_claims_negative_rows(folder):
    return cs(folder, described("[('uid', '<u8')]", "(-1,)"))


@case
def npy_record_of_gigabytes(folder):
    return cs(folder, described("[('uid', '<u8'), ('blob', '|S2147483647')]"))


@case
def npy_of_two_dimensions(folder):
    return cs(folder, described("[('uid', '<u8')]", "(1, 1)"))


@case
def npy_plain_numbers(folder):
    return cs(folder, npy(np.arange(5.0)))


@case
def npy_field_named_by_an_escape(folder):
    return cs(folder, described(r"[('\x1b[2J', '<u8')]"))


@case
def npy_version_3(folder):
    return cs(folder, npy(records()).replace(b"\x93NUMPY\1", b"\x93NUMPY\3"))


@case
def npy_without_positions(folder):
    return cs(folder, npy(part(records(), "uid", "pick_stats")))


@case
def npy_nan_positions(folder):
    return cs(folder, npy(records(location__center_x_frac=[0, np.nan, 1, np.inf, 0, 0])))


@case
def npy_one_nan_position(folder):
    return cs(folder, npy(records(location__center_y_frac=[0, 0, np.nan, 0, 0, 0])))


@case
def npy_uid_twice(folder):
    return cs(folder, npy(records(uid=[1, 2, 3, 4, 5, 5])))


@case
def npy_shapes_of_zero(folder):
    return cs(folder, npy(records(location__micrograph_shape=0)))


# CSDAT


@case
def csdat_cut_off_in_the_magic(folder):
    return cs(folder, csdat(records())[:8])


@case
def csdat_cut_off_in_the_header(folder):
    return cs(folder, csdat(records())[:100])


@case
def csdat_cut_off_in_a_column(folder):
    return cs(folder, csdat(records(), compressed=False)[:-300])


@case
def csdat_header_of_4_gigabytes(folder):
    content = csdat(records())
    return cs(folder, content[:6] + b"\xff\xff\xff\xff" + content[10:])


@case
def csdat_header_not_json(folder):
    return cs(folder, csdat(records()).replace(b'{"length"', b'["length"'))


@case
def csdat_header_without_fields(folder):
    return cs(folder, csdat(records(), dtype=[]))


@case
def csdat_claims_exabytes(folder):
    return cs(folder, csdat(records(), length=2**47))


@case
def csdat_claims_more_rows_than_it_has(folder):
    return cs(folder, csdat(records(), compressed=False, length=7))


@case
def csdat_claims_fewer_rows_than_it_has(folder):
    return cs(folder, csdat(records(), length=5))


@case
def csdat_unknown_compression(folder):
    return cs(folder, csdat(records(), compression="brotli"))


@case
def csdat_column_of_4_gigabytes(folder):
    content = csdat(part(records(), "uid"), compressed=False)
    at = 10 + int.from_bytes(content[6:10], "little")
    return cs(folder, content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])


@case
def csdat_column_of_noise(folder):
    content = csdat(records())
    at = 14 + int.from_bytes(content[6:10], "little")
    return cs(folder, content[:at] + b"\xf0" * 20 + content[at + 20 :])


@case
def csdat_text_outside_the_heap(folder):
    content = csdat(records(), compressed=False)
    first = (1).to_bytes(8, "little")
    return cs(folder, content.replace(first, (2**63).to_bytes(8, "little")))


@case
def csdat_text_without_an_end(folder):
    return cs(folder, csdat(records())[:-1])
