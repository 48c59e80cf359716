"""Reads the manifests of deploy/kubernetes and creates the documents that Kubernetes and the Dask operator create."""

from __future__ import annotations

import copy
import subprocess
from functools import cache

import yaml
from conftest import REPOSITORY

KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
#: Folders for `kubectl apply -k`.
CLUSTERS = ["plain", "operator-job", "operator-cluster"]
NAMESPACE = "dask-dedup"


def documents(folder):
    """Return the documents of a kustomization in order, without its patches."""
    return copy.deepcopy(_documents(folder))


@cache
def _documents(folder):
    return list(_read(folder))


def _read(folder):
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        path = folder / name
        if path.is_dir():
            yield from _read(path)
        else:
            yield from yaml.safe_load_all(path.read_text())


def kustomized(folder):
    """Return the documents that `kubectl apply -k` applies."""
    command = ["kubectl", "kustomize", folder]
    built = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def of_kind(found, *kinds):
    return [document for document in found if document["kind"] in kinds]


def _labels(*documents):
    """Return the labels as the operator's handlers merge them; later ones win."""
    return {
        key: value
        for document in documents
        for key, value in document.get("metadata", {}).get("labels", {}).items()
    }


def created_by_the_operator(document):
    """Yield the documents that the Dask operator creates for a DaskJob or a DaskCluster, by its own functions.

    The operator's handlers need a Kubernetes; their code between those functions is repeated here.
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


def expanded(found):
    """Yield documents, with the operator's kinds replaced by the documents that it creates."""
    for document in found:
        if document["kind"] in ("DaskJob", "DaskCluster"):
            yield from created_by_the_operator(document)
        elif document["kind"] != "DaskAutoscaler":
            yield document


def pods_of(found):
    """Yield the pods of deployments and jobs, named after their owners with a number, and bare pods."""
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
