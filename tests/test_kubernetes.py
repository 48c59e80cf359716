"""The manifests of deploy/kubernetes are valid and consistent, and their containers work."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from functools import cache
from pathlib import Path

import dockerfile
import pyarrow.parquet as pq
import pytest
import yaml
from commands import CREDENTIALS, is_read, parse
from conftest import REPOSITORY
from manifests import (
    CLUSTERS,
    COMPONENT,
    KUBERNETES,
    NAME,
    containers_of,
    documents,
    expanded,
    kustomized,
    of_kind,
    pods_of,
)
from pods import STORE, missing, play, selects

import dask_dedup
from dask_dedup.simulation import simulate_pickers

pytestmark = pytest.mark.slow

OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.31", "1.37"
DOCKERFILE = REPOSITORY / "deploy" / "docker" / "Dockerfile"

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
needs_pods = pytest.mark.skipif(bool(missing()), reason=missing() or "can be run")
each_cluster = pytest.mark.parametrize("cluster", CLUSTERS)


def everything(cluster):
    """Return all documents that exist after a folder is applied."""
    pytest.importorskip("dask_kubernetes")
    return list(expanded(documents(KUBERNETES / cluster)))


def selected(pods, selector):
    return [pod for pod in pods if selects(selector, pod["metadata"]["labels"])]


def component(pods, name):
    return selected(pods, {NAME: "dask-dedup", COMPONENT: name})


def ports_of(pod):
    return {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    }


class TestSchemas:
    @pytest.mark.parametrize(
        ("cluster", "version"),
        [*((cluster, NEWEST_KUBERNETES) for cluster in CLUSTERS), (CLUSTERS[0], OLDEST_KUBERNETES)],
    )
    def test_every_document_passes_the_schemas_of_kubernetes(self, cluster, version):
        """Includes the documents that the operator creates."""
        kubernetes_validate = pytest.importorskip("kubernetes_validate")
        for document in everything(cluster):
            kubernetes_validate.validate(document, version, strict=True)

    @pytest.mark.parametrize("cluster", ["operator-job", "operator-cluster"])
    def test_the_operators_kinds_pass_its_definitions(self, cluster):
        found = of_kind(documents(KUBERNETES / cluster), "DaskJob", "DaskCluster", "DaskAutoscaler")
        assert found
        for document in found:
            assert list(faults(document)) == []

    def test_a_field_that_is_not_in_the_definitions_is_found(self):
        (document,) = of_kind(documents(KUBERNETES / "operator-job"), "DaskJob")
        document["spec"]["cluster"]["spec"]["worker"]["replica"] = 3
        document["spec"]["job"]["spec"]["restartPolicy"] = 1
        found = list(faults(document))
        assert len(found) == 2
        assert "replica" in "".join(found)

    @needs_kubectl
    @pytest.mark.parametrize("folder", [*CLUSTERS, "monitoring"])
    def test_kustomize_builds_the_same_documents_in_one_namespace(self, folder):
        def names(found):
            return sorted((document["kind"], document["metadata"]["name"]) for document in found)

        built = kustomized(KUBERNETES / folder)
        assert names(built) == names(documents(KUBERNETES / folder))
        spaces = {
            document["metadata"].get("namespace")
            for document in built
            if document["kind"] != "Namespace"
        }
        assert spaces == {"dask-dedup"}


def faults(document):
    """Yield errors of a document against the operator's definition, including fields that it would drop."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = schema_of(document["kind"].lower())
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        yield f"{error.json_path}: {error.message}"


@cache
def schema_of(kind):
    """Return the operator's definition of a kind, with all fields that it may have."""
    dask_kubernetes = pytest.importorskip("dask_kubernetes")
    chart = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm"
    text = (chart / f"dask-kubernetes-operator/crds/{kind}.yaml").read_text()
    definition = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    schema = closed(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    # Every kind has these.
    schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
    return schema


def closed(schema):
    """Return a schema that refuses fields that it does not list."""
    if isinstance(schema, list):
        return [closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    lists_all = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if lists_all and "additionalProperties" not in schema:
        schema["additionalProperties"] = False
    return schema


@each_cluster
class TestAgreement:
    def test_it_has_a_scheduler_workers_and_a_run(self, cluster):
        pods = list(pods_of(everything(cluster)))
        assert len(component(pods, "scheduler")) == len(component(pods, "run")) == 1
        assert len(component(pods, "worker")) == len(pods) - 2 >= 1

    def test_the_service_selects_the_scheduler(self, cluster):
        found = everything(cluster)
        (service,) = of_kind(found, "Service")
        (scheduler,) = component(pods := list(pods_of(found)), "scheduler")
        assert selected(pods, service["spec"]["selector"]) == [scheduler]
        ports = ports_of(scheduler)
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]

    def test_deployments_select_their_own_pods(self, cluster):
        found = everything(cluster)
        pods = list(pods_of(found))
        for deployment in of_kind(found, "Deployment"):
            chosen = selected(pods, deployment["spec"]["selector"]["matchLabels"])
            assert {pod["metadata"]["labels"][COMPONENT] for pod in chosen} == {
                deployment["spec"]["template"]["metadata"]["labels"][COMPONENT]
            }

    def test_referenced_objects_exist(self, cluster):
        """Service, accounts and config maps; the README has the command that creates the secret."""
        found = everything(cluster)
        (service,) = of_kind(found, "Service")
        maps = {document["metadata"]["name"] for document in of_kind(found, "ConfigMap")}
        accounts = {document["metadata"]["name"] for document in of_kind(found, "ServiceAccount")}
        readme = (KUBERNETES / "README.md").read_text()
        for pod, container in containers_of(found):
            assert pod["spec"]["serviceAccountName"] in accounts
            for source in container.get("envFrom", ()):
                if "configMapRef" in source:
                    assert source["configMapRef"]["name"] in maps
                else:
                    assert f"secret generic {source['secretRef']['name']} " in readme
            for word in (*container["command"], *container["args"]):
                if "tcp://" in word:
                    assert f"tcp://{service['metadata']['name']}:8786" in word

    def test_budgets_cover_each_component_once(self, cluster):
        found = everything(cluster)
        pods = list(pods_of(found))
        for name in ("scheduler", "worker", "run"):
            (pod, *_) = component(pods, name)
            budgets = [
                document["spec"]
                for document in of_kind(found, "PodDisruptionBudget")
                if selects(document["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"])
            ]
            assert len(budgets) == 1
            # Pods without a replica set allow only a minimum.
            assert ("maxUnavailable" in budgets[0]) == (name == "worker")

    def test_ports_are_open_only_to_pods_that_need_them(self, cluster):
        found = everything(cluster)
        policies = [document["spec"] for document in of_kind(found, "NetworkPolicy")]
        for pod in pods_of(found):
            labels = pod["metadata"]["labels"]
            mine = [p for p in policies if selects(p["podSelector"]["matchLabels"], labels)]
            assert any("Egress" in policy["policyTypes"] for policy in mine)
            opened = {}
            for policy in mine:
                for rule in policy.get("ingress", ()):
                    for origin in rule["from"]:
                        ((kind, chosen),) = origin.items()
                        who = (kind, *chosen["matchLabels"].values())
                        opened.setdefault(who, set()).update(p["port"] for p in rule["ports"])
            ports = ports_of(pod)
            if not ports:
                assert opened == {}
                continue
            assert opened.pop(("podSelector", "dask-dedup")) == set(ports.values())
            assert opened.pop(("namespaceSelector", "monitoring")) == {ports["http-dashboard"]}
            if labels[COMPONENT] == "scheduler":
                both = {ports["tcp-comm"], ports["http-dashboard"]}
                assert opened.pop(("namespaceSelector", "dask-operator")) == both
            assert opened == {}

    def test_monitors_find_the_pods_and_their_port(self, cluster):
        found = everything(cluster)
        scheduler, workers, _ = documents(KUBERNETES / "monitoring")
        (service,) = of_kind(found, "Service")
        assert selects(scheduler["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        (endpoint,) = scheduler["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        pods = list(pods_of(found))
        chosen = selected(pods, workers["spec"]["selector"]["matchLabels"])
        assert chosen == component(pods, "worker")
        (endpoint,) = workers["spec"]["podMetricsEndpoints"]
        assert all(endpoint["port"] in ports_of(pod) for pod in chosen)

    def test_the_run_waits_for_the_initial_number_of_workers(self, cluster):
        if not shutil.which("kubectl"):
            pytest.skip("kubectl is not installed")
        if cluster.startswith("operator"):
            pytest.importorskip("dask_kubernetes")
        found = list(expanded(kustomized(KUBERNETES / cluster)))
        pods = list(pods_of(found))
        (run,) = component(pods, "run")
        (variable,) = run["spec"]["initContainers"][0]["env"]
        assert variable == {"name": "WORKERS", "value": str(len(component(pods, "worker")))}


@each_cluster
class TestCommands:
    def test_the_programs_accept_the_command_lines(self, cluster):
        for pod, container in containers_of(everything(cluster)):
            words = [*container["command"], *container["args"]]
            if words[:2] == ["python", "-c"]:
                compile(words[2], container["name"], "exec")
                continue
            parsed = parse(words)
            if container["name"] == "scheduler":
                assert parsed["preload"] == ("dask_dedup.monitoring.dashboard",)
                ports = {int(parsed["port"]), int(parsed["dashboard_address"].strip(":"))}
            elif container["name"] == "worker":
                assert parsed["preload_nanny"] == ("dask_dedup.cluster.preload",)
                ports = {int(parsed[name]) for name in ("worker_port", "nanny_port")}
                ports.add(int(parsed["dashboard_address"].strip(":")))
                mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
                assert parsed["local_directory"] in mounts
            else:
                ports = set()
                assert all(str(path).startswith("s3://") for path, _ in parsed["inputs"])
            assert ports == set(ports_of(pod).values())

    def test_every_variable_is_read_by_a_library(self, cluster):
        found = everything(cluster)
        maps = {
            document["metadata"]["name"]: document["data"]
            for document in of_kind(found, "ConfigMap")
        }
        for _, container in containers_of(found):
            names = {entry["name"] for entry in container.get("env", ())}
            used = {word for word in names if f"$({word})" in " ".join(container["args"])}
            used |= {word for word in names if f'environ["{word}"]' in " ".join(container["args"])}
            for source in container.get("envFrom", ()):
                names |= set(maps.get(source.get("configMapRef", {}).get("name"), ()))
            # The operator sets these in all its pods.
            rest = names - used - {"DASK_SCHEDULER_ADDRESS", "DASK_WORKER_NAME"}
            assert [name for name in sorted(rest) if not is_read(name)] == []


@each_cluster
class TestRights:
    def test_pods_have_no_rights(self, cluster):
        """Level `restricted` of Kubernetes' Pod Security Standards, and a read-only root."""
        for pod, container in containers_of(everything(cluster)):
            rights = pod["spec"]["securityContext"]
            assert rights["runAsNonRoot"] is True
            assert rights["runAsUser"] > 0
            assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["spec"]["automountServiceAccountToken"] is False
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for volume in pod["spec"]["volumes"]:
                assert volume["emptyDir"]["sizeLimit"]

    def test_pods_state_their_resources(self, cluster):
        for _, container in containers_of(everything(cluster)):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"])
            assert "memory" in resources["limits"]

    def test_images_are_of_this_version(self, cluster):
        for _, container in containers_of(everything(cluster)):
            assert container["image"] == f"dask-dedup:{dask_dedup.__version__}"


def test_all_folders_start_the_same_containers():
    """Only the source of a worker's name differs with the operator."""

    def plain_of(cluster):
        found = {}
        for pod, container in containers_of(everything(cluster)):
            container = dict(container)
            given = ("DASK_WORKER_NAME", "DASK_SCHEDULER_ADDRESS")
            env = [entry for entry in container.pop("env", ()) if entry["name"] not in given]
            found[container["name"]] = {**container, "env": env, "volumes": pod["spec"]["volumes"]}
        return found

    assert plain_of("plain") == plain_of("operator-job") == plain_of("operator-cluster")


def test_the_rules_equal_those_of_deploy_monitoring():
    (rule,) = of_kind(documents(KUBERNETES / "monitoring"), "PrometheusRule")
    rules = REPOSITORY / "deploy" / "monitoring" / "rules.yml"
    assert rule["spec"] == yaml.safe_load(rules.read_text())


@needs_kubectl
def test_the_overlay_of_the_readme_works(tmp_path):
    text = textwrap.dedent((KUBERNETES / "README.md").read_text())
    (overlay,) = [
        textwrap.dedent(block)
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        if "kind: Kustomization" in block
    ]
    assert "resources: [../deploy/kubernetes/plain]" in overlay
    base = os.path.relpath(KUBERNETES / "plain", tmp_path)
    changed = overlay.replace("../deploy/kubernetes/plain", base)
    (tmp_path / "kustomization.yaml").write_text(changed)
    found = kustomized(tmp_path)
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in found:
        kubernetes_validate.validate(document, NEWEST_KUBERNETES, strict=True)
    images = {container["image"] for _, container in containers_of(found)}
    assert images == {f"registry.example.org/dask-dedup:{dask_dedup.__version__}"}
    pods = list(pods_of(found))
    (run,) = component(pods, "run")
    assert len(component(pods, "worker")) == 8
    assert run["spec"]["initContainers"][0]["env"][0]["value"] == "8"
    (container,) = run["spec"]["containers"]
    assert parse([*container["command"], *container["args"]])["prefer_input_order"] is True


def test_wrong_input_is_not_retried():
    (job,) = of_kind(documents(KUBERNETES / "run"), "Job")
    (rule,) = [r for r in job["spec"]["podFailurePolicy"]["rules"] if r["action"] == "FailJob"]
    names = {c["name"] for c in job["spec"]["template"]["spec"]["containers"]}
    assert rule["onExitCodes"]["containerName"] in names
    assert rule["onExitCodes"]["values"] == [2]
    # Kubernetes requires this with a policy.
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


OVERLAY = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{base}]
patches:
  - target: {{ kind: ConfigMap, name: object-store }}
    patch: |
      - {{ op: replace, path: /data/AWS_ENDPOINT_URL, value: {store} }}
"""
TWO_SMALL_WORKERS = [
    ("WORKERS", "4", "2"),
    ("replicas", 4, 2),
    ("cpu", "4", "1"),
    ("memory", "8Gi", "1Gi"),
]


def smaller(value, key=None):
    """Return the same manifests with two workers of one thread."""
    if isinstance(value, dict):
        if value.get("name") == "WORKERS":
            return {**value, "value": "2"}
        return {name: smaller(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [smaller(entry) for entry in value]
    for name, old, new in TWO_SMALL_WORKERS:
        if key == name and value == old:
            return new
    return value


@pytest.fixture(scope="module")
def picks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("picks")
    simulate_pickers(folder, particles=3_000, micrographs=20)
    return folder


@pytest.mark.slow
@needs_kubectl
@needs_pods
@pytest.mark.parametrize("cluster", ["plain", "operator-job"])
def test_the_containers_remove_duplicates(cluster, tmp_path, picks):
    """Each container has the user, root, volumes, ports, names, variables and probes of its manifest."""
    pytest.importorskip("moto")
    pytest.importorskip("dask_kubernetes")
    base = os.path.relpath(KUBERNETES / cluster, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(OVERLAY.format(base=base, store=STORE))
    found = list(expanded(smaller(kustomized(tmp_path))))
    pods = list(pods_of(found))
    assert len(component(pods, "worker")) == 2
    maps = {
        document["metadata"]["name"]: document["data"] for document in of_kind(found, "ConfigMap")
    }
    (service,) = of_kind(found, "Service")
    (run,) = component(pods, "run")
    name, result = run["metadata"]["name"], "s3://results/combined"
    dedup = [sys.executable, "-c", "from dask_dedup.cli import main; main()"]
    rows = sum(pq.read_metadata(file).num_rows for file in picks.rglob("part-*.parquet"))
    outcome = play(
        tmp_path,
        pods=pods,
        services={service["metadata"]["name"]: service["spec"]["selector"]},
        maps=maps | {"s3-credentials": CREDENTIALS},
        credentials=CREDENTIALS,
        venv=sys.prefix,
        variables=dockerfile.read(DOCKERFILE)[1][-1].variables[0],
        buckets={"particles": str(picks), "results": None},
        wait_for=[name],
        scrape=monitored(pods) if shutil.which("prometheus") else None,
        queries={"up": ["1"] * 3, "sum(dask_dedup_particles_total)": [str(rows)]},
        after=[[*dedup, "verify", result]],
    )
    assert outcome["exit"] == {name: 0}
    assert f"result: {result}" in outcome["logs"][name]
    assert "2 workers, 2 threads" in outcome["logs"][name]
    assert "live page: http://dask-dedup-scheduler:8787/dedup" in outcome["logs"][name]
    assert any(outcome["probes"].values())
    assert [code for code, _, _ in outcome["after"]] == [0], outcome["after"]
    assert f"{rows:,}" in outcome["after"][0][1]


def monitored(pods):
    """Return the pods and ports that the monitors select."""
    scheduler, workers, _ = documents(KUBERNETES / "monitoring")
    found = {}
    for job, monitor in (("scheduler", scheduler), ("workers", workers)):
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["path"] == "/metrics"
        chosen = selected(pods, monitor["spec"]["selector"]["matchLabels"])
        found[job] = [(pod["metadata"]["name"], ports_of(pod)[endpoint["port"]]) for pod in chosen]
    return found
