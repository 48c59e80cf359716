"""Fragments: their sizes, which grow with the table, and the partition folders they hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from threading import Event, Semaphore

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cryosparc, write_file

from dask_dedup.formats import open_table
from dask_dedup.formats.base import FileSlice, Fragment, fragment_bytes
from dask_dedup.formats.parquet import fragments as module
from dask_dedup.formats.parquet.fragments import make_folder_fragments, make_fragments
from dask_dedup.pipeline.executors.memory import WRITING_FACTOR, WritingMemory

MB = 2**20
#: Bytes of 41 columns.
ROW_BYTES = 250


def row_groups(sizes, keys=(), path="a.parquet", rows=1):
    return [
        (FileSlice(path, number * rows, rows, (number,), keys), size)
        for number, size in enumerate(sizes)
    ]


def blocks(fragments):
    return [
        (part.path, block)
        for fragment in fragments
        for part in fragment.slices
        for block in part.blocks
    ]


@pytest.mark.parametrize("rows_of_a_group", [20_000, 122_880, 1_000_000])
@pytest.mark.parametrize(
    ("rows", "most"), [(10**6, 12), (5 * 10**6, 51), (10**8, 250), (10**9, 2_000)]
)
def test_a_table_of_41_columns_has_few_fragments(rows, most, rows_of_a_group):
    groups = row_groups([rows_of_a_group * ROW_BYTES] * (rows // rows_of_a_group))
    found = make_fragments(groups, 0, 24 * MB)
    assert len(found) <= most
    assert max(each.bytes for each in found) <= 256 * MB
    assert blocks(found) == [(part.path, part.blocks[0]) for part, _ in groups]


def test_files_of_a_large_table_have_64_to_256_megabytes_before_compression():
    found = make_fragments(row_groups([30 * MB] * 4_000), 0, 24 * MB)
    sizes = [each.bytes for each in found]
    assert 64 * MB <= min(sizes) <= max(sizes) <= 256 * MB


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 400))
def test_fragments_hold_each_row_group_once_and_are_not_too_large(sizes, least):
    found = make_fragments(row_groups(sizes), 3, least)
    assert blocks(found) == [("a.parquet", number) for number in range(len(sizes))]
    assert [each.number for each in found] == list(range(len(found)))
    assert {each.source for each in found} == {3}
    assert [each.first_row for each in found] == np.cumsum(
        [0, *(e.rows for e in found[:-1])]
    ).tolist()
    target = fragment_bytes(sum(sizes), least)
    assert all(each.bytes <= target or each.rows == 1 for each in found)
    firsts = [sizes[each.first_row] for each in found]
    assert all(each.bytes + first > target for each, first in zip(found, firsts[1:], strict=False))


folders = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=8)


@given(folders, st.integers(1, 100))
def test_the_pieces_of_a_folder_do_not_depend_on_other_folders(sizes, least):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE_BYTES", 20)
        groups = [
            row_groups(of_one, (("session", f"s{number}"),), f"{number}.parquet")
            for number, of_one in enumerate(sizes)
        ]
        together = make_folder_fragments([each for one in groups for each in one], 0, least)
        alone = [make_folder_fragments(one, 0, 10**9) for one in groups]
    assert blocks(together) == [each for one in alone for each in blocks(one)]
    parts = [part for fragment in together for part in fragment.parts]
    assert parts == [part for one in alone for fragment in one for part in fragment.parts]
    assert all(sum(part.rows for part in each.parts) == each.rows for each in together)
    for number, (_, found) in enumerate(groupby(parts, key=lambda part: part.keys)):
        pieces = list(found)
        assert {part.first for part in pieces} == {groups[number][0][0]}


def test_small_folders_share_a_fragment_and_large_ones_are_divided():
    small = [
        each
        for number in range(30)
        for each in row_groups([2 * MB], (("session", number),), f"{number}.parquet")
    ]
    large = row_groups([30 * MB] * 40, (("session", 99),), "99.parquet")
    found = make_folder_fragments([*small, *large], 0, 24 * MB)
    shared = [each for each in found if len({part.keys for part in each.parts}) > 1]
    assert sum(len(each.parts) for each in shared) >= 24
    assert all(each.bytes <= 26 * MB for each in shared)
    pieces = [part for each in found for part in each.parts if part.keys == (("session", 99),)]
    assert [part.rows for part in pieces] == [8] * 5


def test_a_billion_rows_in_folders_have_few_fragments():
    """In 2,500 folders, and in one."""
    folder = [30 * MB] * 3 + [10 * MB]
    many = [
        each
        for number in range(2_500)
        for each in row_groups(folder, (("session", number),), f"{number}.parquet")
    ]
    one = row_groups([30 * MB] * 8_000, (("session", 0),))
    for groups in (many, one):
        assert len(make_folder_fragments(groups, 0, 24 * MB)) <= 2_000


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("session=a", "session=b"), ("session",)),
        (("session=a/pass=1", "session=b/pass=2"), ("session", "pass")),
        (("session=a", "picks"), ("session",)),
        (("session=a/pass=1", "pass=1/session=b"), ()),
    ],
)
def test_a_table_is_partitioned_by_the_keys_of_all_its_folders(tmp_path, folders, expected):
    for folder in folders:
        write_file(cryosparc(20), tmp_path / "in" / folder / "a.parquet")
    table = open_table(tmp_path / "in")
    assert table.partitions == expected
    parts = [dict(part.keys) for fragment in table.fragments for part in fragment.parts]
    assert [tuple(keys) for keys in parts] == [expected] * len(parts)
    assert bool(parts) == bool(expected)


def test_a_key_that_is_also_a_column_does_not_partition_a_table(tmp_path):
    table = cryosparc(20, columns={"session": ["a"] * 20})
    write_file(table, tmp_path / "in" / "session=a" / "a.parquet")
    write_file(cryosparc(20), tmp_path / "in" / "session=b" / "b.parquet")
    assert open_table(tmp_path / "in").partitions == ()


def test_a_folder_has_the_same_types_alone(tmp_path):
    """The categories of a file of pandas have 8-bit indices."""
    categories = (
        pa.array(["x", "y"] * 10).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
    )
    table = cryosparc(20, columns={"picker": categories})
    for name in "ab":
        path = tmp_path / "in" / f"session={name}" / "a.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path)
    both = open_table(tmp_path / "in").schema.field("picker")
    (tmp_path / "in" / "session=b" / "a.parquet").unlink()
    assert open_table(tmp_path / "in").schema.field("picker") == both


class TestMemory:
    """Threads that reserve memory for fragments of one size."""

    def check(self, memory, fragment, expected, threads=4):
        """Check how many of some threads have memory at the same time."""
        begun, end = Semaphore(0), Event()

        def write():
            with memory.reserved(fragment):
                begun.release()
                end.wait(60)

        with ThreadPoolExecutor(threads) as pool:
            for _ in range(threads):
                pool.submit(write)
            try:
                assert all(begun.acquire(timeout=30) for _ in range(expected))
                assert not begun.acquire(timeout=0.05)
            finally:
                end.set()
            assert all(begun.acquire(timeout=30) for _ in range(threads - expected))

    def fragment(self, size):
        return Fragment(0, 0, 0, 1, (), size)

    @pytest.mark.parametrize(("fits", "expected"), [(0, 1), (1, 1), (2.5, 2), (3, 3), (9, 4)])
    def test_so_many_fragments_are_written_at_once_as_fit(self, fits, expected):
        memory = WritingMemory(fits * WRITING_FACTOR * 100)
        self.check(memory, self.fragment(100), expected)

    def test_a_worker_with_the_least_memory_writes_small_fragments_in_all_threads(self):
        from dask_dedup.cluster.memory import least_memory

        memory = WritingMemory.of_worker(least_memory(4))
        self.check(memory, self.fragment(24 * MB), 4)
        self.check(memory, self.fragment(128 * MB), 1)
        self.check(WritingMemory.of_worker(None), self.fragment(128 * MB), 4)

    def test_memory_is_free_again_after_an_error(self):
        memory = WritingMemory(1)
        with pytest.raises(ValueError, match="x"), memory.reserved(self.fragment(9)):
            raise ValueError("x")
        with memory.reserved(self.fragment(9)):
            pass
