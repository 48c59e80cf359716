"""The external job of CryoSPARC, with the installed client (4.7 or 5) and a stand-in for the instance."""

from __future__ import annotations

import gc
import inspect
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

pytest.importorskip("cryosparc")

from conftest import REPOSITORY
from cryosparc.dataset import Dataset
from cryosparc.tools import CryoSPARC
from cryosparc_instance import EMAIL, LICENSE, PASSWORD, SECRETS, TOKEN, Instance, Job, serve
from tables import cryosparc, exposures

import dask_dedup
from dask_dedup.cli import main
from dask_dedup.monitoring import log

IS_REST = "base_url" in inspect.signature(CryoSPARC).parameters
KEPT, REJECTED = "particles_kept", "particles_rejected"
#: Beginning of the paths of temporary folders.
TEMPORARY = f"{tempfile.gettempdir()}/{tempfile.gettempprefix()}"
LOGIN = {
    "CRYOSPARC_EMAIL": EMAIL,
    "CRYOSPARC_PASSWORD": PASSWORD,
    "CRYOSPARC_LICENSE_ID": LICENSE,
}


def dataset(table):
    """Return the columns of an Arrow table as a dataset of CryoSPARC."""
    columns = {}
    for name in table.column_names:
        values = table.column(name).to_numpy()
        is_list = values.dtype == object and not isinstance(values[0], str)
        columns[name] = np.stack(values) if is_list else values
    return Dataset(columns)


def picks(seed, rows=300, **columns):
    """Return picks with a path that is not ASCII, a NaN, and a slot of a class."""
    table = cryosparc(rows, seed=seed)
    found = dataset(table)
    found["location/micrograph_path"][0] = "J1/imported/Süd_grid.mrc"
    found["pick_stats/power"][1] = np.nan
    found.add_fields([("alignments_class_0/pose", "f4", (3,)), ("blob/idx", "u4")])
    found["alignments_class_0/pose"][:] = np.random.default_rng(seed).random((rows, 3))
    found["blob/idx"][:] = np.arange(rows)
    for name, values in columns.items():
        found[name.replace("__", "/")][:] = values
    return found


@pytest.fixture
def instance(monkeypatch):
    """An instance with the picks of two pickers, J10 and J11. The environment has the login."""
    made = Instance()
    made.add_result("J5", "exposures", dataset(exposures()), "exposure")
    made.add_result("J10", "particles", picks(0))
    made.add_result("J11", "particles", picks(1))
    for name in [name for name in os.environ if name.startswith("CRYOSPARC_")]:
        monkeypatch.delenv(name)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    with serve(made, is_rest=IS_REST):
        monkeypatch.setenv("CRYOSPARC_BASE_URL", made.url)
        yield made


@pytest.fixture
def dedup(cli, instance):
    """Run the command, and find no secret in what it prints and in what the instance receives."""

    def call(*arguments, project="P1", workspace="W1"):
        outcome = cli("cryosparc", "--project", project, "--workspace", workspace, *arguments)
        received = [outcome.output, outcome.stderr]
        for job in instance.jobs.values():
            received += [job.title, job.description, *(text for _, text in job.events)]
            received += [content.decode("latin-1") for content in job.files.values()]
        assert not [secret for secret in SECRETS if secret in "".join(received)]
        return outcome

    yield call
    collect_connections()


@pytest.fixture(scope="module", autouse=True)
def no_connection_is_left():
    """Collect what was still in use when the last test ended. Else the program of the tests may fail at its end."""
    yield
    collect_connections()


def collect_connections():
    """Collect garbage. The client of version 5 leaves its connections to the garbage collection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def log_of(job, *levels):
    return "\n".join(text for level, text in job.events if not levels or level in levels)


def assert_same_rows(found, expected):
    assert {*found.fields()} == {*expected.fields()}
    for name in found.fields():
        assert found[name].dtype == expected[name].dtype, name
        if found[name].dtype == object:
            assert found[name].tolist() == expected[name].tolist(), name
        else:
            assert found[name].tobytes() == expected[name].tobytes(), name


def test_both_outputs_have_the_rows_of_the_inputs_to_the_bit(dedup, instance, tmp_path):
    options = ["--min-separation", 60, "--prefer-input-order"]
    outcome = dedup("J11:particles", "J10:particles", *options, "--folder", tmp_path)
    assert outcome.exit_code == 0, outcome.stderr
    job = instance.external
    assert job.history == ["running", "completed"]
    assert job.inputs["particles"]["connections"] == [("J11", "particles"), ("J10", "particles")]
    assert {name: output.passthrough for name, output in job.outputs.items()} == {
        KEPT: "particles",
        REJECTED: "particles",
    }
    sources = [instance.jobs[uid].outputs["particles"].saved for uid in ("J11", "J10")]
    both = Dataset.append_many(*sources)
    files = [tmp_path / f"{number}.cs" for number in (0, 1)]
    for file, source in zip(files, sources, strict=True):
        source.save(file)
    apart = dask_dedup.run(files, tmp_path / "apart", min_separation=60, prefer_input_order=True)
    assert 0 < apart.kept < apart.rows
    wanted = [Dataset.load(apart.output / KEPT / file.name)["uid"] for file in files]
    keep = np.isin(both["uid"], np.concatenate(wanted))
    assert_same_rows(instance.load(job, KEPT), both.mask(keep))
    assert_same_rows(instance.load(job, REJECTED), both.mask(~keep))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [secret for secret in SECRETS if secret.encode() in written]


def test_the_job_shows_what_it_did(dedup, instance, monkeypatch):
    """The log has the progress, counts, warnings and a picture; the folder has the report."""
    monkeypatch.setattr(log, "LINE_SECONDS", 0.01)
    scores = ("--min-score", "a=0.5", "--min-score", "J11:particles=0.5")
    outcome = dedup("a=J10:particles", "J11:particles", "--exposures", "J5:exposures", *scores)
    assert outcome.exit_code == 0, outcome.stderr
    job = instance.external
    assert job.inputs["exposures"]["connections"] == [("J5", "exposures")]
    assert instance.load(job, KEPT)["pick_stats/ncc_score"].min() >= 0.5
    text = log_of(job)
    assert "pixel size: 0.8 to 2 A (J5:exposures" in text
    assert "a=J10:particles           300" in text
    assert f"{job.uid}:{KEPT}: " in text
    assert "have the same uid" in log_of(job, "warning" if IS_REST else "error")
    assert outcome.stderr.count("J11:particles") == text.count("J11:particles") > 1
    assert TEMPORARY not in text
    progress = len(re.findall(r"^ *\d+% ", outcome.stderr, re.MULTILINE))
    assert progress > 2
    assert len(re.findall(r"^ *\d+% ", text, re.MULTILINE)) == (1 if IS_REST else progress)
    assert {*job.files} == {"report.html", "manifest.json"}
    page = job.files["report.html"].decode()
    assert "J10:particles" in page
    assert TEMPORARY not in page + job.files["manifest.json"].decode()
    ((caption, picture),) = job.plots
    assert "kept" in caption
    pictures = [picture] + [job.tile, job.outputs[KEPT].image] * IS_REST
    assert all(each.startswith(b"\x89PNG") for each in pictures)


def test_a_uid_of_two_inputs_keeps_the_values_of_its_row(dedup, instance):
    again = picks(0, blob__idx=7)
    instance.add_result("J12", "particles", again)
    votes = ("--found-by", "J12:particles")
    outcome = dedup("J12:particles", "J10:particles", "--prefer-input-order", *votes)
    assert outcome.exit_code == 0, outcome.stderr
    job = instance.external
    assert [output.passthrough for output in job.outputs.values()] == [None, None]
    slots = {each["name"]: each["dtype"] for each in job.outputs[KEPT].slots}
    assert slots["alignments_class_0"] == "alignments3D"
    assert {*instance.load(job, KEPT)["blob/idx"].tolist()} == {7}
    assert "300 particles with the uid of another particle" in log_of(job)


def test_an_empty_input_and_an_empty_output(dedup, instance):
    instance.add_result("J12", "particles", picks(3).mask(np.zeros(300, bool)))
    outcome = dedup("J12:particles", "J10:particles", "--min-separation", 0)
    assert outcome.exit_code == 0, outcome.stderr
    job = instance.external
    assert_same_rows(instance.load(job, KEPT), instance.load(instance.jobs["J10"], "particles"))
    assert len(instance.load(job, REJECTED)) == 0


def test_slots_that_one_input_lacks_are_named(dedup, instance):
    instance.add_result("J12", "particles", picks(3).drop_fields(["blob/idx"]))
    assert dedup("J10:particles", "J12:particles").exit_code == 0
    job = instance.external
    assert "not all inputs have the slots blob" in log_of(job)
    assert "blob" not in instance.load(job, KEPT).prefixes()


@pytest.mark.parametrize(
    ("arguments", "place", "message"),
    [
        (["J99:particles"], {}, "P1 J99:particles: there is no job J99 in P1."),
        (["J10:particle"], {}, "The job's outputs are: J10:particles."),
        (["J5:exposures"], {}, "an output of type exposure, not particle"),
        (["J6:particles"], {}, "J6 is running. Wait until it is completed."),
        (["J10:particles", "J10:particles"], {}, "J10:particles: passed twice"),
        (["J10:particles", "--min-score", "J9:particles=1"], {}, "which are J10:particles"),
        (["J10.particles"], {}, "J10.particles: not the result of a job"),
        (["J10:particles"], {"project": "P9"}, "P9: there is no such project"),
        (["J10:particles"], {"workspace": "W9"}, "P1 W9: there is no such workspace"),
        (["J10:particles", "--url", "localhost:http"], {}, "--url is not the address"),
        (["J10:particles", "--exposures", "J10:particles"], {}, "not exposure"),
    ],
)
def test_wrong_input_is_one_line_and_creates_no_job(dedup, instance, arguments, place, message):
    instance.jobs["J6"] = Job("J6", "blob_picker", status="running")
    before = {*instance.jobs}
    outcome = dedup(*arguments, **place)
    assert outcome.exit_code == 2
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert {*instance.jobs} == before


def test_without_the_client(dedup, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryosparc.tools", None)
    outcome = dedup("J10:particles")
    assert outcome.exit_code == 2
    assert "pip install 'cryosparc-tools" in outcome.stderr


def test_no_login(dedup, monkeypatch, tmp_path):
    monkeypatch.delenv("CRYOSPARC_PASSWORD")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    outcome = dedup("J10:particles")
    assert outcome.exit_code == 2
    assert "no login" in outcome.stderr
    assert "CRYOSPARC_PASSWORD" in outcome.stderr


@pytest.mark.parametrize("name", ["CRYOSPARC_EMAIL", "CRYOSPARC_PASSWORD", "CRYOSPARC_LICENSE_ID"])
def test_a_refused_login_shows_no_secret(dedup, monkeypatch, name):
    if name == "CRYOSPARC_LICENSE_ID" and IS_REST:
        pytest.skip("CryoSPARC 5 needs no licence")
    wrong = LICENSE.replace("0", "1") if name == "CRYOSPARC_LICENSE_ID" else "Wrong-Secret-1"
    monkeypatch.setenv(name, wrong)
    outcome = dedup("J10:particles")
    assert outcome.exit_code == 2
    assert "CryoSPARC refused the login" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert wrong not in outcome.stderr


def test_an_instance_that_does_not_answer(dedup):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1] - 2
    outcome = dedup("J10:particles", "--url", f"http://127.0.0.1:{port}")
    assert outcome.exit_code == 2
    assert f"http://127.0.0.1:{port}: no CryoSPARC instance answers" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.skipif(not IS_REST, reason="the client of CryoSPARC 4 saves no login")
def test_a_saved_login_is_used(dedup, instance, monkeypatch, tmp_path):
    from cryosparc import auth
    from cryosparc.models.auth import Token

    monkeypatch.delenv("CRYOSPARC_PASSWORD")
    saved = tmp_path / "auth.json"
    monkeypatch.setattr(auth, "get_default_auth_config_path", lambda: saved)
    sessions = auth.InstanceAuthSessions.load()
    expires = datetime.now(UTC) + timedelta(days=1)
    sessions.insert(instance.url, EMAIL, Token(access_token=TOKEN, token_type="bearer"), expires)
    sessions.save()
    assert dedup("J10:particles").exit_code == 0


def test_a_failed_run_marks_the_job_with_the_reason(dedup, instance):
    bad = picks(4)
    bad["location/center_x_frac"][2] = np.nan
    instance.add_result("J12", "particles", bad)
    outcome = dedup("J12:particles")
    assert outcome.exit_code == 2
    job = instance.external
    assert job.history == ["running", "failed"]
    reason = log_of(job, "error")
    assert reason.startswith("J12:particles: 1 row")
    assert "--invalid" in reason
    assert reason in outcome.stderr


def test_a_refused_output_marks_the_job(dedup, instance):
    def refuse():
        from cryosparc_instance import RefusedError

        raise RefusedError(507, f"disk full, and the password is {PASSWORD}")

    instance.before["jobs.save_output"] = refuse
    outcome = dedup("J10:particles")
    assert outcome.exit_code == 1
    job = instance.external
    assert job.history == ["running", "failed"]
    assert "particles_kept cannot be saved. CryoSPARC reports:" in log_of(job, "error")
    assert "disk full" in log_of(job, "error")


def test_an_output_that_differs_marks_the_job(dedup, instance):
    passed_through = instance.passed_through

    def damaged(job, output):
        found = [each.copy() for each in passed_through(job, output)]
        for each in found:
            each["blob/idx"][0] += 1
        return found

    instance.passed_through = damaged
    outcome = dedup("J10:particles")
    assert outcome.exit_code == 1
    assert "other values of blob/idx" in outcome.stderr
    assert instance.external.history[-1] == "failed"


def test_an_interrupted_job_is_marked(instance):
    code = "from dask_dedup.cli import main; main(prog_name='dask-dedup')"
    place = ["--project", "P1", "--workspace", "W1"]
    command = [sys.executable, "-c", code, "cryosparc", "J10:particles", *place]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def interrupt():
        instance.before.clear()
        process.send_signal(signal.SIGHUP)  # its terminal is closed

    instance.before["jobs.mark_running"] = lambda: instance.before.update(
        {"jobs.add_event_log": interrupt}
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert instance.external.history == ["running", "failed"]
    assert "interrupted" in log_of(instance.external, "error")
    assert "Traceback" not in stderr


def test_the_commands_of_the_guide_run(cli, instance):
    page = (REPOSITORY / "docs" / "guides" / "cryosparc-job.md").read_text()
    commands = re.findall(r"^\$ dask-dedup (cryosparc .*)", page, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert cli(*shlex.split(command)).exit_code == 0, command


def test_every_parameter_of_a_run_is_an_option():
    from dask_dedup.dedup.params import DedupParams

    names = {option.name for option in main.commands["cryosparc"].params}
    assert {*DedupParams().to_dict()} <= names
