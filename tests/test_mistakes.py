"""Common mistakes are refused or warned about."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest
from tables import cryosparc, write_file

from dask_dedup import DedupParams, InputError, inspect, remove_duplicates, run


@pytest.fixture
def source(tmp_path):
    return write_file(cryosparc(100), tmp_path / "a.parquet")


def test_a_table_named_twice_is_refused(source, tmp_path):
    link = tmp_path / "link.parquet"
    link.symlink_to(source)
    for again in (source, link):
        with pytest.raises(InputError, match="passed twice"):
            run([source, again], tmp_path / "out")
        with pytest.raises(InputError, match="passed twice"):
            inspect([source, again])
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_result_is_not_a_table(source, tmp_path):
    run(source, tmp_path / "out")
    with pytest.raises(InputError, match=r"is the result of a run\. .*out/particles_kept"):
        run(tmp_path / "out", tmp_path / "again")


def test_a_manifest_of_another_program_is_not_a_result(source, tmp_path):
    folder = tmp_path / "lake"
    folder.mkdir()
    source.rename(folder / "part.parquet")
    (folder / "manifest.json").write_text("{}")
    assert run(folder, tmp_path / "out").rows == 100


def test_parameters_of_the_wrong_type_are_named(source, tmp_path):
    with pytest.raises(InputError, match="min_separation is '20'; it must be a number"):
        DedupParams(min_separation="20")
    with pytest.raises(InputError, match=r"seed is 0\.5; it must be a whole number"):
        DedupParams(seed=0.5)
    with pytest.raises(InputError, match="params is a dict; pass a DedupParams"):
        run(source, tmp_path / "out", {"min_separation": 20.0})
    with pytest.raises(InputError, match="params is a dict; pass a DedupParams"):
        remove_duplicates(cryosparc(100), {"min_separation": 20.0})
    with pytest.raises(InputError, match="params is a dict; pass a DedupParams"):
        inspect(source, params={"min_separation": 20.0})
    assert DedupParams(min_separation=np.float32(20), seed=np.int64(1)).seed == 1


@pytest.mark.parametrize("option", ["prefer_input_order", "between_inputs_only"])
def test_an_option_for_several_inputs_warns_with_one_input(source, tmp_path, caplog, option):
    params = DedupParams(**{option: True})
    (warning,) = run(source, tmp_path / "out", params).warnings
    assert option in warning
    with caplog.at_level(logging.WARNING, "dask_dedup"):
        remove_duplicates(cryosparc(100), params)
    assert option in caplog.text


def test_a_separation_that_rejects_nearly_all_is_warned_about(source, tmp_path):
    absurd = run(source, tmp_path / "absurd", DedupParams(min_separation=2000.0))
    assert absurd.rejected == 96
    assert any(
        "96.0% of the particles are rejected as duplicates" in line for line in absurd.warnings
    )
    usual = run(source, tmp_path / "usual")
    assert 0 < usual.rejected < 90
    assert not any("are rejected" in line for line in usual.warnings)


def test_invalid_rows_do_not_count_for_that_warning(tmp_path):
    adrift = np.where(np.arange(100) < 95, np.nan, 0.5).astype(np.float32)
    source = write_file(
        cryosparc(100, columns={"location/center_x_frac": adrift}), tmp_path / "a.parquet"
    )
    result = run(source, tmp_path / "out", DedupParams(invalid="reject"))
    assert result.rejected >= 95
    assert not any("are rejected:" in line for line in result.warnings)


def test_the_log_says_which_particles_win(source, tmp_path, caplog):
    two = write_file(cryosparc(100, seed=1), tmp_path / "b.parquet")
    outcomes = {
        "the best of them is kept": DedupParams(),
        "particles of the first input win": DedupParams(prefer_input_order=True),
        "one of them is kept": DedupParams(score_field="none"),
        "all of them are rejected": DedupParams(remove_entirely=True),
    }
    for number, (text, params) in enumerate(outcomes.items()):
        caplog.clear()
        with caplog.at_level(logging.INFO, "dask_dedup"):
            run([source, two], tmp_path / f"out{number}", params)
        assert f"; {text}" in caplog.text


def test_an_unknown_micrograph_to_plot_does_not_prevent_the_report(cli, source, tmp_path):
    arguments = ("run", source, "-o", tmp_path / "out", "--plot-micrograph", "no-such")
    outcome = cli(*arguments, no_report=False)
    assert outcome.exit_code == 0
    assert "the report is without --plot-micrograph" in outcome.stderr
    assert (tmp_path / "out" / "report.html").exists()


def test_inspect_counts_coincident_picks(tmp_path):
    once = cryosparc(60, drop=("uid",))
    source = write_file(pa.concat_tables([once, once.slice(0, 15)]), tmp_path / "a.parquet")
    found = inspect(source)
    assert found.inputs[0].neighbourhood.coincident == 30
    (line,) = [line for line in found.advice if "exactly the position of another" in line]
    assert "30 of 75 picks" in line
    assert "min_separation=0" in line
    assert run(source, tmp_path / "out", DedupParams(min_separation=0.0)).rejected == 15
