"""TLS: a cluster refuses clients without a certificate of its authority, also on its pages."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack

import dask
import psutil
import pytest
from conftest import REPOSITORY
from ports import free_port
from tables import cryosparc, write_folder
from test_output import data
from tornado.ioloop import IOLoop

from dask_dedup import run
from dask_dedup.cluster import connect as cluster
from dask_dedup.cluster import handshake
from dask_dedup.cluster.live_page_link import live_page_link
from dask_dedup.formats.parquet import table as parquet
from dask_dedup.pipeline.executors import select

#: Seconds that the tests wait for anything.
LONG = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def collect_sockets():
    """Close the sockets that Dask leaves open after refused connections, before a test of another file warns."""
    yield
    # Closes the event loop of a client that was refused. Tornado keeps its sockets until it makes the next loop.
    gc.collect()
    IOLoop(make_current=False).close()
    gc.collect()


@pytest.fixture(autouse=True)
def many_fragments(monkeypatch):
    monkeypatch.setattr(parquet, "FRAGMENT_BYTES", 1)


@pytest.fixture
def source(tmp_path):
    return write_folder(cryosparc(100, seed=3), tmp_path / "in", files=5)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="class")
def secured(authority):
    """A client of a cluster with TLS in this process."""
    from dask_dedup.cluster.tls import load_security

    security = load_security(authority.ca, authority.certificate, authority.key)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "CONNECT_SECONDS", 10)
        yield cluster.start_local(stack, 1, 2, security=security)


def fetch(address, context=None):
    with urllib.request.urlopen(address, context=context, timeout=LONG) as answer:
        return answer.read().decode()


def refusal(outcome):
    """Return the one line that a refused run prints."""
    assert outcome.exit_code == 1, outcome.stderr
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("dask-dedup: cannot connect to the Dask scheduler at ")
    assert "--tls-ca-file, --tls-cert and --tls-key" in line
    return line


class TestRunningCluster:
    def test_a_run_with_certificates_writes_the_same_bytes(
        self, cli, secured, authority, source, out, tmp_path
    ):
        run(source, tmp_path / "whole")
        address = secured.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        outcome = cli("run", source, "-o", out, "--scheduler", address, *authority.options)
        assert outcome.exit_code == 0, outcome.stderr
        assert f"running on the Dask cluster at {address}" in outcome.stderr
        assert data(out) == data(tmp_path / "whole")

    def test_the_configuration_may_name_the_certificates(
        self, cli, secured, authority, source, out
    ):
        with dask.config.set(authority.configuration):
            outcome = cli("run", source, "-o", out, "--scheduler", secured.scheduler.address)
        assert outcome.exit_code == 0, outcome.stderr

    def test_certificates_of_another_authority_are_refused(self, cli, secured, rogue, source, out):
        options = ("--scheduler", secured.scheduler.address, *rogue.options)
        line = refusal(cli("run", source, "-o", out, *options))
        assert "certificate verify failed" in line
        assert not out.exists()

    def test_a_rogue_certificate_is_refused_by_the_scheduler_too(
        self, cli, secured, authority, rogue, source, out
    ):
        files = ("--tls-ca-file", authority.ca, "--tls-cert", rogue.certificate)
        options = ("--scheduler", secured.scheduler.address, *files, "--tls-key", rogue.key)
        refusal(cli("run", source, "-o", out, *options))
        assert not out.exists()

    def test_without_certificates_the_message_names_the_options(self, cli, secured, source, out):
        refusal(cli("run", source, "-o", out, "--scheduler", secured.scheduler.address))

    @pytest.mark.parametrize("with_certificates", [False, True])
    def test_plain_tcp_is_refused(self, cli, secured, authority, source, out, with_certificates):
        plain = secured.scheduler.address.replace("tls://", "tcp://")
        options = authority.options if with_certificates else ()
        line = refusal(cli("run", source, "-o", out, "--scheduler", plain, *options))
        assert "tls://" in line
        assert plain in line

    def test_pages_are_served_by_https_only(self, secured, authority):
        link = live_page_link(secured)
        assert link.startswith("https://127.0.0.1:")
        page = link.replace("/dedup", "/json/dedup.json")
        context = ssl.create_default_context(cafile=str(authority.ca))
        assert "stages" in json.loads(fetch(page, context)) or fetch(page, context)
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(page)
        with pytest.raises((OSError, urllib.error.URLError)):
            fetch(page.replace("https://", "http://"))


def test_a_scheduler_without_tls_is_refused(cli, authority, source, out, monkeypatch):
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 10)
    import logging

    # A plain scheduler logs a page about a client with TLS.
    for name in ("tornado.application", "distributed.core", "distributed.comm"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as plain:
        address = plain.scheduler_address.replace("tcp://", "tls://")
        line = refusal(cli("run", source, "-o", out, "--scheduler", address, *authority.options))
    assert address in line


class TestStartedCluster:
    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("how", ["options", "configuration"])
    def test_it_uses_tls_and_listens_on_this_machine_only(
        self, cli, authority, source, out, tmp_path, workers, how
    ):
        run(source, tmp_path / "whole")
        before = listening()
        options, changes = authority.options, {}
        if how == "configuration":
            options, changes = [], authority.configuration
        addresses = set()
        real = select.live_page_link

        def look(client):
            addresses.update(listening() - before)
            return real(client)

        with pytest.MonkeyPatch.context() as patch, dask.config.set(changes):
            patch.setattr(select, "live_page_link", look)
            outcome = cli("run", source, "-o", out, "--workers", workers, *options)
        assert outcome.exit_code == 0, outcome.stderr
        assert "running on the Dask cluster at tls://127.0.0.1:" in outcome.stderr
        assert "live page: https://127.0.0.1:" in outcome.stderr
        assert data(out) == data(tmp_path / "whole")
        assert addresses
        assert {address.ip for address in addresses} == {"127.0.0.1"}


class TestWrongUse:
    @pytest.mark.parametrize(
        ("broken", "how"),
        [
            ("--tls-ca-file", "absent"),
            ("--tls-ca-file", "no PEM"),
            ("--tls-cert", "no PEM"),
            ("--tls-key", "absent"),
        ],
    )
    def test_unusable_files_are_named(self, cli, authority, source, out, tmp_path, broken, how):
        options = list(authority.options)
        bad = tmp_path / "bad.pem"
        if how == "no PEM":
            bad.write_text("nonsense\n")
        options[options.index(broken) + 1] = str(bad)
        outcome = cli("run", source, "-o", out, "--workers", 1, *options)
        assert outcome.exit_code == 2
        (line,) = outcome.stderr.splitlines()
        assert str(bad) in line

    def test_a_key_of_another_certificate_is_refused(self, cli, authority, rogue, source, out):
        options = [*authority.options[:-1], str(rogue.key)]
        outcome = cli("run", source, "-o", out, "--workers", 1, *options)
        assert outcome.exit_code == 2
        assert "cannot be used together" in outcome.stderr

    def test_a_key_may_be_in_the_file_of_its_certificate(self, authority, tmp_path):
        from dask_dedup.cluster.tls import load_security

        both = tmp_path / "both.pem"
        both.write_bytes(authority.certificate.read_bytes() + authority.key.read_bytes())
        security = load_security(authority.ca, both)
        assert security.tls_worker_key == str(both)

    def test_certificates_without_a_cluster_are_refused(self, cli, authority, source, out):
        outcome = cli("run", source, "-o", out, *authority.options)
        assert outcome.exit_code == 2
        assert "need a cluster" in outcome.stderr

    def test_an_incomplete_configuration_is_refused(self, cli, authority, source, out):
        half = {"distributed.comm.tls.ca-file": str(authority.ca)}
        with dask.config.set(half):
            outcome = cli("run", source, "-o", out, "--workers", 1)
        assert outcome.exit_code == 2
        assert "distributed.comm.tls.scheduler.cert" in outcome.stderr


def listening():
    own = psutil.Process()
    return {
        connection.laddr
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.slow
class TestCommandsOfTheDocumentation:
    """The commands in deploy/README.md."""

    COMMANDS = re.findall(
        r"^(?:openssl|export|dask|dask-dedup) .*tls.*$|^openssl .*$",
        (REPOSITORY / "deploy" / "README.md").read_text().partition("## With TLS")[2],
        flags=re.MULTILINE | re.IGNORECASE,
    )

    @pytest.fixture
    def folder(self, tmp_path):
        """A folder with inputs and programs, where commands run."""
        if not shutil.which("openssl"):
            pytest.skip("needs openssl")
        for seed, name in enumerate(("blob", "template")):
            write_folder(cryosparc(100, seed=seed), tmp_path / "picks" / name, files=3)
        (tmp_path / "bin").mkdir()
        for name, module in (("dask", "dask"), ("dask-dedup", "dask_dedup.cli")):
            program = tmp_path / "bin" / name
            code = f"from {module} import main; main()"
            if name == "dask":
                code = "from dask.__main__ import main; main()"
            program.write_text(f"#!{sys.executable}\nif __name__ == '__main__':\n    {code}\n")
            program.chmod(0o755)
        return tmp_path

    def test_they_start_a_cluster_with_tls_that_refuses_others(self, folder, rogue):
        (ca, request, sign), export, scheduler, worker, wanted = self.shape()
        ports = dict(zip(("8786", "8787"), (free_port(), free_port()), strict=True))

        def shell(command, start=subprocess.run, **options):
            for documented, port in ports.items():
                command = command.replace(f":{documented}", f":{port}").replace(
                    f" {documented} ", f" {port} "
                )
            command = command.replace("/tmp/dask-scratch", str(folder / "scratch"))
            environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
            return start(["bash", "-c", command], cwd=folder, env=environment, **options)

        def outcome(command):
            return shell(command, capture_output=True, text=True, timeout=LONG)

        for command in (ca, request, sign):
            done = outcome(command)
            assert done.returncode == 0, done.stderr
        with ExitStack() as stack:
            for command in (f"{export}; exec {scheduler}", f"exec {worker}"):
                process = shell(command, subprocess.Popen, stderr=subprocess.PIPE, text=True)
                stack.callback(end, process)
            done = outcome(f"{wanted} --no-report")
            assert done.returncode == 0, done.stderr
            assert "running on the Dask cluster at tls://127.0.0.1:" in done.stderr
            assert ": 2 workers, 8 threads" in done.stderr
            assert "live page: https://127.0.0.1:" in done.stderr
            context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
            link = re.search(r"live page: (\S+)", done.stderr)[1]
            page = fetch(link.replace("/dedup", "/json/dedup.json"), context)
            assert json.loads(page)
            other = [str(word) for word in rogue.options]
            refused = outcome(f"{wanted.partition(' --tls')[0]} {shlex.join(other)}")
            assert refused.returncode == 1
            assert "cannot connect to the Dask scheduler" in refused.stderr
            joining = outcome(
                f"timeout 20 {worker.partition(' --tls')[0]} --death-timeout 5 {shlex.join(other)}"
            )
            assert joining.returncode != 0
            again = outcome(f"{wanted} --no-report --overwrite --seed 1")
            assert ": 2 workers, 8 threads" in again.stderr

    def shape(self):
        """Return the commands by purpose; fail if the documentation has others."""
        *openssl, export, scheduler, worker, wanted = self.COMMANDS
        assert [command.split()[1] for command in openssl] == ["req", "req", "x509"]
        starts = ("export DASK_", "dask scheduler ", "dask worker ", "dask-dedup run ")
        for command, start in zip((export, scheduler, worker, wanted), starts, strict=True):
            assert command.startswith(start)
        return openssl, export, scheduler, worker, wanted


def end(process):
    process.terminate()
    try:
        process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
