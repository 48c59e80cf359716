"""CryoSPARC groups: main and passthrough files are joined on uid and stay together."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import valid_files
import yaml
from test_cs import PARTICLE, message, particles, plain, rows_of, save, save_csdat, saved, split

from dask_dedup import DedupParams, run
from dask_dedup.formats import open_table
from dask_dedup.formats.cryosparc import cs, csg, npy
from dask_dedup.particles.micrographs.names import Naming
from dask_dedup.particles.micrographs.table import read_micrographs

MAIN = [
    field
    for field in PARTICLE
    if field[0] == "uid" or field[0].startswith(("alignments", "blob", "pick_stats"))
]
PASSTHROUGH = [
    field for field in PARTICLE if field[0] == "uid" or field[0].startswith(("location", "blob"))
]
MAIN_NAME, PASSTHROUGH_NAME = "J7_particles.cs", "J7_passthrough_particles.cs"
GROUP = """\
created: 2024-05-01 12:00:00.000000
group:
  description: All particles that were processed, including alignments
  name: particles
  title: All particles   # as shown
  type: particle
results:
  location:
    metafile: '>J7_passthrough_particles.cs'
    num_items: 999
    type: particle.location
  blob: {metafile: ">J7_passthrough_particles.cs", num_items: 999, type: particle.blob}
  alignments2D:
    metafile: '>J7_particles.cs'
    num_items: 999
    type: particle.alignments2D
  pick_stats:
    metafile: '>./J7_particles.cs'
    num_items: 999
    type: particle.pick_stats
version: v4.4.1
"""


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(cs, "FRAGMENT_BYTES", 20_000)
    monkeypatch.setattr(npy, "BATCH_BYTES", 3_000)


def write_group(folder, main, passthrough, text=GROUP, name="J7_particles.csg"):
    folder.mkdir(exist_ok=True)
    save(folder / MAIN_NAME, main)
    save(folder / PASSTHROUGH_NAME, passthrough)
    (folder / name).write_text(text)
    return folder / name


def members(rows, *, order=None):
    """Simulate the two files of a group; only the uids are the same in both."""
    main = particles(rows, dtype=MAIN, seed=1)
    passthrough = particles(rows, dtype=PASSTHROUGH, seed=2)
    passthrough["uid"] = main["uid"]
    return main, passthrough if order is None else passthrough[order]


def replaced(old, new):
    assert old in GROUP
    return GROUP.replace(old, new)


@pytest.mark.parametrize("shuffled", [False, True])
def test_both_files_keep_the_same_particles(tmp_path, shuffled):
    order = np.random.default_rng(3).permutation(700) if shuffled else None
    main, passthrough = members(700, order=order)
    table = open_table(write_group(tmp_path / "in", main, passthrough))
    assert table.rows == 700
    assert len(table.fragments) > 3
    keep = np.random.default_rng(4).random(700) < 0.6
    written = split(table, keep, tmp_path / "out")
    in_order = members(700)[1]
    for outcome, mask in (("kept", keep), ("rejected", ~keep)):
        folder = tmp_path / "out" / outcome
        assert (folder / MAIN_NAME).read_bytes() == saved(main[mask])
        assert (folder / PASSTHROUGH_NAME).read_bytes() == saved(in_order[mask])
        assert {entry.path for entry in written[outcome]} == {
            MAIN_NAME,
            PASSTHROUGH_NAME,
            "J7_particles.csg",
        }
        assert {entry.rows for entry in written[outcome]} == {mask.sum()}


def test_only_numbers_change_in_the_text_of_a_group(tmp_path):
    table = open_table(write_group(tmp_path / "in", *members(50)))
    split(table, np.arange(50) < 20, tmp_path / "out")
    kept = tmp_path / "out" / "kept" / "J7_particles.csg"
    expected = GROUP.replace("999", "20").replace(">./", ">")
    assert kept.read_text() == expected
    group = yaml.safe_load(kept.read_text())
    for result in group["results"].values():
        assert result["num_items"] == 20
        assert open_table(kept.parent / result["metafile"].removeprefix(">")).rows == 20


@pytest.mark.parametrize("keep", [np.zeros(50, bool), np.ones(50, bool), np.arange(50) % 3 == 0])
def test_the_output_can_be_opened(tmp_path, keep):
    table = open_table(write_group(tmp_path / "in", *members(50)))
    split(table, keep, tmp_path / "out")
    again = open_table(tmp_path / "out" / "kept" / "J7_particles.csg")
    assert again.rows == keep.sum()
    assert again.schema == table.schema
    names = ["uid", "location/micrograph_path", "location/center_x_frac"]
    assert rows_of(again, names).to_pylist() == rows_of(table, names).filter(keep).to_pylist()


def test_cryosparc_tools_joins_the_output(tmp_path):
    library = pytest.importorskip("cryosparc.dataset")
    dtypes = [[field for field in dtype if field[0] != "flag"] for dtype in (MAIN, PASSTHROUGH)]
    table = open_table(write_group(tmp_path / "in", *members(90)))
    assert dtypes == [MAIN, PASSTHROUGH]
    keep = np.arange(90) % 4 > 0
    split(table, keep, tmp_path / "out")
    files = [
        library.Dataset.load(str(tmp_path / "out" / "kept" / name))
        for name in (MAIN_NAME, PASSTHROUGH_NAME)
    ]
    joined = library.Dataset.innerjoin(*files, assert_no_drop=True)
    assert joined["uid"].tolist() == members(90)[0]["uid"][keep].tolist()


def test_a_field_comes_from_the_file_its_result_names(tmp_path):
    main, passthrough = members(40)
    path = write_group(tmp_path / "in", main, passthrough)
    table = open_table(path)
    assert table.schema.names.count("uid") == table.schema.names.count("blob/sign") == 1
    assert set(table.schema.names) == {*main.dtype.names, *passthrough.dtype.names}

    def signs():
        return rows_of(open_table(path), ["blob/sign"])["blob/sign"].to_numpy().view(np.uint32)

    np.testing.assert_array_equal(signs(), passthrough["blob/sign"].view(np.uint32))
    path.write_text(
        replaced(
            'blob: {metafile: ">J7_passthrough_particles.cs"', "blob: {metafile: '>J7_particles.cs'"
        )
    )
    np.testing.assert_array_equal(signs(), main["blob/sign"].view(np.uint32))
    path.write_text("\n".join(line for line in GROUP.splitlines() if "blob" not in line))
    np.testing.assert_array_equal(signs(), main["blob/sign"].view(np.uint32))


def test_rows_are_numbered_as_in_the_main_file(tmp_path):
    order = np.random.default_rng(3).permutation(300)
    main, passthrough = members(300, order=order)
    table = open_table(write_group(tmp_path / "in", main, passthrough))
    assert table.files[1].path.endswith(MAIN_NAME)
    assert [file.rows for file in table.files] == [0, 300, 0]
    uids = rows_of(table, ["location/center_x_frac", "uid"])["uid"].to_pylist()
    assert uids == main["uid"].tolist()
    path, row = table.fragments[1].locate(3)
    assert path.endswith(MAIN_NAME)
    assert main["uid"][row] == uids[table.fragments[1].first_row + 3]


def test_a_group_of_one_file_needs_no_uid(tmp_path):
    records = particles(30, dtype=[("location/center_x_frac", "<f4"), ("a", "<u4")][1:])
    save(tmp_path / "one.cs", records)
    (tmp_path / "one.csg").write_text("results: {a: {metafile: '>one.cs', num_items: 30}}\n")
    table = open_table(tmp_path / "one.csg")
    split(table, np.arange(30) < 9, tmp_path / "out")
    assert (tmp_path / "out" / "kept" / "one.cs").read_bytes() == saved(records[:9])


def test_a_table_can_be_pickled(tmp_path):
    main, passthrough = members(60, order=np.arange(60)[::-1])
    table = open_table(write_group(tmp_path / "in", main, passthrough))
    names = ["uid", "location/micrograph_path"]
    assert rows_of(pickle.loads(pickle.dumps(table)), names) == rows_of(table, names)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    "compressed", [(MAIN_NAME,), (PASSTHROUGH_NAME,), (MAIN_NAME, PASSTHROUGH_NAME)]
)
def test_members_stored_as_csdat(tmp_path, compressed, shuffled):
    library = pytest.importorskip("cryosparc.dataset")
    order = np.random.default_rng(3).permutation(200) if shuffled else None
    records = dict(zip((MAIN_NAME, PASSTHROUGH_NAME), members(200, order=order), strict=True))
    path = write_group(tmp_path / "in", *records.values())
    for name in compressed:
        save_csdat(path.parent / name, records[name], library)
    table = open_table(path)
    assert len(table.fragments) == 1
    keep = np.arange(200) % 3 > 0
    split(table, keep, tmp_path / "out")
    expected = dict(zip((MAIN_NAME, PASSTHROUGH_NAME), members(200), strict=True))
    for name in (MAIN_NAME, PASSTHROUGH_NAME):
        file = tmp_path / "out" / "kept" / name
        assert file.read_bytes()[1:6] == (b"CSDAT" if name in compressed else b"NUMPY")
        found = library.Dataset.load(str(file))
        assert found["uid"].tolist() == expected[name]["uid"][keep].tolist()
        assert found["blob/sign"].tobytes() == expected[name]["blob/sign"][keep].tobytes()


def test_exposures_as_micrographs(tmp_path):
    fields = [
        ("uid", "<u8"),
        ("micrograph_blob/path", "S20"),
        ("micrograph_blob/shape", "<u4", (2,)),
        ("micrograph_blob/psize_A", "<f4"),
    ]
    exposures = np.zeros(5, fields)
    exposures["uid"] = np.arange(5, dtype=np.uint64)[::-1] + np.uint64(2**63)
    exposures["micrograph_blob/path"] = [b"m%d.mrc" % number for number in range(5)]
    exposures["micrograph_blob/shape"] = (4092, 5760)
    exposures["micrograph_blob/psize_A"] = np.linspace(0.5, 1.5, 5)
    save(tmp_path / "exposures.cs", exposures)
    text = "group: {type: exposure}\nresults:\n  micrograph_blob: {metafile: '>exposures.cs'}\n"
    (tmp_path / "exposures.csg").write_text(text)
    for name in ("exposures.cs", "exposures.csg"):
        known = read_micrographs(open_table(tmp_path / name), Naming("uid"))
        assert known.keys.tolist() == sorted(exposures["uid"].tolist())
        assert known.psize.tolist() == exposures["micrograph_blob/psize_A"][::-1].tolist()
        assert known.shape.tolist() == [[4092, 5760]] * 5
        assert read_micrographs(open_table(tmp_path / name), Naming("path")).psize.size == 5


def test_a_run_of_a_group(tmp_path):
    main = plain(particles(300, seed=1, per_micrograph=50))
    passthrough = main[["uid", *(name for name in main.dtype.names if name.startswith("loc"))]]
    passthrough = np.array(
        passthrough.tolist(), [(n, main.dtype[n]) for n in passthrough.dtype.names]
    )
    main = np.array(
        [tuple(row) for row in main[["uid", "pick_stats/ncc_score"]]],
        [("uid", "<u8"), ("pick_stats/ncc_score", "<f4")],
    )
    text = GROUP.replace('passthrough_particles.cs", num', 'particles.cs", num')
    path = write_group(tmp_path / "in", main, passthrough, text)
    result = run(path, tmp_path / "out", DedupParams(min_separation=300.0))
    folder = tmp_path / "out" / "particles_kept"
    assert 0 < result.kept < 300
    group = yaml.safe_load((folder / path.name).read_text())
    assert {entry["num_items"] for entry in group["results"].values()} == {result.kept}
    kept = [np.load(folder / name) for name in (MAIN_NAME, PASSTHROUGH_NAME)]
    assert kept[0]["uid"].tolist() == kept[1]["uid"].tolist()
    mask = np.isin(main["uid"], kept[0]["uid"])
    assert kept[0].tobytes() == main[mask].tobytes()
    assert kept[1].tobytes() == passthrough[mask].tobytes()


def test_a_run_reads_files_outside_the_folder_with_allow_outside(cli, tmp_path):
    text = valid_files.GROUP.replace("'>J7_particles.cs'", "'>../elsewhere/J7_particles.cs'")
    path, out = valid_files.group(tmp_path / "J7", text), tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "J7" / MAIN_NAME).rename(tmp_path / "elsewhere" / MAIN_NAME)
    refused = cli("run", path, "--output", out)
    assert (refused.exit_code, out.exists()) == (2, False)
    assert cli("run", path, "--output", out, "--allow-outside").exit_code == 0
    kept = {file.name for file in (out / "particles_kept").iterdir()}
    assert kept == {path.name, MAIN_NAME, PASSTHROUGH_NAME}
    assert cli("verify", out).exit_code == 0


# Refused groups.


def refusal(tmp_path, text=GROUP, change=None):
    main, passthrough = members(60)
    if change:
        main, passthrough = change(main, passthrough)
    path = write_group(tmp_path / "in", main, passthrough, text)
    reason = message(open_table, path)
    assert reason.startswith(str(tmp_path / "in"))
    return reason


def other_uids(main, passthrough):
    passthrough["uid"][[3, 5, 7]] ^= 1
    return main, passthrough


def uid_twice(main, passthrough):
    main["uid"][1] = passthrough["uid"][1] = main["uid"][0]
    return main, passthrough[::-1]


def no_uid(main, passthrough):
    return main, passthrough[["location/exp_group_id"]].astype([("location/exp_group_id", "<u4")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda main, passthrough: (main, passthrough[:-2]), ("58 particles", "60")),
        (other_uids, ("lacks 3 of the 60", "3 others")),
        (uid_twice, ("more than once",)),
        (no_uid, ("no integer field uid",)),
    ],
)
def test_files_with_different_particles_are_refused(tmp_path, change, words):
    reason = refusal(tmp_path, change=change)
    assert all(word in reason for word in (*words, MAIN_NAME) if "no integer field" not in words[0])


def test_repeated_uids_are_accepted_if_the_order_is_the_same(tmp_path):
    main, passthrough = uid_twice(*members(60))
    table = open_table(write_group(tmp_path / "in", main, passthrough[::-1]))
    assert rows_of(table, ["uid"])["uid"].to_pylist() == main["uid"].tolist()


@pytest.mark.parametrize(
    "entry", [">../x.cs", "../x.cs", ">sub/../../x.cs", ">{outside}", "{outside}", ">link.cs"]
)
def test_paths_outside_the_folder_are_refused(tmp_path, entry):
    outside = save(tmp_path / "x.cs", members(60)[0])
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "link.cs").symlink_to(outside)
    entry = entry.format(outside=outside)
    text = GROUP.replace(">J7_particles.cs", entry)
    assert "outside the group's folder" in refusal(tmp_path, text)
    group = tmp_path / "in" / "J7_particles.csg"
    found = csg.find_metafile(group, "blob", entry, allow_outside=True)
    assert found.samefile(outside)


def test_a_link_inside_the_folder_is_one_file(tmp_path):
    path = write_group(tmp_path / "in", *members(60), replaced(">./J7_particles.cs", ">again.cs"))
    (path.parent / "again.cs").symlink_to(path.parent / MAIN_NAME)
    table = open_table(path)
    assert len(table.files) == 3
    split(table, np.arange(60) < 7, tmp_path / "out")
    assert open_table(tmp_path / "out" / "kept" / path.name).rows == 7


def test_a_folder_that_is_a_link(tmp_path):
    path = write_group(tmp_path / "in", *members(60))
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert open_table(tmp_path / "link" / path.name).rows == 60


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("'>J7_particles.cs'", "'>missing.cs'", "does not exist"),
        ("'>J7_particles.cs'", "'>'", "not a file name"),
        ("'>J7_particles.cs'", '"a\\0b"', "not a file name"),
        ("'>J7_particles.cs'", "'>.'", "is not a file"),
        ("'>J7_particles.cs'", "'>%s'" % ("x" * 5_000), "cannot be opened"),
        ("'>J7_particles.cs'", "'>J7_particles.csg'", "not a CryoSPARC table"),
        ("'>J7_particles.cs'", "[a, b]", "is not text"),
        ("'>J7_particles.cs'", "7", "is not text"),
        ("'>J7_particles.cs'", "", "is not text"),
        ("    metafile: '>J7_particles.cs'\n", "", "no metafile"),
        ("'>J7_particles.cs'", "'>sub/J7_passthrough_particles.cs'", "2 files named"),
        ("results:", "outcomes:", "no results"),
        ("version:", "results: }", "not a readable CryoSPARC group"),
        ("version:", "---\nversion:", "not a readable CryoSPARC group"),
    ],
)
def test_damaged_groups_are_refused(tmp_path, old, new, reason):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    save(tmp_path / "in" / "sub" / PASSTHROUGH_NAME, members(60)[1])
    assert reason in refusal(tmp_path, replaced(old, new))


BOMB = "".join(
    f"a{n}: &a{n} [{', '.join(['lol' if n == 0 else f'*a{n - 1}'] * 10)}]\n" for n in range(30)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no results"),
        (b"just text", "no results"),
        (b"- results\n- more", "no results"),
        (b"results: []", "no results"),
        (b"results: {}", "no results"),
        (b"results: {blob: 7}", "no metafile"),
        (b"results: &r {blob: *r}", "no metafile"),
        (b"results: {blob: {metafile: !!python/name:os.system x}}", "is not text"),
        (b"\x93NUMPY\1\0" + bytes(100), "not a readable"),
        (b"\xff\xfe\0", "not a readable"),
        (b"[" * 500, "not a readable"),
        (b"a: " * 1_000, "not a readable"),
        (b"# comment\n" * 200_000, "longer than 262,144 bytes"),
        (BOMB.encode(), "no results"),
    ],
)
def test_files_that_are_not_groups_are_refused(tmp_path, content, reason):
    path = tmp_path / "particles.csg"
    path.write_bytes(content)
    began = time.process_time()
    text = message(open_table, path)
    assert text.startswith(str(path))
    assert reason in text
    assert time.process_time() - began < 60


def test_aliases_are_edited_once(tmp_path):
    text = BOMB + (
        "results:\n  blob: &entry {metafile: '>J7_particles.cs', num_items: 999}\n"
        "  alignments2D: *entry\nsummary: [{num_items: 999}]\nversions: [4, 5]\n"
    )
    table = open_table(write_group(tmp_path / "in", *members(60), text))
    split(table, np.arange(60) < 11, tmp_path / "out")
    kept = (tmp_path / "out" / "kept" / "J7_particles.csg").read_text()
    assert kept == text.replace("999", "11")


def test_line_ends_and_marks_of_windows(tmp_path):
    path = write_group(tmp_path / "in", *members(60))
    content = b"\xef\xbb\xbf# \xc2\xb5\r\n" + GROUP.replace("\n", "\r\n").encode()
    path.write_bytes(content)
    split(open_table(path), np.arange(60) < 11, tmp_path / "out")
    kept = (tmp_path / "out" / "kept" / path.name).read_bytes()
    assert kept == content.replace(b"999", b"11").replace(b">./", b">")


def test_a_name_with_a_quote(tmp_path):
    path = write_group(tmp_path / "in", *members(60))
    (path.parent / "sub").mkdir()
    (path.parent / MAIN_NAME).rename(path.parent / "sub" / "it's µ.cs")
    path.write_text(
        GROUP.replace("'>J7_particles.cs'", '">sub/it\'s µ.cs"').replace(
            "'>./J7_particles.cs'", ">-\n      >sub/it's µ.cs"
        )
    )
    split(open_table(path), np.arange(60) < 11, tmp_path / "out")
    again = tmp_path / "out" / "kept" / path.name
    assert open_table(again).rows == 11
    files = {entry["metafile"] for entry in yaml.safe_load(again.read_text())["results"].values()}
    assert files == {">it's µ.cs", ">J7_passthrough_particles.cs"}
