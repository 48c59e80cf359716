"""Start a Dask cluster on Kubernetes, remove duplicates, and stop the cluster.

The Dask operator must be installed (https://kubernetes.dask.org). The namespace and its secret must
exist (deploy/kubernetes/README.md). This machine must have access to the object store::

    pip install 'dask-dedup[s3]' dask-kubernetes
    python examples/kubernetes.py s3://particles/blob s3://particles/template --output s3://results/combined \
        --image registry.example.org/dask-dedup:0.1.0 --workers 8

The manifest of the cluster is deploy/kubernetes/operator-cluster/cluster.yaml. ``--print`` only
shows the manifest with the changes, and starts nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from dask_dedup import DedupError, DedupParams, run

MANIFEST = Path(__file__).parent.parent / "deploy/kubernetes/operator-cluster/cluster.yaml"
#: Seconds. Nodes may have to start first.
START_TIMEOUT = 900


def cluster_of(image: str, workers: int) -> dict[str, Any]:
    """Return the manifest of the cluster with an image and a number of workers."""
    cluster = yaml.safe_load(MANIFEST.read_text())
    for part in (cluster["spec"]["scheduler"], cluster["spec"]["worker"]):
        for container in part["spec"]["containers"]:
            container["image"] = image
    cluster["spec"]["worker"]["replicas"] = workers
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="tables, such as s3://bucket/picks"
    )
    parser.add_argument("--output", required=True, help="folder for the result, in an object store")
    parser.add_argument("--min-separation", type=float, default=20.0, help="angstrom")
    parser.add_argument("--image", required=True, help="built from deploy/docker/Dockerfile")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--namespace", default="dask-dedup")
    parser.add_argument("--print", action="store_true", help="show the cluster, start nothing")
    args = parser.parse_args()
    cluster_spec = cluster_of(args.image, args.workers)
    if args.print:
        print(yaml.safe_dump(cluster_spec, sort_keys=False))
        return

    from dask_kubernetes.operator import KubeCluster
    from distributed import Client

    with (
        KubeCluster(custom_cluster_spec=cluster_spec, namespace=args.namespace) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(args.workers, timeout=START_TIMEOUT)
        params = DedupParams(min_separation=args.min_separation)
        result = run(args.inputs, args.output, params, client)
    print(f"{result.rows:,} picks, {result.kept:,} kept, in {result.output}")


if __name__ == "__main__":
    try:
        main()
    except DedupError as error:
        raise SystemExit(str(error)) from None
