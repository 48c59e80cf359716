"""`copick process dedup`: picks of a copick project, with copick itself."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from oracle import greedy, rank_tuple

import dask_dedup
from dask_dedup.integrations.copick import remove_duplicate_picks

pytest.importorskip("copick")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import copick
    from copick.cli.cli import cli as copick_commands

#: Of the environment, in which copick looks for plugins.
COPICK = Path(sys.executable).with_name("copick")
OUTPUT = "ribosome:dask-dedup/1"
REJECTED = "ribosome:rejected/1"

# copick and its libraries use what newer versions deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def write_config(path, **keywords):
    """Write the configuration of a project with three objects, of which one is a filament."""
    filament = {"copick": {"filament": {}}}
    objects = [
        {"name": "ribosome", "is_particle": True, "label": 1, "radius": 120},
        {"name": "proteasome", "is_particle": True, "label": 2, "radius": 80},
        {"name": "actin", "is_particle": True, "label": 3, "radius": 40, "metadata": filament},
    ]
    config = {
        "name": "test",
        "description": "",
        "version": "1.0",
        "config_type": "filesystem",
        "pickable_objects": objects,
        "overlay_root": str(path.parent / "project"),
        "overlay_fs_args": {"auto_mkdir": True},
        **keywords,
    }
    path.write_text(json.dumps(config))
    return path


def transforms(number, rng):
    """Return rotations with random translations, (n, 4, 4)."""
    matrices = np.tile(np.eye(4), (number, 1, 1))
    matrices[:, :3, :3], _ = np.linalg.qr(rng.normal(size=(number, 3, 3)))
    matrices[:, :3, 3] = rng.normal(0, 20, (number, 3))
    return matrices


def add_picks(run, uri, centres, scores=None, instances=None, seed=0):
    """Store points whose centres are `centres`; their locations are elsewhere, by random translations."""
    name, _, rest = uri.partition(":")
    user, _, session = rest.partition("/")
    moved = transforms(len(centres), np.random.default_rng(seed))
    picks = run.new_picks(name, session, user)
    picks.from_numpy(centres - moved[:, :3, 3], moved, instances, scores)
    return picks


@pytest.fixture
def config(tmp_path):
    """The configuration of a project with two runs and the picks of two programs, many of which coincide."""
    path = write_config(tmp_path / "config.json")
    root = copick.from_file(str(path))
    rng = np.random.default_rng(3)
    for number in (1, 2):
        run = root.new_run(f"TS0{number}")
        run.new_voxel_spacing(10.0)
        grid = np.stack(np.meshgrid(*[np.arange(4) * 250.0] * 3), axis=-1).reshape(-1, 3)
        centres = grid[:60] + rng.uniform(-20, 20, (60, 3))
        add_picks(run, "ribosome:templatematch/1", centres, rng.random(60), seed=number)
        again = centres[:40] + rng.normal(0, 10, (40, 3))
        add_picks(run, "ribosome:deeppicker/1", again, rng.random(40), seed=10 + number)
    return path


BOTH = ("-i", "ribosome:templatematch/1", "-i", "ribosome:deeppicker/1")


@pytest.fixture
def dedup(config):
    """Call `copick process dedup` in this process, with the project and outputs; options come last."""
    logger = logging.getLogger("dask_dedup")
    before = logger.level, logger.handlers

    def call(*options, inputs=BOTH, output=OUTPUT, separation=100):
        words = ["-c", config, *inputs, "-o", output, "--min-separation", separation, *options]
        return CliRunner().invoke(
            copick_commands, ["process", "dedup", *map(str, words)], catch_exceptions=False
        )

    yield call
    logger.level, logger.handlers = before


def stored(config, uri, run="TS01"):
    """Return the points of a set as they are in its file."""
    name, _, rest = uri.partition(":")
    user, _, session = rest.partition("/")
    folder = config.parent / "project" / "ExperimentRuns" / run / "Picks"
    return json.loads((folder / f"{user}_{session}_{name}.json").read_text())["points"]


def centre(point):
    return [
        point["location"][axis] + row[3]
        for axis, row in zip("xyz", point["transformation_"], strict=False)
    ]


def files(config):
    project = config.parent / "project"
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def expected_rejected(inputs, separation=100, **rank):
    """Return the points that brute force rejects, given the points of each input."""
    points = [point for each in inputs for point in each]
    ranks = [
        rank_tuple(
            uid=0, score=point["score"], source=source, priority=source * bool(rank.get("in_order"))
        )
        for source, each in enumerate(inputs)
        for point in each
    ]
    centres = [centre(point) for point in points]
    winner, _ = greedy(centres, np.zeros(len(points)), ranks, separation)
    return [point for point, lost in zip(points, winner >= 0, strict=True) if lost]


def test_two_users_are_combined_and_every_point_is_stored_as_it_was(config, dedup):
    outcome = dedup("--rejected", REJECTED)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stderr.splitlines() == ["reading 4 sets of picks in 2 runs"]
    for run in ("TS01", "TS02"):
        inputs = [stored(config, uri, run) for uri in BOTH[1::2]]
        every = [point for each in inputs for point in each]
        lost = expected_rejected(inputs)
        assert len(lost) == 40
        assert stored(config, REJECTED, run) == lost
        assert stored(config, OUTPUT, run) == [point for point in every if point not in lost]
    total = len(every) * 2
    kept = sum(len(stored(config, OUTPUT, run)) for run in ("TS01", "TS02"))
    runs, outputs = (part.splitlines() for part in outcome.stdout.split("\n\n")[-2:])
    assert [line.split()[0] for line in runs] == ["run", "TS01", "TS02", "all"]
    assert runs[-1].split()[:4] == ["all", str(total), str(kept), str(total - kept)]
    assert outputs == [f"kept: {OUTPUT}", f"rejected: {REJECTED}"]


def test_run_decides_alike_about_the_same_files(config, dedup, tmp_path):
    assert dedup().exit_code == 0
    runs = config.parent / "project" / "ExperimentRuns"
    patterns = [
        f"{runs}/*/Picks/{user}_1_ribosome.json" for user in ("templatematch", "deeppicker")
    ]
    output = tmp_path / "out"
    dask_dedup.run(patterns, output, min_separation=100)
    copied = [json.loads(path.read_text()) for path in output.glob("particles_kept/**/*.json")]
    points = [point for each in copied for point in each["points"]]
    ours = [point for run in ("TS01", "TS02") for point in stored(config, OUTPUT, run)]
    assert sorted(map(json.dumps, points)) == sorted(map(json.dumps, ours))


def test_parameters_of_run_have_the_same_names(config, dedup):
    first, second = (stored(config, uri) for uri in BOTH[1::2])
    options = ("--rejected", REJECTED, "--overwrite", "-r", "TS01")
    dedup("--prefer-input-order", *options)
    lost = stored(config, REJECTED)
    assert lost == expected_rejected([first, second], in_order=True)
    dedup("--between-inputs-only", "--min-score", "ribosome:deeppicker/1=0.5", *options)
    low = [point for point in second if point["score"] < 0.5]
    assert all(point in stored(config, REJECTED) for point in low)
    dedup("--score-field", "none", "--seed", 4, *options)
    by_chance = stored(config, REJECTED)
    dedup("--score-field", "score:lower", *options)
    assert len({json.dumps(each) for each in (lost, by_chance, stored(config, REJECTED))}) == 3
    assert not (
        config.parent / "project/ExperimentRuns/TS02/Picks/dask-dedup_1_ribosome.json"
    ).exists()
    chosen = dedup("--remove-entirely", "--overwrite", separation="auto")
    assert "--min-separation 1" in chosen.stderr.splitlines()[1]
    assert len(stored(config, OUTPUT)) == 20


def test_votes_keep_what_several_programs_found(config, dedup):
    options = ("--rejected", REJECTED, "-r", "TS01", "--min-votes", 2, "--overwrite")
    assert dedup(*options).exit_code == 0
    points = stored(config, OUTPUT)
    assert len(points) == 40  # deeppicker found 40 of the 60 of templatematch
    assert dedup(*options, "--not-found-by", "ribosome:deep*/1").exit_code == 2
    options = (*options[:3], "TS01", "--overwrite", "--not-found-by", "ribosome:deep*/1")
    inputs = (*BOTH[:2], "-i", "ribosome:deep*/1")
    outcome = dedup(*options, inputs=inputs)
    assert outcome.exit_code == 0, outcome.stderr
    assert stored(config, OUTPUT) == stored(config, BOTH[1])[40:]
    alone = dedup("--min-votes", 2, inputs=BOTH[:2], output=":alone/1")
    assert "but ribosome:templatematch/1 is the only one" in alone.stderr


def test_results_of_earlier_calls_among_the_inputs_are_warned_of(config, dedup):
    inputs = ("-i", "ribosome:*/1")
    first = dedup("-r", "TS01", inputs=inputs)
    assert "also in other inputs" not in first.stderr
    again = dedup("-r", "TS01", inputs=inputs, output="ribosome:all/1")
    assert f"all points of {OUTPUT} are also in other inputs" in again.stderr


def test_points_of_a_filament_are_no_duplicates_of_each_other(config, dedup):
    run = copick.from_file(str(config)).get_run("TS01")
    along = np.column_stack([np.arange(20) * 30.0, np.zeros(20), np.zeros(20)])
    scores, instances = [0.9] * 10 + [0.7, 0.8] * 5, [1] * 10 + [0] * 10
    for user, lift in (("a", 0.0), ("b", 10.0)):
        add_picks(run, f"actin:{user}/1", along + np.array([0, lift, 0]), scores, instances)
    inputs = ("-i", "actin:a/1", "-i", "actin:b/1")
    options = ("--ignore-within-filament", "--prefer-input-order", "--overwrite")
    outcome = dedup(*options, inputs=inputs, output="actin:dask-dedup/1", separation=40)
    points = stored(config, "actin:dask-dedup/1")
    # The first filament is whole; of the loose points of the same input, every second one.
    assert [point["location"]["x"] + point["transformation_"][0][3] for point in points] == (
        pytest.approx([*np.arange(10) * 30.0, *np.arange(11, 20, 2) * 30.0])
    )
    assert [point["instance_id"] for point in points] == [1] * 10 + [0] * 5
    assert (
        "same instance_id in 1 run (first: TS01). Consider --renumber-filaments." in outcome.stderr
    )
    options = (*options, "--renumber-filaments", "--between-inputs-only")
    outcome = dedup(*options, inputs=inputs, output="actin:dask-dedup/1", separation=0)
    numbers = [point["instance_id"] for point in stored(config, "actin:dask-dedup/1")]
    assert numbers == [1] * 10 + [0] * 10 + [2] * 10 + [0] * 10
    assert "instance_id" not in outcome.stderr


def test_each_object_has_its_own_output_unless_they_are_combined(config, dedup):
    run = copick.from_file(str(config)).get_run("TS01")
    at = np.array([centre(point) for point in stored(config, BOTH[1])])
    add_picks(run, "proteasome:templatematch/1", at, np.full(60, 2.0) + np.arange(60))
    inputs = ("-i", "*:templatematch/*")
    refused = dedup(inputs=inputs)
    assert refused.exit_code == 2
    assert "picks of proteasome, ribosome, the output is of ribosome" in refused.stderr
    assert dedup(inputs=inputs, output="/1").exit_code == 0
    assert len(stored(config, OUTPUT)) > 50
    assert len(stored(config, "proteasome:dask-dedup/1")) > 50
    # At each place, the proteasome has the better score.
    assert (
        dedup("--combine-objects", "-r", "TS01", inputs=inputs, output="ribosome:all/1").exit_code
        == 0
    )
    assert stored(config, "ribosome:all/1") == stored(config, "proteasome:dask-dedup/1")


def test_outputs_are_replaced_only_on_request_and_never_read(config, dedup):
    every = ("-i", "ribosome:*")
    assert dedup(inputs=every).exit_code == 0
    first = files(config)
    refused = dedup(inputs=every, separation=200)
    assert refused.exit_code == 2
    assert f"{OUTPUT} exists in 2 runs (TS01, TS02)." in refused.stderr
    assert files(config) == first
    again = dedup("--overwrite", inputs=every, separation=200)
    assert f"ribosome:* matches {OUTPUT}, which is an output and is not read" in again.stderr
    assert "reading 4 sets of picks in 2 runs" in again.stderr
    assert len(stored(config, OUTPUT)) < len(first) * 60
    assert files(config) != first


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"inputs": ("-i", "ribosome:nobody/1")},
            "ribosome:nobody/1: no such picks in the project. The project has ribosome:deeppicker/1, "
            "ribosome:templatematch/1.",
        ),
        ({"inputs": ("-i", "a:b:c")}, "a:b:c: Invalid picks URI format"),
        ({"inputs": ("-i", OUTPUT), "output": OUTPUT}, "no such picks"),
        ({"output": BOTH[1]}, "is an input and an output"),
        ({"output": "ribosome:*/1"}, "a pattern is not a name"),
        ({"output": "virus:x/1"}, "picks of ribosome, the output is of virus"),
        (
            {"output": "virus:x/1", "options": ("--combine-objects",)},
            "the project has no object virus, but ribosome, proteasome, actin.",
        ),
        ({"options": ("--rejected", OUTPUT)}, "is the name of both outputs"),
        (
            {"options": ("-r", "TS09")},
            "run TS09: no such run in the project, which has TS01, TS02.",
        ),
        ({"options": ("--min-score", "ribosome:other/1=0.5")}, "is not one of the inputs"),
        ({"options": ("--seed", "-1")}, "--seed is -1"),
        ({"separation": -5}, "--min-separation is -5"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_stored(config, dedup, options, reason):
    before = files(config)
    words = options.pop("options", ())
    outcome = dedup(*words, **options)
    assert outcome.exit_code == 2
    assert reason in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert files(config) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:300], "cannot be read: "),
        (lambda text: text.replace('"x": ', '"u": ', 1), "points.0.location.x: Field required"),
        (lambda text: text.replace("angstrom", "pixel"), "the unit is pixel, not angstrom"),
        (lambda text: text.replace('"x": ', '"x": NaN, "w": ', 1), "1 row has no finite position"),
    ],
)
def test_damaged_picks_are_named(config, dedup, change, reason):
    path = config.parent / "project/ExperimentRuns/TS02/Picks/deeppicker_1_ribosome.json"
    path.write_text(change(path.read_text()))
    before = files(config)
    outcome = dedup()
    assert outcome.exit_code == 2
    assert "ribosome:deeppicker/1" in outcome.stderr
    assert "TS02" in outcome.stderr
    assert reason in outcome.stderr
    assert files(config) == before


def test_scores_that_decide_nothing_are_warned_about(config, dedup):
    run = copick.from_file(str(config)).get_run("TS01")
    at = np.array([centre(point) for point in stored(config, BOTH[1])])
    add_picks(run, "ribosome:manual/1", at)
    alone = dedup(inputs=("-i", "ribosome:manual/1"))
    assert (
        "warning: ribosome:manual/1: the scores in score are all 1; a seeded choice decides"
        in alone.stderr
    )
    both = dedup("--overwrite", inputs=("-i", BOTH[1], "-i", "ribosome:manual/1"))
    assert "all scores in score are 1, so its particles rank above" in both.stderr


def test_static_picks_are_read_and_the_result_goes_to_the_overlay(config, tmp_path):
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    static = {"static_root": str(tmp_path / "project"), "static_fs_args": {"auto_mkdir": True}}
    path = write_config(overlay / "config.json", **static)
    before = files(config)
    result = remove_duplicate_picks(path, [BOTH[1]], OUTPUT, min_separation=100)
    assert files(config) == before
    assert sum(len(each.points) for each in result.sets) == 120
    kept = sum(len(stored(path, OUTPUT, run)) for run in ("TS01", "TS02"))
    assert kept == sum(int((~each.rejected).sum()) for each in result.sets)
    with pytest.raises(dask_dedup.InputError, match="read only in TS01, TS02"):
        remove_duplicate_picks(path, [BOTH[1]], BOTH[3], min_separation=100, overwrite=True)


def test_a_project_need_not_be_on_a_disk(tmp_path):
    """In memory, as a stand-in for the other file systems that copick reaches."""
    where = {"overlay_root": f"memory://{tmp_path.name}", "overlay_fs_args": {}}
    path = write_config(tmp_path / "config.json", **where)
    run = copick.from_file(str(path)).new_run("TS01")
    add_picks(run, "ribosome:a/1", np.zeros((3, 3)), [0.1, 0.3, 0.2])
    remove_duplicate_picks(path, ["ribosome:a"], OUTPUT, min_separation=100)
    (picks,) = copick.from_file(str(path)).get_run("TS01").get_picks("ribosome", "dask-dedup")
    assert [point.score for point in picks.points] == [0.3]


@pytest.mark.parametrize("text", ["{", "[]", '{"config_type": "filesystem", "name": "x"}'])
def test_a_configuration_that_is_no_project_is_refused(config, dedup, text):
    config.write_text(text)
    outcome = dedup()
    assert outcome.exit_code == 2
    assert f"{config}: cannot be read as the configuration of a copick project" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_set_that_cannot_be_stored_ends_the_command_with_code_1(config, dedup):
    runs = config.parent / "project" / "ExperimentRuns"
    (runs / "TS02" / "Picks" / "dask-dedup_1_ribosome.json").mkdir()
    outcome = dedup("--overwrite")
    assert outcome.exit_code == 1
    assert f"{OUTPUT} in run TS02: cannot be stored: " in outcome.stderr
    assert "1 of 2 sets are stored; fix this and run again with --overwrite." in outcome.stderr


def test_the_command_of_a_terminal_in_an_empty_project(config):
    """The plugin is found by copick itself; empty sets, sets that a run lacks and JSON."""
    root = copick.from_file(str(config))
    root.get_run("TS02").new_picks("proteasome", "1", "a").store()
    add_picks(root.get_run("TS01"), "proteasome:b/1", np.ones((2, 3)), [0.5, 0.25])
    words = ["process", "dedup", "-i", "proteasome:*", "-o", ":new_user/1", "--min-separation", "9"]
    outcome = subprocess.run(
        [COPICK, *words, "--json"],
        env={"COPICK_CONFIG": str(config), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(outcome.stdout[outcome.stdout.index("{") :])
    assert found["kept"] == ["proteasome:new-user/1"]
    assert [(each["input"], each["run"], each["points"]) for each in found["sets"]] == [
        ("proteasome:a/1", "TS02", 0),
        ("proteasome:b/1", "TS01", 2),
    ]
    assert [point["score"] for point in stored(config, "proteasome:new-user/1")] == [0.5]
    assert stored(config, "proteasome:new-user/1", "TS02") == []


def test_other_commands_of_copick_do_not_wait_for_the_plugin():
    code = (
        "import sys, dask_dedup.cli.copick; print({'pyarrow', 'scipy', 'copick'} & {*sys.modules})"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert outcome.stdout.strip() == b"set()"
