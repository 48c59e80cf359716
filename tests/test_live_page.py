"""The live page tells the truth: about lost drivers, empty plots, the newest run and the report."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import PATIENCE, browsing
from ports import free_port
from tables import cryosparc, write_file
from test_dashboard import dask as dask_program
from test_dashboard import eventually, fetch, metrics, received, started, wait_for, written
from test_output import data

from dask_dedup import DedupParams, run
from dask_dedup.cluster.connect import start_local
from dask_dedup.cluster.live_page_link import live_page_link, show_report
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.monitoring.dashboard import plugin as plugins
from dask_dedup.monitoring.dashboard.plugin import DedupPlugin, make_view
from dask_dedup.monitoring.progress import TOPIC
from dask_dedup.pipeline import events, stages
from dask_dedup.pipeline.executors import select

FINISHED = {"kind": "finished", "run_id": "id", "kept": 40, "rejected": 10}
BLOCKED = Path(__file__).with_name("blocked_worker.py")


@pytest.fixture
def stopped_clock(monkeypatch):
    """Stop the clock by which a plugin measures how long a driver has been silent."""
    now = time.time()
    clock = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(plugins, "time", clock)


def watched_by(*clients, silent=0.0):
    """Return a plugin of a scheduler that has last heard of its clients some seconds ago."""
    seen = SimpleNamespace(last_seen=plugins.time.time() - silent)
    known = dict.fromkeys(clients, seen)
    return DedupPlugin(SimpleNamespace(address="tcp://host:8786", clients=known, workers={}))


def send(plugin, *sent):
    for event in sent:
        plugin.log_event(TOPIC, event)


def driven(token, client="c"):
    return started(token) | {"client": client}


@pytest.mark.usefixtures("stopped_clock")
class TestLostDriver:
    def test_a_closed_connection_is_noticed_at_once(self):
        plugin = watched_by("c")
        send(plugin, driven("a"), written("a", 0))
        plugin.remove_client(None, "c")
        del plugin.scheduler.clients["c"]
        view = make_view(plugin)
        assert view["status"] == "lost"
        assert re.match(
            r"Driver lost at \d+% of the work. Its last message was at \d\d:\d\d:\d\d",
            view["headline"],
        )
        assert "continue. dask-dedup status out shows the command." in view["headline"]
        assert view["seconds_left"] is None
        assert view["particles_per_second"] == 0
        assert plugin.totals["lost"] == 1

    def test_a_silent_client_is_noticed_within_15_seconds(self):
        plugin = watched_by("c", silent=11)
        send(plugin, driven("a"))
        assert make_view(plugin)["status"] == "running"
        plugin.scheduler.clients["c"].last_seen -= 4
        assert make_view(plugin)["status"] == "lost"
        assert make_view(plugin)["heard_at"] == plugin.scheduler.clients["c"].last_seen

    def test_a_client_that_is_heard_of_again_is_not_lost(self):
        plugin = watched_by("c", silent=20)
        send(plugin, driven("a"))
        assert make_view(plugin)["status"] == "lost"
        plugin.scheduler.clients["c"].last_seen = plugins.time.time()
        assert make_view(plugin)["status"] == "running"
        send(plugin, {"run": "a", **FINISHED})
        assert make_view(plugin)["status"] == "finished"

    def test_the_end_of_a_run_that_seemed_lost_counts(self):
        plugin = watched_by("c", silent=20)
        send(plugin, driven("a"))
        assert make_view(plugin)["status"] == "lost"
        send(plugin, {"run": "a", "kind": "failed", "reason": "no room"})
        assert make_view(plugin)["headline"].endswith("no room")

    def test_a_client_that_leaves_after_its_run_is_not_lost(self):
        plugin = watched_by("c")
        send(plugin, driven("a"), {"run": "a", **FINISHED})
        plugin.remove_client(None, "c")
        assert make_view(plugin)["status"] == "finished"
        assert plugin.totals["lost"] == 0

    def test_a_driver_in_the_process_of_the_scheduler_is_not_lost(self):
        plugin = watched_by("c", silent=100)
        plugin.scheduler.address = "inproc://host/1/1"
        send(plugin, driven("a"))
        assert make_view(plugin)["status"] == "running"

    def test_many_clients_send_fewer_heartbeats(self):
        plugin = watched_by(*map(str, range(40)), silent=14)
        send(plugin, driven("a", "0"))
        assert make_view(plugin)["status"] == "running"

    def test_the_metrics_agree(self):
        pytest.importorskip("prometheus_client")
        from dask_dedup.monitoring.dashboard.metrics import DedupCollector

        plugin = watched_by("c")
        send(plugin, driven("a"))

        def value(name, **labels):
            samples = [s for each in DedupCollector(plugin).collect() for s in each.samples]
            return next(s.value for s in samples if (s.name, s.labels) == (name, labels))

        assert value("dask_dedup_running") == 1
        plugin.scheduler.clients["c"].last_seen -= 100
        assert value("dask_dedup_running") == 0
        assert value("dask_dedup_runs_total", status="lost") == 1
        assert value("dask_dedup_expected_particles") == 0


def test_ctrl_c_is_not_called_a_failure():
    plugin = received(started("a"), {"run": "a", "kind": "failed", "reason": "interrupted"})
    headline = make_view(plugin)["headline"]
    assert headline == "Interrupted after 0 s. Run the same command to continue."


@pytest.mark.usefixtures("stopped_clock")
class TestNewestRun:
    def test_a_finished_run_is_shown_after_an_earlier_lost_one(self):
        plugin = watched_by("old", "new")
        send(plugin, driven("a", "old"))
        plugin.remove_client(None, "old")
        del plugin.scheduler.clients["old"]
        send(plugin, driven("b", "new"), {"run": "b", **FINISHED})
        view = make_view(plugin)
        assert (view["run"], view["status"]) == ("b", "finished")
        assert [(each["run"], each["status"]) for each in view["runs"]] == [
            ("b", "finished"),
            ("a", "lost"),
        ]


class TestReport:
    def test_the_newest_attempt_at_the_run_has_the_report(self):
        plugin = received(
            started("a"), {"run": "a", **FINISHED}, started("b"), {"run": "b", **FINISHED}
        )
        send(plugin, {"kind": "reported", "run_id": "id", "page": "/out/report.html"})
        assert plugin.runs["b"].report == "/out/report.html"
        assert plugin.runs["a"].report == ""
        send(plugin, {"kind": "reported", "run_id": "other", "page": "/no"}, {"kind": "reported"})
        assert make_view(plugin)["report"] == "/out/report.html"

    def test_only_a_page_named_report_is_served(self, tmp_path):
        with ExitStack() as stack:
            client = start_local(stack, 1, 1)
            base = live_page_link(client).removesuffix("/dedup")
            (tmp_path / "report.html").write_text("<p>the report</p>")
            (tmp_path / "secret").write_text("secret")
            for number, (name, answer) in enumerate(
                {"report.html": 200, "secret": 404, "gone/report.html": 404, "": 404}.items()
            ):
                token = str(number)
                client.log_event(TOPIC, started(token))
                client.log_event(TOPIC, {"run": token, **FINISHED, "run_id": token})
                page = {"kind": "reported", "run_id": token, "page": str(tmp_path / name)}
                client.log_event(TOPIC, page)
                url = f"{base}/dedup-report?run={token}"
                if answer == 200:
                    assert fetch(url) == "<p>the report</p>"
                else:
                    with pytest.raises(urllib.error.HTTPError) as error:
                        fetch(url)
                    assert error.value.code == answer
                    assert "secret" not in error.value.read().decode()


class TestEmptyPlots:
    @pytest.fixture
    def reasons(self):
        pytest.importorskip("bokeh")
        from dask_dedup.monitoring.dashboard.plots import find_reasons

        return lambda plugin: find_reasons(make_view(plugin))

    def test_at_the_start_all_say_what_is_missing(self, reasons):
        empty = reasons(received(started("a")))
        assert {*empty} == {
            *("speed", "slowest", "outcome", "fractions", "densest", "partitions", "bytes")
        }
        assert empty["speed"] == "No task has finished yet."

    def test_a_run_without_a_shuffle_says_so(self, reasons):
        planned = {
            "run": "a",
            "kind": "planned",
            "micrographs": 3,
            "partitions": 0,
            "partition_rows": [],
            "moving_rows": 0,
            "names": [],
        }
        empty = reasons(received(started("a"), planned, written("a", 0)))
        assert empty["partitions"].startswith("Nothing has to be shuffled")
        assert "outcome" not in empty

    def test_one_point_is_no_curve(self, reasons):
        plugin = received(started("a"), written("a", 0), {"run": "a", **FINISHED})
        assert reasons(plugin)["speed"] == "Too few tasks have finished for a curve."

    @pytest.mark.parametrize(
        ("last", "words"),
        [
            ({"kind": "failed", "reason": "no"}, "The run failed before this step."),
            (FINISHED, "The run has finished without these numbers."),
        ],
    )
    def test_nothing_is_promised_after_the_end(self, reasons, last, words):
        empty = reasons(received(started("a"), {"run": "a", **last}))
        assert set(empty.values()) == {words}


@pytest.fixture
def source(tmp_path):
    return write_file(cryosparc(3_000, micrographs=20), tmp_path / "in.parquet", row_group_size=500)


def test_without_bokeh_the_dashboard_is_refused(cli, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    outcome = cli("run", source, "-o", tmp_path / "out", "--dashboard")
    assert outcome.exit_code == 2
    assert outcome.stderr == (
        "dask-dedup: --dashboard needs a library: pip install 'dask-dedup[dashboard]'\n"
    )


@pytest.mark.slow
class TestDashboardOption:
    def test_the_bytes_are_those_of_threads(self, cli, source, tmp_path):
        words = ("run", source, "--min-separation", 40)
        assert cli(*words, "-o", tmp_path / "threads").exit_code == 0
        outcome = cli(*words, "-o", tmp_path / "page", "--dashboard")
        assert outcome.exit_code == 0, outcome.stderr
        assert "live page: http://127.0.0.1:" in outcome.stderr
        threads = len(os.sched_getaffinity(0))
        assert f"1 worker, {threads} thread" in outcome.stderr
        assert data(tmp_path / "page") == data(tmp_path / "threads")

    def test_the_page_lasts_until_the_report_is_written(self, cli, source, tmp_path, monkeypatch):
        import dask_dedup

        seen, real = [], dask_dedup.report

        def look(output, **options):
            (line,) = re.findall(r"live page: (\S+)/dedup", "\n".join(messages))
            seen.append(json.loads(fetch(f"{line}/json/dedup.json")))
            return real(output, **options)

        messages = []
        monkeypatch.setattr(select.log, "info", lambda text, *more: messages.append(text % more))
        monkeypatch.setattr(dask_dedup, "report", look)
        outcome = cli("run", source, "-o", tmp_path / "out", "--dashboard", no_report=False)
        assert outcome.exit_code == 0, outcome.stderr
        assert seen[0]["status"] == "finished"
        # The summary comes before the report.
        assert outcome.stdout.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"

    def test_status_shows_the_options(self, cli, source, tmp_path, monkeypatch):
        out = tmp_path / "out"
        command = sys.modules["dask_dedup.cli.run"]
        monkeypatch.setattr(command, "open_client", lambda *_, **__: None)
        monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)
        monkeypatch.setattr(stages, "write_fragment", broken_after(1))
        options = ("--dashboard", "--dashboard-address", ":8787", "--plot-micrograph", "a b")
        assert cli("run", source, "-o", out, *options).exit_code == 1
        shown = cli("status", out).stdout
        assert "--dashboard --dashboard-address :8787" in shown
        assert shown.count("--plot-micrograph 'a b'") == 1


def broken_after(number):
    real, calls = stages.write_fragment, []

    def write(*arguments):
        calls.append(arguments)
        if len(calls) > number:
            raise OSError("the disk is on fire")
        return real(*arguments)

    return write


@contextmanager
def blocked_cluster():
    """Start a scheduler and a worker that writes nothing; yield the scheduler's address and its page."""
    port, board = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.enter_context(
            dask_program(
                *("scheduler", "--host", "127.0.0.1", "--port", port),
                *("--dashboard-address", f"127.0.0.1:{board}"),
                *("--preload", "dask_dedup.monitoring.dashboard"),
            )
        )
        wait_for(f"http://127.0.0.1:{board}/health")
        words = ("worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard")
        stack.enter_context(dask_program(*words, "--preload", BLOCKED))
        yield address, f"http://127.0.0.1:{board}"


@contextmanager
def driver(*words):
    """Start a run; yield its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from dask_dedup.cli import main; main()", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_driver_is_noticed(tmp_path, source, stop, monkeypatch):
    release = tmp_path / "release"
    monkeypatch.setenv("RELEASE", str(release))
    with blocked_cluster() as (address, base), ExitStack() as stack:
        stack.callback(release.touch)

        def view():
            return json.loads(fetch(f"{base}/json/dedup.json"))

        with driver("run", source, "-o", tmp_path / "out", "--scheduler", address, "-q") as process:
            eventually(lambda: view()["status"] == "running" or process.poll() is not None)
            assert process.poll() is None
            process.send_signal(stop)
            eventually(lambda: view()["status"] == "lost")
            assert view()["headline"].startswith("Driver lost at ")
            assert metrics(fetch(f"{base}/metrics"))["dask_dedup_running"] == 0
            if stop == signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
                release.touch()
                eventually(lambda: view()["status"] in ("running", "finished"))


@pytest.mark.slow
def test_a_browser_shows_the_report_and_that_the_scheduler_has_gone(tmp_path, source):
    with browsing() as visit, ExitStack() as stack:
        client = start_local(stack, 1, 1)
        seen = visit(live_page_link(client))
        seen.page.wait_for_selector("text=No run yet")
        assert seen.page.locator("canvas:visible").count() == 0
        result = run(source, tmp_path / "out", DedupParams(min_separation=40.0), client)
        seen.page.wait_for_selector("text=Finished in")
        seen.page.wait_for_selector("text=not written yet (dask-dedup report")
        (result.output / "report.html").write_text("<title>that page</title>")
        show_report(client, events.reported(result.manifest, f"{result.output}/report.html"))
        seen.page.locator("#report").click()
        seen.page.wait_for_url("**/dedup-report?run=*")
        assert seen.page.title() == "that page"
        seen.page.go_back()
        seen.page.wait_for_selector("#report")
        assert seen.problems == []
        stack.close()
        seen.page.wait_for_selector("text=no longer updated")


@pytest.mark.parametrize(("seconds_ago", "waits"), [(0, True), (60, False)])
def test_a_closing_cluster_waits_for_open_pages_only(monkeypatch, seconds_ago, waits):
    plugin = received(started("a"), {"run": "a", **FINISHED})

    class Page:
        shown = None
        updated = time.monotonic() - seconds_ago

    page = Page()
    plugin.visitors.add(page)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        page.shown = plugin.shown

    monkeypatch.setattr(plugins.asyncio, "sleep", sleep)
    asyncio.run(plugin.wait_for_visitors())
    assert bool(slept) == waits


@pytest.mark.slow
def test_an_open_page_shows_how_a_run_ended_before_its_cluster_closes(
    tmp_path, source, monkeypatch
):
    monkeypatch.setattr(plugins, "VISITOR_SECONDS", PATIENCE)
    monkeypatch.setattr(plugins, "CLOSED_SECONDS", PATIENCE)
    monkeypatch.setattr(plugins, "TRAVEL_SECONDS", 3)
    with browsing() as visit:
        with ExitStack() as stack:
            client = start_local(stack, 1, 1)
            seen = visit(live_page_link(client))
            seen.page.wait_for_selector("text=No run yet")
            run(source, tmp_path / "out", client=client)
        seen.page.wait_for_selector("text=Finished in")
