"""The live page, its JSON and the metrics show the numbers of the run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from browser import PATIENCE, browsing
from conftest import REPOSITORY
from ports import free_port
from tables import cryosparc, relion, write_file

from dask_dedup import DedupParams, run
from dask_dedup.cluster.connect import start_local
from dask_dedup.cluster.live_page_link import live_page_link
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.monitoring.dashboard.plugin import MOST_RUNS, DedupPlugin, make_view
from dask_dedup.monitoring.progress import TOPIC

MONITORING = REPOSITORY / "deploy" / "monitoring"
HOSTILE = "<script>alert(1)</script>.mrc"


def started(token, rows=100):
    return {
        "run": token,
        "kind": "started",
        "output": "out",
        "executor": "there",
        "inputs": [],
        "rows": rows,
        "bytes": 1,
        "fragments": 2,
    }


def written(token, number, kept=40, rejected=10):
    empty = {"micrographs": 0, "picks": 0, "rejected": 0, "by_fraction": [0] * 20, "densest": []}
    counts = {"rows": kept + rejected, "kept": kept, "rejected": rejected, "seconds": 0.1}
    return {"run": token, "kind": "written", "number": number, "counts": empty, **counts}


def received(*events):
    """Return a plugin that has received events."""
    plugin = DedupPlugin()
    for event in events:
        plugin.log_event(TOPIC, event)
    return plugin


def test_a_task_that_ran_twice_counts_once():
    plugin = received(started("a"), written("a", 0), written("a", 0), written("a", 1))
    assert plugin.totals["kept"] == plugin.current.kept == 80
    assert plugin.totals["rejected"] == 20
    assert plugin.totals["repeats"] == 1
    assert plugin.totals["written"] == 2


def test_totals_include_all_runs_and_old_runs_are_dropped():
    events = []
    for number in range(3 * MOST_RUNS):
        token = str(number)
        finished = {"run": token, "kind": "finished", "kept": 40, "rejected": 10}
        events += [started(token), written(token, 0), finished]
    plugin = received(*events)
    assert len(plugin.runs) == MOST_RUNS
    assert plugin.totals["kept"] == 40 * 3 * MOST_RUNS
    assert plugin.totals["finished"] == 3 * MOST_RUNS
    assert plugin.current.run == str(3 * MOST_RUNS - 1)


def test_a_running_run_is_shown_before_a_newer_failed_one():
    failed = {"run": "b", "kind": "failed", "reason": "no"}
    plugin = received(started("a"), started("b"), failed)
    assert plugin.current.run == "a"
    plugin.log_event(TOPIC, {"run": "a", "kind": "failed", "reason": "no either"})
    assert plugin.current.run == "b"
    assert plugin.totals["failed"] == 2


@pytest.mark.parametrize(
    "event",
    [
        None,
        "text",
        {},
        {"run": "a"},
        {"run": "a", "kind": "written"},
        {"run": "a", "kind": "written", "number": 0, "rows": "many", "seconds": 0},
        {"run": ["a"], "kind": "started"},
        {"run": "stranger", "kind": "scanned", "number": 0, "rows": 1, "seconds": 0},
    ],
)
def test_malformed_events_are_ignored(event):
    plugin = received(started("a"), event, written("a", 1))
    assert plugin.totals["kept"] == 40


def test_the_view_is_json_and_its_headline_has_the_outcome():
    plugin = received()
    assert make_view(plugin)["headline"].startswith("No run yet.")
    plugin = received(started("a"), written("a", 0))
    view = make_view(plugin)
    assert json.loads(json.dumps(view)) == view
    assert view["kept"] == 40
    failed = {"run": "a", "kind": "failed", "reason": HOSTILE}
    plugin.log_event(TOPIC, failed)
    assert HOSTILE in make_view(plugin)["headline"]


def fetch(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode()


def metrics(text):
    lines = [line for line in text.splitlines() if line.startswith("dask_dedup_")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture(scope="module")
def watched():
    """A client of a local cluster of two workers, and the address of its live page."""
    with ExitStack() as stack:
        client = start_local(stack, 2, 1)
        yield client, live_page_link(client)


def picks(folder, rows=3_000, row_group_size=250):
    names = np.array([HOSTILE] * 900 + ["<b>bold</b>.mrc"] * (rows - 900))
    table = relion(rows, columns={"rlnMicrographName": names})
    return write_file(table, folder / "picks.parquet", row_group_size=row_group_size)


@pytest.mark.slow
def test_json_and_metrics_agree_with_the_manifest(tmp_path, watched):
    client, link = watched
    base = link.removesuffix("/dedup")
    before = metrics(fetch(f"{base}/metrics"))
    result = run(picks(tmp_path), tmp_path / "out", DedupParams(min_separation=40.0), client)
    view = json.loads(fetch(f"{base}/json/dedup.json"))
    assert view["status"] == "finished"
    assert (view["kept"], view["rejected"]) == (result.kept, result.rejected)
    assert view["result"]["run_id"] == result.manifest["run_id"]
    assert view["decided_micrographs"] == sum(view["by_fraction"]) == 2
    assert {entry["name"]: entry["picks"] for entry in view["densest"]} == {
        HOSTILE: 900,
        "<b>bold</b>.mrc": 2_100,
    }
    after = metrics(fetch(f"{base}/metrics"))
    for outcome, number in (("kept", result.kept), ("rejected", result.rejected)):
        name = f'dask_dedup_particles_total{{outcome="{outcome}"}}'
        assert after[name] - before[name] == number
    assert all("mrc" not in name for name in after)


@pytest.mark.slow
def test_the_page_is_in_the_menus_of_dask_and_jupyterlab(watched):
    _, link = watched
    base = link.removesuffix("/dedup")
    assert "/individual-dedup" in json.loads(fetch(f"{base}/individual-plots.json")).values()
    assert 'href="individual-dedup"' in fetch(f"{base}/status")
    assert urllib.parse.urlsplit(link).hostname == "127.0.0.1"


@pytest.mark.slow
def test_a_browser_shows_the_numbers_of_the_run(tmp_path, watched):
    client, link = watched
    with browsing() as visit:
        wide, narrow = visit(link), visit(link, 400)
        result = run(picks(tmp_path), tmp_path / "out", DedupParams(min_separation=30.0), client)
        for seen, width in ((wide, 1280), (narrow, 400)):
            page = seen.page
            page.locator("#kept", has_text=f"{result.kept:,}").wait_for()
            page.wait_for_selector("text=Finished in")
            page.wait_for_selector("canvas")
            assert page.locator("#rejected").inner_text() == f"{result.rejected:,}"
            page.locator(f"td:has-text('{HOSTILE}')").wait_for()
            assert page.locator("td b").count() == 0
            assert seen.problems == []
            assert seen.width <= width


@pytest.mark.slow
def test_a_browser_shows_the_report_without_errors(tmp_path, cli):
    out = tmp_path / "out"
    cli("run", picks(tmp_path), "-o", out, "--min-separation", 40, "--verify", no_report=False)
    totals = json.loads((out / "manifest.json").read_text())["totals"]
    with browsing() as visit:
        for width in (1280, 400):
            seen = visit((out / "report.html").as_uri(), width)
            text = seen.page.locator("body").inner_text()
            assert f"{totals['kept']:,} were kept" in text
            titles = seen.page.evaluate(
                "[...document.querySelectorAll('#list li')].map(e => e.title)"
            )
            assert HOSTILE in titles
            assert seen.page.locator("script").count() == 2
            assert seen.problems == []
            assert seen.width <= width


@pytest.mark.slow
def test_totals_are_exact_after_a_worker_was_killed(tmp_path, monkeypatch):
    release = tmp_path / "release"

    def block(path):
        """Let the worker write nothing before a file exists."""
        import time
        from pathlib import Path

        from dask_dedup.pipeline import stages

        real = stages.write_fragment

        def write_fragment(*arguments):
            while not Path(path).exists():
                time.sleep(0.05)
            return real(*arguments)

        stages.write_fragment = write_fragment

    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 2**19)
    table = cryosparc(120_000, micrographs=300)
    path = write_file(table, tmp_path / "picks.parquet", row_group_size=2_000)
    params = DedupParams(min_separation=40.0)
    here = run(path, tmp_path / "here", params)
    with ExitStack() as stack:
        client = start_local(stack, 2, 1)
        base = live_page_link(client).removesuffix("/dedup")
        pids = list(client.run(os.getpid).values())
        client.run(block, str(release))
        outcome = []

        def work():
            outcome.append(run(path, tmp_path / "out", params, client))

        thread = threading.Thread(target=work)
        thread.start()

        def view():
            return json.loads(fetch(f"{base}/json/dedup.json"))

        try:
            eventually(lambda: view()["totals"]["collected"] or not thread.is_alive())
            assert thread.is_alive(), "the run failed"
            os.kill(pids[0], signal.SIGKILL)
            eventually(lambda: view()["lost_workers"] == 1)
        finally:
            release.touch()
            thread.join(PATIENCE)
        assert outcome, "the run failed"
        shown = view()
        assert (shown["kept"], shown["rejected"]) == (here.kept, here.rejected)
        assert outcome[0].manifest["totals"]["kept"] == here.kept
        assert shown["lost_workers"] == 1


def eventually(condition):
    """Wait until the condition holds, and return what it returns. A server may not answer at first."""
    ends = time.monotonic() + PATIENCE
    found, last = None, None
    while not found:
        assert time.monotonic() < ends, f"not within {PATIENCE} s; last error: {last}"
        try:
            found = condition()
        except OSError as error:
            last = error
        if not found:
            time.sleep(0.1)
    return found


def wait_for(url):
    return eventually(lambda: fetch(url))


@contextmanager
def program(*words):
    process = subprocess.Popen([str(word) for word in words], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def dask(*words):
    return program(sys.executable, "-m", "dask", *words)


@pytest.mark.slow
def test_prometheus_scrapes_a_preloaded_scheduler_and_its_worker(tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus; .ci/packages installs it")
    scheduler, board, worker, server = (free_port() for _ in range(4))
    config = (MONITORING / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8787", f"127.0.0.1:{board}").replace(
        '"127.0.0.1:8790", "127.0.0.1:8791"', f'"127.0.0.1:{worker}"'
    )
    (tmp_path / "prometheus.yml").write_text(re.sub(r"\b5s", "1s", config))
    shutil.copy(MONITORING / "rules.yml", tmp_path)
    address = f"tcp://127.0.0.1:{scheduler}"
    with ExitStack() as stack:
        stack.enter_context(
            dask(
                *("scheduler", "--host", "127.0.0.1", "--port", scheduler),
                *("--dashboard-address", f"127.0.0.1:{board}"),
                *("--preload", "dask_dedup.monitoring.dashboard"),
            )
        )
        stack.enter_context(
            dask("worker", address, "--dashboard-address", f"127.0.0.1:{worker}", "--nthreads", 1)
        )
        stack.enter_context(
            program(
                *("prometheus", f"--config.file={tmp_path / 'prometheus.yml'}"),
                *(f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--log.level=error"),
                f"--web.listen-address=127.0.0.1:{server}",
            )
        )
        wait_for(f"http://127.0.0.1:{board}/health")
        command = "from dask_dedup.cli import main; main()"
        words = ("run", picks(tmp_path), "-o", tmp_path / "out", "--scheduler", address)
        done = subprocess.run(
            [sys.executable, "-c", command, *map(str, words), "--no-report"],
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        assert f"live page: http://127.0.0.1:{board}/dedup" in done.stderr
        totals = json.loads((tmp_path / "out" / "manifest.json").read_text())["totals"]

        def ask(query):
            url = f"http://127.0.0.1:{server}/api/v1/query?query={urllib.parse.quote(query)}"
            return json.loads(wait_for(url))["data"]["result"]

        def counts():
            found = ask("dask_dedup_particles_total")
            return {each["metric"]["outcome"]: float(each["value"][1]) for each in found}

        def up():
            return {each["metric"]["job"]: each["value"][1] for each in ask("up")}

        wanted = {"kept": totals["kept"], "rejected": totals["rejected"]}
        eventually(lambda: counts() == wanted)
        eventually(lambda: up() == {"dask-scheduler": "1", "dask-workers": "1"})
        shown = fetch(f"http://127.0.0.1:{board}/metrics")
        text = (MONITORING / "README.md").read_text()
        there = {name.split("{")[0] for name in metrics(shown)}
        assert {name for name in there if f"`{name}" not in text} == set()
        grafana = (MONITORING / "grafana.json").read_text()
        used = set(re.findall(r"\bdask_dedup_\w+", grafana))
        assert used
        assert used <= there


@pytest.mark.slow
def test_rules_and_configuration_pass_promtool():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool; .ci/packages installs it")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("library", ["bokeh", "prometheus_client"])
def test_without_an_optional_library_the_run_works_and_logs_one_line(tmp_path, library):
    path = picks(tmp_path)
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from dask_dedup.cli import main\n"
        f"main(['run', {str(path)!r}, '-o', {str(tmp_path / 'out')!r}, '--workers', '1', '--no-report'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if f"{library} is not installed" in line]
    assert len(lines) == 1
    assert "pip install 'dask-dedup[dashboard]'" in lines[0]
    assert "Traceback" not in done.stderr
    assert Path(tmp_path / "out" / "manifest.json").exists()
