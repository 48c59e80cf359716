"""Reads the manifests of deploy/kubernetes, and makes of them what Kubernetes and the Dask operator make."""

from __future__ import annotations

import copy
import subprocess

import yaml
from conftest import REPOSITORY

KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
#: The folders a person applies.
CLUSTERS = ["plain", "operator-job", "operator-cluster"]
NAMESPACE = "dask-dedup"


def documents(folder):
    """The documents that a kustomization gathers, in its order, without its patches."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        path = folder / name
        if path.is_dir():
            yield from documents(path)
        else:
            yield from yaml.safe_load_all(path.read_text())


def kustomized(folder):
    """The documents that `kubectl apply -k` applies."""
    command = ["kubectl", "kustomize", folder]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def of_kind(found, *kinds):
    return [document for document in found if document["kind"] in kinds]


def _labels(*places):
    """The labels that the operator's handlers gather, later ones over earlier ones."""
    return {
        key: value
        for place in places
        for key, value in place.get("metadata", {}).get("labels", {}).items()
    }


def made_by_the_operator(document):
    """What the Dask operator makes of a DaskJob or a DaskCluster, by its own functions.

    The handlers themselves talk to Kubernetes; their lines between those functions are repeated here.
    """
    from dask_kubernetes.operator.controller import controller

    document = copy.deepcopy(document)
    name, spec = document["metadata"]["name"], document["spec"]
    if document["kind"] == "DaskJob":
        cluster, job = spec["cluster"], spec["job"]
        yield controller.build_job_pod_spec(
            name, name, NAMESPACE, job["spec"], {}, _labels(document, job)
        )
        parts = cluster["spec"]["worker"], cluster["spec"]["scheduler"]
        document = controller.build_cluster_spec(name, *parts, {}, _labels(document, cluster))
        spec = document["spec"]
    scheduler, worker = spec["scheduler"], spec["worker"]
    labels = _labels(document, scheduler)
    yield controller.build_scheduler_deployment_spec(name, scheduler["spec"], {}, labels)
    yield controller.build_scheduler_service_spec(name, scheduler["service"], {}, labels)
    group = controller.build_default_worker_group_spec(name, worker, {}, _labels(document, worker))
    for number in range(worker["replicas"]):
        yield controller.build_worker_deployment_spec(
            group["metadata"]["name"],
            NAMESPACE,
            name,
            f"{number:010}",
            worker["spec"],
            {},
            _labels(group, worker),
        )


def made(found):
    """Documents with those of the operator's kinds replaced by what it makes of them."""
    for document in found:
        if document["kind"] in ("DaskJob", "DaskCluster"):
            yield from made_by_the_operator(document)
        elif document["kind"] != "DaskAutoscaler":
            yield document


def pods_of(found):
    """The pods of deployments, jobs and bare pods, named as their owners, with a number."""
    for document in found:
        name, spec = document["metadata"]["name"], document.get("spec", {})
        if document["kind"] == "Pod":
            yield {"metadata": document["metadata"], "spec": spec}
        elif document["kind"] in ("Deployment", "Job"):
            template = spec["template"]
            for number in range(spec.get("replicas", 1)):
                metadata = template["metadata"] | {"name": f"{name}-{number}"}
                yield {"metadata": metadata, "spec": template["spec"]}


def containers_of(found):
    for pod in pods_of(found):
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            yield pod, container
