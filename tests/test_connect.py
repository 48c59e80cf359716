"""Addresses at which no Dask scheduler answers end a run soon, in one line that names the cure."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from browser import PATIENCE
from tables import cryosparc, write_file

from dask_dedup.cluster import handshake
from dask_dedup.cluster.connect import connect


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait long for schedulers that answer: this machine may be busy."""
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", PATIENCE)


@pytest.fixture
def impatient(patient, monkeypatch):
    """Give up early, in tests of schedulers that never answer."""
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 1)


@pytest.fixture
def answer(cli, tmp_path):
    """Return a function that starts a run on a scheduler, and returns the lines that the run prints."""
    source = write_file(cryosparc(20), tmp_path / "in.parquet")

    def start(option, value):
        outcome = cli("run", source, "-o", tmp_path / "out", option, value)
        assert outcome.exit_code in (1, 2)
        assert not (tmp_path / "out").exists()
        return outcome.stderr.splitlines()

    return start


def mute_port(stack):
    """Open a port that accepts connections and never sends anything."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return server.getsockname()[1]


def web_port(stack):
    """Start a web server, such as a dashboard."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Print nothing."""

    server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    return server.server_port


def closing_port(stack):
    """Start a server that closes every connection at once."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def close_all():
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=close_all, daemon=True).start()
    return server.getsockname()[1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("port", [mute_port, web_port], ids=["mute", "web"])
def test_a_port_that_is_no_scheduler(answer, stack, port):
    address = f"tcp://127.0.0.1:{port(stack)}"
    (line,) = answer("--scheduler", address)
    assert line.startswith(f"dask-dedup: cannot connect to the Dask scheduler at {address}: ")
    assert "does not answer as a scheduler. Check the port" in line
    assert "dashboards 8787" in line


@pytest.mark.usefixtures("impatient")
def test_a_port_that_closes_connections(answer, stack):
    (line,) = answer("--scheduler", f"tcp://127.0.0.1:{closing_port(stack)}")
    assert "cannot connect to the Dask scheduler at tcp://127.0.0.1:" in line


@pytest.mark.usefixtures("impatient")
def test_a_port_without_a_server(answer):
    (line,) = answer("--scheduler", "tcp://127.0.0.1:9")
    assert line.startswith("dask-dedup: cannot connect to the Dask scheduler at tcp://127.0.0.1:9")


def test_a_refused_connection_asks_whether_the_scheduler_runs():
    error = OSError("timed out")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    line = str(handshake.cannot_connect("tcp://node1:8786", error))
    assert line.endswith("Connection refused. Check the address, and that the scheduler runs.")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8787/status", "127.0.0.1", "node one"])
def test_an_address_of_another_kind(answer, address):
    (line,) = answer("--scheduler", address)
    assert "Check the address, such as tcp://node1:8786." in line


def test_the_address_of_a_worker_names_the_scheduler(answer, two_workers):
    worker = next(iter(two_workers.scheduler_info()["workers"]))
    (line,) = answer("--scheduler", worker)
    assert (
        f"the address of a Worker. Pass the scheduler's address: {two_workers.scheduler.address}"
        in line
    )


@pytest.mark.usefixtures("impatient")
def test_a_slow_answer_is_announced_with_the_time_it_ends(answer, monkeypatch):
    monkeypatch.setattr(handshake, "NOTICE_SECONDS", 0.1)
    notice, error = answer("--scheduler", "tcp://127.0.0.1:9")
    waiting = "waiting for the Dask scheduler at tcp://127.0.0.1:9; the run stops at "
    assert notice.startswith(waiting)
    assert notice.endswith(" without it")
    assert error.startswith("dask-dedup: cannot connect")


class TestSchedulerFiles:
    @pytest.mark.usefixtures("impatient")
    def test_without_an_address(self, answer, tmp_path):
        file = tmp_path / "s.json"
        file.write_text("{}")
        (line,) = answer("--scheduler-file", file)
        assert f"--scheduler-file {file}: has no scheduler address" in line

    @pytest.mark.usefixtures("impatient")
    def test_of_a_scheduler_that_has_ended(self, answer, tmp_path):
        file = tmp_path / "s.json"
        file.write_text(json.dumps({"address": "tcp://127.0.0.1:9"}))
        (line,) = answer("--scheduler-file", file)
        assert "cannot connect to the Dask scheduler at tcp://127.0.0.1:9" in line

    def test_that_appears_later(self, stack, two_workers, tmp_path):
        file = tmp_path / "s.json"
        file.write_text("")
        content = json.dumps({"address": two_workers.scheduler.address})
        threading.Timer(0.3, file.write_text, [content]).start()
        client = connect(stack, scheduler_file=file)
        assert client.scheduler.address == two_workers.scheduler.address


def test_in_an_event_loop(two_workers):
    async def start():
        with ExitStack() as stack:
            return connect(stack, two_workers.scheduler.address).status

    assert asyncio.run(start()) == "running"
