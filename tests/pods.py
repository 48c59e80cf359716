"""Runs pods as processes of this machine, as a Kubernetes node does for our manifests.

Each pod has its own network and processes, a user without rights, a root that is read-only if requested, and its
volumes, variables, names, ports and probes. There are no container images: the root is this machine's, with a virtual
environment at /opt/venv. All of it runs in namespaces that end with this program::

    python tests/pods.py play.json    # as root; see `play`
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from conftest import REPOSITORY

NODE = "10.244.0.1"
STORE = f"http://{NODE}:9000"
PROMETHEUS = f"http://{NODE}:9090"
_SIZES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001, "": 1}
_TOOLS = ("unshare", "nsenter", "ip", "setpriv", "pivot_root", "mount")


def missing():
    """Return why pods cannot run here; empty if they can."""
    if os.geteuid() != 0:
        return "pods run in separate namespaces, which needs root"
    absent = [tool for tool in _TOOLS if not shutil.which(tool)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    check = "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay overlay "
    check += "-o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && ip link add node type bridge"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--uts", "sh", "-c", check], capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


def play(folder, **what):
    """Run `main` in separate namespaces and return its outcome.

    Keys of `what`:

    - `pods`: see `Pod`
    - `services`: selectors by name
    - `venv`: mounted at /opt/venv in all pods
    - `variables`: of the image
    - `maps`: config maps and secrets by name
    - `buckets`: contents of the object store, a folder each or None
    - `wait_for`: names of pods whose end to wait for, one after the other
    - `scrape`: names and ports of the pods that Prometheus reads, by job
    - `queries`: of Prometheus, with the values to wait for
    - `health`: a command to run in each of the other pods
    - `after`: commands to run at the end, with the object store available
    """
    file = folder / "play.json"
    file.write_text(json.dumps({**what, "folder": str(folder)}))
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (folder / "node.log").open("w") as log:
        done = subprocess.run(
            [*command, sys.executable, __file__, file], stdout=log, stderr=log, timeout=280
        )
    logs = [file.name + ": " + file.read_text()[-1_500:] for file in sorted(folder.glob("*.log"))]
    assert done.returncode == 0, "\n".join(logs)
    return json.loads((folder / "outcome.json").read_text())


def quantity(text):
    """Return a Kubernetes quantity as a number, rounded up."""
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", str(text)).groups()
    return math.ceil(float(number) * _SIZES[unit])


def expand(text, variables):
    """Replace `$(NAME)` by variables, as a kubelet does."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], text)


def variables_of(container, pod, maps):
    """Return a container's environment variables; `maps` has config maps and secrets by name."""
    found = {}
    for source in container.get("envFrom", ()):
        (reference,) = source.values()
        found |= maps[reference["name"]]
    for entry in container.get("env", ()):
        value = entry.get("value")
        if value is None:
            ((kind, where),) = entry["valueFrom"].items()
            if kind == "fieldRef":
                assert where["fieldPath"] == "metadata.name"
                value = pod["metadata"]["name"]
            else:
                assert kind == "resourceFieldRef"
                part, resource = where["resource"].split(".")
                value = str(quantity(container["resources"][part][resource]))
        found[entry["name"]] = expand(value, found)
    return found


def selects(selector, labels):
    """Return whether labels include all labels of a selector."""
    return selector.items() <= labels.items()


class Pod:
    """A running pod.

    Parameters
    ----------
    pod : dict
        The manifest: metadata and spec.
    number : int
        Its address is 10.244.0.(10 + number).
    """

    def __init__(self, pod, number, base, venv):
        self.pod, self.spec, self.name = pod, pod["spec"], pod["metadata"]["name"]
        self.labels = pod["metadata"].get("labels", {})
        self.containers = [*self.spec.get("initContainers", ()), *self.spec["containers"]]
        self.address, self.net = f"10.244.0.{10 + number}", f"pod{number}"
        self.folder, self.logs, self.venv = base / self.name, base.parent, venv
        self.process = self.exit = None
        link = f"veth{number}"
        run("ip", "netns", "add", self.net)
        run(*f"ip link add {link} type veth peer name eth0 netns {self.net}".split())
        run(*f"ip link set {link} master node up".split())
        # The default route leads nowhere; Dask uses it to find its own address.
        for line in (
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {NODE}",
        ):
            run("ip", "-n", self.net, *line.split())
        for volume in self.spec.get("volumes", ()):
            if "emptyDir" in volume:
                (self.folder / volume["name"]).mkdir(parents=True)

    def start(self, container, maps, hosts, image_variables):
        """Start one of the pod's containers."""
        variables = {**image_variables, **variables_of(container, self.pod, maps)}
        words = [*container.get("command", ()), *container.get("args", ())]
        words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())] + [
            expand(word, variables) for word in words
        ]
        security = {**self.spec.get("securityContext", {}), **container.get("securityContext", {})}
        work = self.folder / f"root-{container['name']}"
        for part in ("upper", "work", "root"):
            (work / part).mkdir(parents=True)
        (self.folder / "hosts").write_text(hosts)
        script = self._script(container, work, security, words)
        self.log = self.logs / f"{self.name}-{container['name']}.log"
        enter = ["ip", "netns", "exec", self.net, "unshare", "--mount", "--pid", "--uts", "--fork"]
        self.process = subprocess.Popen(
            [*enter, "--kill-child", "sh", "-c", script],
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def _script(self, container, work, security, words):
        root = work / "root"
        lines = [
            "set -e",
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/work {root}",
            f"cd {root}",
            "mkdir -p proc dev sys .before",
            "mount -t proc proc proc",
            "mount --rbind /dev dev",
            "mount --rbind /sys sys",
            f"mount --bind {self.folder}/hosts etc/hosts",
            "mkdir -p opt/venv",
            f"mount --bind {self.venv} opt/venv",
        ]
        kinds = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            volume, target = kinds[mount["name"]], shlex.quote(mount["mountPath"].lstrip("/"))
            source = volume.get("hostPath", {}).get("path", self.folder / mount["name"])
            if Path(source).is_file():
                lines.append(f"mkdir -p $(dirname {target}) && touch {target}")
            else:
                lines.append(f"mkdir -p {target}")
            lines.append(f"mount --bind {shlex.quote(str(source))} {target}")
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,bind,ro {target}")
        # Programs of the environment use the checkout, which a volume may hide.
        checkout = shlex.quote(str(REPOSITORY))
        lines.append(f"mkdir -p .{checkout} && mount --bind {checkout} .{checkout}")
        lines += ["pivot_root . .before", "cd /", "umount -l .before", "hostname pod"]
        if security.get("readOnlyRootFilesystem"):
            lines.append("mount -o remount,ro /")
        user = security.get("runAsUser", 0)
        # Mapped to another user, without any of root's capabilities.
        become = f"unshare --user --map-user={user} --map-group={security.get('runAsGroup', user)}"
        lines.append(f"exec {become} setpriv --no-new-privs {shlex.join(words)}")
        return "\n".join(lines)

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def execute(self, words):
        """Run a command in the running pod; return its exit code and output."""
        outer = self.process.pid
        first = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
        enter = ["nsenter", "--target", first, "--mount", "--net", "--pid"]
        done = subprocess.run([*enter, *words], capture_output=True, text=True, timeout=200)
        return [done.returncode, done.stdout + done.stderr]

    def started(self, container):
        if not self.is_up():
            raise SystemExit(f"{self.name} ended with exit code {self.process.poll()}")
        return self.probe(container, "startupProbe") == 200

    def probe(self, container, kind):
        """Send a probe as a kubelet does; return the HTTP status, or 0 without an answer."""
        what = container[kind]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        port = ports.get(what["port"], what["port"])
        try:
            url = f"http://{self.address}:{port}{what['path']}"
            with urllib.request.urlopen(
                url, timeout=container[kind].get("timeoutSeconds", 1)
            ) as page:
                return page.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def run(*words):
    subprocess.run([str(word) for word in words], check=True)


def until(condition, seconds, what):
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"timed out while waiting for {what}")
        time.sleep(0.1)


def answers(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as page:
        return page.status == 200
    return False


def start_store(buckets, maps):
    """Start an S3 server on the node and fill it."""
    server = Path(sys.executable).with_name("moto_server")
    subprocess.Popen([server, "-H", NODE, "-p", "9000"], stdout=subprocess.DEVNULL)
    until(lambda: answers(f"{STORE}/moto-api/"), 60, "the object store")
    import s3fs

    os.environ |= maps
    store = s3fs.S3FileSystem(endpoint_url=STORE)
    for name, folder in buckets.items():
        store.mkdir(name)
        if folder:
            store.put(f"{folder}/", f"{name}/", recursive=True)


def start_prometheus(folder, targets):
    """Start a Prometheus on the node that reads the pods' metrics."""
    jobs = [
        {"job_name": name, "static_configs": [{"targets": hosts}]}
        for name, hosts in targets.items()
    ]
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    log = (folder / "prometheus.log").open("w")
    listen = f"--web.listen-address={NODE}:9090"
    subprocess.Popen([*words, listen], stdout=log, stderr=subprocess.STDOUT)
    until(lambda: answers(f"{PROMETHEUS}/-/ready"), 60, "Prometheus")


def query(text):
    url = f"{PROMETHEUS}/api/v1/query?query={urllib.parse.quote(text)}"
    with urllib.request.urlopen(url, timeout=60) as page:
        return [entry["value"][1] for entry in json.load(page)["data"]["result"]]


def main(what):
    """Start the pods, wait for those that end, and write the outcome."""
    folder = Path(what["folder"])
    base = folder / "pods"
    base.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", base)
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for line in ("lo up", "add node type bridge", "node up"):
        verb = [] if line.startswith("add") else ["set"]
        run("ip", "link", *verb, *line.split())
    run("ip", "addr", "add", f"{NODE}/24", "dev", "node")
    maps = what["maps"]
    if "buckets" in what:
        start_store(what["buckets"], what["credentials"])
    pods = [Pod(pod, number, base, what["venv"]) for number, pod in enumerate(what["pods"])]
    lines = [f"127.0.0.1 localhost\n{NODE} node s3"]
    for name, selector in what["services"].items():
        lines += [f"{pod.address} {name}" for pod in pods if selects(selector, pod.labels)]
    lines += [f"{pod.address} {pod.name}" for pod in pods]
    hosts = "\n".join(lines) + "\n"
    outcome = {"exit": {}, "probes": {}, "logs": {}, "health": {}}

    def launch(pod, container):
        pod.start(container, maps, hosts, what.get("variables", {}))

    def finish(pod):
        pod.exit = pod.process.wait()
        outcome["logs"][pod.name] = pod.log.read_text()
        return pod.exit

    named = {pod.name: pod for pod in pods}
    waited = [named[name] for name in what["wait_for"]]
    # The run starts first, so it has to wait for the scheduler and the workers.
    launch(waited[0], waited[0].containers[0])
    for pod in pods:
        if pod not in waited:
            launch(pod, pod.spec["containers"][0])
    for pod in pods:
        container = pod.spec["containers"][0]
        if "startupProbe" in container:
            probe = container["startupProbe"]
            limit = probe["periodSeconds"] * probe["failureThreshold"]
            until(lambda p=pod, c=container: p.started(c), limit, pod.name)
        kinds = [kind for kind in ("readinessProbe", "livenessProbe") if kind in container]
        for kind in kinds:
            until(lambda p=pod, c=container, k=kind: p.probe(c, k) == 200, 60, f"{pod.name} {kind}")
        outcome["probes"][pod.name] = kinds
    if what.get("scrape"):
        targets = {
            job: [f"{named[name].address}:{port}" for name, port in targets_of_job]
            for job, targets_of_job in what["scrape"].items()
        }
        start_prometheus(folder, targets)
    for pod in waited:
        if pod.process is None:
            launch(pod, pod.containers[0])
        for container in pod.containers[1:]:
            if finish(pod) != 0:
                raise SystemExit(f"{pod.name} ended with exit code {pod.exit}")
            launch(pod, container)
        outcome["exit"][pod.name] = finish(pod)
    if what.get("scrape"):
        for text, values in what["queries"].items():
            until(lambda t=text, v=values: query(t) == v, 60, f"{text} to be {values}")
    for pod in pods:
        if pod not in waited:
            assert pod.is_up(), pod.log.read_text()[-3_000:]
            outcome["logs"][pod.name] = pod.log.read_text()
            if "health" in what:
                outcome["health"][pod.name] = pod.execute(what["health"])
    outcome["after"] = []
    for words in what.get("after", ()):
        done = subprocess.run(
            words, capture_output=True, text=True, env=os.environ | {"AWS_ENDPOINT_URL": STORE}
        )
        outcome["after"].append([done.returncode, done.stdout, done.stderr])
    (folder / "outcome.json").write_text(json.dumps(outcome))
    for pod in pods:
        if pod.is_up():
            pod.process.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
