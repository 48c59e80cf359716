"""The image and the compose file of deploy/docker, tested as far as possible without a container engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import dockerfile
import pytest
import yaml
from commands import CREDENTIALS, is_read, parse
from conftest import REPOSITORY
from pods import missing, play

import dask_dedup

DOCKER = REPOSITORY / "deploy" / "docker"
ARGUMENTS, STAGES = dockerfile.read(DOCKER / "Dockerfile")
BUILD, FINAL = STAGES
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
REQUIREMENTS = [
    line
    for line in (DOCKER / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]


def context():
    """Yield the files that reach the builder, without those that the ignore file excludes."""
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    excluded = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    for name in allowed:
        path = REPOSITORY / name
        files = [path] if path.is_file() else path.rglob("*")
        for file in files:
            parts = file.relative_to(REPOSITORY).parts
            hidden = any(fnmatch.fnmatch(part, rule) for part in parts for rule in excluded)
            if file.is_file() and not hidden:
                yield file.relative_to(REPOSITORY)


class TestImage:
    def test_versions_are_pinned(self):
        assert {stage.base for stage in STAGES} == {"${PYTHON}"}
        assert re.fullmatch(r"python:[\d.]+-slim-\w+@sha256:[0-9a-f]{64}", ARGUMENTS["PYTHON"])
        assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in REQUIREMENTS)

    def test_it_installs_the_requirements_of_the_project(self):
        from packaging.requirements import Requirement

        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        (install,) = [line for line in BUILD.commands if '".[' in line]
        extras = re.search(r'"\.\[(.+?)\]"', install)[1].split(",")
        pinned = {
            normal(name): version for name, version in (line.split("==") for line in REQUIREMENTS)
        }
        wanted = list(project["dependencies"])
        for extra in extras:
            wanted += project["optional-dependencies"][extra]
        for requirement in map(Requirement, wanted):
            version = pinned[normal(requirement.name)]
            assert requirement.specifier.contains(version), requirement

    def test_labels_match_the_project(self):
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        labels = FINAL.variables[1]
        assert labels == {
            "org.opencontainers.image.title": project["name"],
            "org.opencontainers.image.description": project["description"],
            "org.opencontainers.image.licenses": project["license"],
            "org.opencontainers.image.version": "${VERSION}",
            "org.opencontainers.image.revision": "${REVISION}",
        }
        assert FINAL.all("ARG")[0] == f"VERSION={dask_dedup.__version__}"

    def test_it_runs_without_root(self):
        user, group = FINAL.all("USER")[-1].split(":")
        assert int(user) == int(group) > 999
        after = FINAL.instructions[FINAL.instructions.index(("USER", f"{user}:{group}")) :]
        assert "RUN" not in {word for word, _ in after}

    def test_the_context_has_exactly_the_copied_files(self):
        files = set(context())
        copied = set()
        for stage in STAGES:
            for text in stage.all("COPY"):
                words = text.split()
                if not words[0].startswith("--from"):
                    copied.update(words[:-1])
        for name in copied:
            assert any(Path(name) in (file, *file.parents) for file in files), name
        for file in files:
            assert any(Path(name) in (file, *file.parents) for name in copied), file
        assert not any("__pycache__" in file.parts for file in files)

    def test_its_default_command_shows_the_help(self):
        words = json.loads(FINAL.all("CMD")[-1])
        assert words == ["dask-dedup", "--help"]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


class TestHealth:
    @pytest.mark.parametrize(
        ("command", "port"),
        [
            ("/opt/venv/bin/python /opt/venv/bin/dask scheduler --port=8786", 8787),
            ("/opt/venv/bin/python /opt/venv/bin/dask scheduler --dashboard-address :99", 99),
            ("/sbin/docker-init -- dask worker tcp://s:8786 --dashboard-address=0.0.0.0:98", 98),
            ("dask worker tcp://scheduler:8786", 8788),
            ("dask-dedup run worker scheduler --output out", None),
        ],
    )
    def test_it_finds_the_port_in_the_command_line(self, command, port):
        script = f"import health; print(health.port_of({command.split()!r}))"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=DOCKER, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{port}\n"

    def test_the_image_calls_it_where_it_is_copied(self):
        copied = [text.split() for text in FINAL.all("COPY")]
        (target,) = [words[1] for words in copied if words[0] == "deploy/docker/health.py"]
        assert FINAL.all("HEALTHCHECK")[0].endswith(f'CMD ["python", "{target}"]')


class TestCompose:
    def test_the_programs_accept_the_command_lines(self):
        pytest.importorskip("upath")
        found = {
            name: parse(service["command"]) for name, service in OURS.items() if name != "fill"
        }
        compile(OURS["fill"]["command"][2], "fill", "exec")
        assert found["worker"]["scheduler"] == "tcp://scheduler:8786"
        assert found["scheduler"]["port"] == "8786"
        assert found["run"]["scheduler"] == "tcp://scheduler:8786"
        assert set(found) == {"scheduler", "worker", "run"}

    def test_every_variable_is_read_by_a_library(self):
        for service in OURS.values():
            assert [name for name in service.get("environment", ()) if not is_read(name)] == []

    def test_referenced_services_exist(self):
        keys = {
            "command",
            "entrypoint",
            "environment",
            "image",
            "build",
            "ports",
            "volumes",
            "depends_on",
        }
        keys |= {"read_only", "init", "cap_drop", "security_opt", "tmpfs", "deploy", "profiles"}
        for service in SERVICES.values():
            assert set(service) <= keys
            for name, how in service.get("depends_on", {}).items():
                assert name in SERVICES
                # Only our image has a health check.
                assert how["condition"] != "service_healthy" or name in OURS
        for service in OURS.values():
            assert (DOCKER / service["build"]["context"]).resolve() == REPOSITORY
            assert (REPOSITORY / service["build"]["dockerfile"]).exists()
            assert service["image"] == f"dask-dedup:{dask_dedup.__version__}"
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]

    def test_it_listens_on_this_machine_only(self):
        ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
        assert len(ports) == len(set(ports)) == 5
        assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)

    def test_other_images_are_pinned(self):
        for name in SERVICES.keys() - OURS.keys():
            assert re.search(r":v?\d+\.\d+\.\d+$", SERVICES[name]["image"])

    def test_mounted_files_exist(self):
        mounted = [
            v.split(":") for s in SERVICES.values() for v in s.get("volumes", ()) if ":" in v
        ]
        assert len(mounted) == 5
        for source, _, mode in mounted:
            assert (DOCKER / source).is_file()
            assert mode == "ro"

    def test_prometheus_finds_the_services(self):
        jobs = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
        scheduler, workers = jobs
        port = parse(OURS["scheduler"]["command"])["dashboard_address"]
        assert scheduler["static_configs"] == [{"targets": [f"scheduler{port}"]}]
        (names,) = workers["dns_sd_configs"]
        port = parse(OURS["worker"]["command"])["dashboard_address"]
        assert (names["names"], f":{names['port']}") == (["worker"], port)

    @pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
    def test_prometheus_accepts_its_configuration(self, tmp_path):
        for volume in SERVICES["prometheus"]["volumes"]:
            source, target, _ = volume.split(":")
            shutil.copy(DOCKER / source, tmp_path / Path(target).name)
        command = ["promtool", "check", "config", tmp_path / "prometheus.yml"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_grafana_finds_prometheus_and_the_dashboard(self):
        (source,) = yaml.safe_load((DOCKER / "grafana" / "datasource.yaml").read_text())[
            "datasources"
        ]
        assert source["url"] == "http://prometheus:9090"
        (provider,) = yaml.safe_load((DOCKER / "grafana" / "dashboards.yaml").read_text())[
            "providers"
        ]
        targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
        assert any(Path(target).parent == Path(provider["options"]["path"]) for target in targets)


def build(folder):
    """Run the steps of the Dockerfile, on this machine's system instead of the base image.

    An overlay file system gives the steps the paths of the image. Returns the folder that is /opt/venv in it.
    """
    source, venv, layers = folder / "src", folder / "venv", folder / "layers"
    for file in context():
        (folder / "context" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, folder / "context" / file)
    for path in (source, venv, layers):
        path.mkdir()
    lines = ["set -e", f"mount -t tmpfs tmpfs {layers}"]
    for root in ("opt", "etc"):
        parts = [f"{layers}/{root}-{part}" for part in ("upper", "work")]
        lines.append(f"mkdir {shlex.join(parts)}")
        lines.append(
            f"mount -t overlay overlay -o lowerdir=/{root},upperdir={parts[0]},workdir={parts[1]} /{root}"
        )
    lines += ["mkdir /opt/venv", f"mount --bind {venv} /opt/venv", f"cd {source}"]
    for word, text in BUILD.instructions:
        if word == "COPY":
            *names, target = text.split()
            for name in names:
                lines.append(f"cp -r {folder}/context/{name} {target}")
        elif word == "RUN":
            lines.append(re.sub(r"--mount=\S+\s+", "", text))
    for text in FINAL.commands:
        lines.append(text.replace("/scratch", f"{layers}/scratch"))
    lines.append(f'test "$(stat -c %u:%g {layers}/scratch)" = {FINAL.all("USER")[-1]}')
    lines.append(f'test "$(id -u dedup):$(id -g dedup)" = {FINAL.all("USER")[-1]}')
    path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            "\n".join(lines),
        ],
        capture_output=True,
        text=True,
        # Compiled files would only take time here.
        env={**BUILD.variables[0], **proxies(), "PATH": path, "PIP_NO_COMPILE": "1"},
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-3_000:]
    return venv


def proxies():
    """Return this machine's settings for the package registry."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return settings | {"HOME": str(Path.home())}


def pods_of(services):
    """Yield services of the compose file as pods."""
    user = int(FINAL.all("USER")[-1].split(":")[0])
    for name, service in services.items():
        volumes = [(f"tmpfs{n}", path, None) for n, path in enumerate(service["tmpfs"])]
        volumes += [(f"volume{n}", path, None) for n, path in enumerate(service.get("volumes", ()))]
        volumes.append(("health", "/opt/health.py", str(DOCKER / "health.py")))
        variables = {
            key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
            for key, value in service.get("environment", {}).items()
        }
        container = {
            "name": name,
            "command": service["command"],
            "env": [{"name": key, "value": value} for key, value in variables.items()],
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path, _ in volumes],
            "securityContext": {"readOnlyRootFilesystem": service["read_only"], "runAsUser": user},
        }
        for number in range(service.get("deploy", {}).get("replicas", 1)):
            yield {
                "metadata": {"name": f"{name}-{number}", "labels": {"service": name}},
                "spec": {
                    "containers": [container],
                    "volumes": [
                        {"name": volume, "hostPath": {"path": source}}
                        if source
                        else {"name": volume, "emptyDir": {}}
                        for volume, _, source in volumes
                    ],
                },
            }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(missing()), reason=missing() or "can be run")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the image has Python 3.11")
def test_the_steps_of_the_image_and_the_services_of_compose_work(tmp_path):
    """The image's environment is installed, and runs the commands of the services."""
    pytest.importorskip("moto")
    venv = build(tmp_path)
    installed = venv / "lib/python3.11/site-packages"
    assert not (installed / "moto").exists()
    compiled = [*(installed / "dask_dedup/results/report/__pycache__").glob("*.cache")]
    assert compiled
    assert all(file.stat().st_mode & stat.S_IROTH for file in compiled)
    dedup = [sys.executable, "-c", "from dask_dedup.cli import main; main()"]
    health = json.loads(FINAL.all("HEALTHCHECK")[0].partition("CMD ")[2])
    outcome = play(
        tmp_path,
        pods=list(pods_of(OURS)),
        services={name: {"service": name} for name in OURS},
        maps={},
        credentials=CREDENTIALS,
        venv=str(venv),
        variables=FINAL.variables[0],
        buckets={},
        wait_for=["fill-0", "run-0"],
        health=health,
        scrape={"all": [("scheduler-0", 8787), ("worker-0", 8788), ("worker-1", 8788)]}
        if shutil.which("prometheus")
        else None,
        queries={"up": ["1"] * 3},
        after=[[*dedup, "verify", "s3://results/combined"]],
    )
    assert outcome["exit"] == {"fill-0": 0, "run-0": 0}, outcome["logs"]
    assert "2 workers, 4 threads" in outcome["logs"]["run-0"]
    assert outcome["health"] == {name: [0, ""] for name in ("scheduler-0", "worker-0", "worker-1")}
    assert [code for code, _, _ in outcome["after"]] == [0], outcome["after"]
