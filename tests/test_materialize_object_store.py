"""Duplicates without particles in an object store, and the particle tables that are added to them."""

from __future__ import annotations

import json
import os

import pytest
from object_stores import Folder
from test_materialize import make_case, many_fragments  # noqa: F401 (a fixture)
from test_object_stores import behind_proxy
from test_output import Crash, crashing

from dask_dedup import InputError, clean, materialize, publish, read_kept, run, status, verify
from dask_dedup.errors import OutputExistsError
from dask_dedup.output.object_store import ObjectStore
from dask_dedup.pipeline import stages
from dask_dedup.storage import files as storage

pytestmark = pytest.mark.slow

PARTICLES = ("particles_kept", "particles_rejected")
TABLES = (*PARTICLES, "duplicates", "votes")


def in_store(there, tmp_path, kind):
    """Upload the inputs of a case. Return their URIs and the options of their run."""
    inputs, options = make_case(kind, tmp_path)
    options = {
        name: there.put(value) if name == "micrographs" else value
        for name, value in options.items()
    }
    return [there.put(path) for path in inputs], options


def tables(there, name="out"):
    """Return every data file of a result, by table and name in the folder of its run."""
    found = {}
    for table in TABLES:
        for path, content in there.contents(f"{name}/{table}").items():
            found[f"{table}/{path.partition('/')[2]}"] = content.replace(
                path.partition("/")[0].encode(), b"TOKEN"
            )
    return found


def manifest(there, name="out"):
    return json.loads(there.read(f"{name}/manifest.json"))


def only_listed(there, name="out"):
    """Return whether a folder has the files in its manifest, and no others."""
    listed = [entry["path"] for entry in manifest(there, name)["outputs"]]
    return there.names(name) == sorted(["manifest.json", *listed]) and there.uploads() == []


def whole(there, inputs, options):
    """Return the tables of a whole run, and remove it, so that paths stay the same."""
    run(inputs, there / "out", **options)
    found = tables(there)
    for name in there.names("out"):
        there.remove(f"out/{name}")
    return found


@pytest.fixture
def listed(there, tmp_path):
    """Duplicates without particles. Returns the inputs, and the tables of a whole run."""
    inputs, _ = in_store(there, tmp_path, "parquet")
    files = whole(there, inputs, {})
    run(inputs, there / "out", duplicates_only=True)
    return inputs, files


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("parquet", "run"),
        ("star", "materialize"),
        ("votes", "materialize"),
        ("picks", "materialize"),
    ],
)
def test_the_bytes_are_those_of_a_whole_run(there, tmp_path, kind, again):
    inputs, options = in_store(there, tmp_path, kind)
    files = whole(there, inputs, options)
    run(inputs, there / "out", duplicates_only=True, **options)
    assert verify(there / "out").verified
    assert not {name.split("/")[0] for name in there.names("out")} & {*PARTICLES}
    first = manifest(there)
    if again == "run":
        assert not run(inputs, there / "out", **options).already_done
    else:
        materialize(there / "out")
    assert tables(there) == files
    assert only_listed(there)
    second = manifest(there)
    assert (first["duplicates_only"], second["duplicates_only"]) == (True, False)
    assert second["totals"] == first["totals"]
    assert verify(there / "out").verified
    assert materialize(there / "out").already_done
    assert run(inputs, there / "out", **options).already_done
    assert status(there / "out").attempts == []


@pytest.mark.parametrize("kind", ["star", "relion-coordinates"])
def test_conversions_are_added_too(there, tmp_path, kind):
    inputs, options = in_store(there, tmp_path, "relion-coordinates")
    options["output_format"] = kind
    files = whole(there, inputs, options)
    run(inputs, there / "out", duplicates_only=True, **options)
    materialize(there / "out")
    assert tables(there) == files
    assert verify(there / "out").verified


@pytest.fixture
def workers(there, cluster):
    """A cluster whose workers have credentials in their environment, but no endpoint."""
    own = {n: v for n, v in there.store.environment.items() if n != "AWS_ENDPOINT_URL"}

    def know(own, *, forget):
        for name, value in own.items():
            os.environ.pop(name, None) if forget else os.environ.update({name: value})

    cluster.run(know, own, forget=False)
    yield cluster
    cluster.run(know, own, forget=True)


def test_a_cluster_adds_and_reads_them(there, listed, workers):
    assert len(read_kept(there / "out")) == manifest(there)["totals"]["kept"]
    materialize(there / "out", workers)
    assert tables(there) == listed[1]
    assert only_listed(there)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (stages, "split_fragment", 3),
        (ObjectStore, "_put_manifest", 1),
        (storage, "write_bytes", 2),
        (ObjectStore, "tidy", 2),
    ],
)
def test_an_interrupted_command_is_resumed(there, listed, monkeypatch, owner, name, call):
    _, files = listed
    before = manifest(there)
    with monkeypatch.context() as patch:
        crashing(patch, owner, name, call=call)
        with pytest.raises(Crash):
            materialize(there / "out")
    assert manifest(there) == before or name == "tidy"
    assert verify(there / "out").verified
    materialize(there / "out")
    assert tables(there) == files
    assert only_listed(there)
    assert verify(there / "out").verified


def test_leftovers_are_shown_and_removed(there, listed, monkeypatch):
    with monkeypatch.context() as patch:
        crashing(patch, stages, "split_fragment", call=3)
        with pytest.raises(Crash):
            materialize(there / "out")
    (attempt,) = status(there / "out").attempts
    assert attempt.command == f"dask-dedup materialize {there / 'out'}"
    assert clean(there / "out")
    assert only_listed(there)
    assert verify(there / "out").verified


def test_nothing_of_a_finished_result_is_a_leftover(there, listed):
    materialize(there / "out")
    assert clean(there / "out") == []
    assert verify(there / "out").verified


def test_a_lost_response_to_the_commit_does_no_harm(there, listed, monkeypatch, store):
    """The manifest is replaced, but the client receives an error and repeats the request."""
    done = []

    def fault(number, request):
        if request.startswith("PUT ") and "/manifest.json" in request and not done:
            done.append(request)
            there.write("out/manifest.json", proxy.last_body)
            return 500
        return None

    with behind_proxy(monkeypatch, store, fault) as proxy:
        materialize(there / "out")
    assert done
    assert tables(there) == listed[1]
    assert only_listed(there)


def at_the_end(action):
    """Return an event handler that calls `action` once, when all fragments are written."""
    done = []

    def on_event(event):
        done.append(event["kind"])
        if done.count("written") == 4 and event["kind"] == "written":
            action()

    return on_event


def test_of_two_commands_at_once_both_succeed(there, listed):
    materialize(there / "out", on_event=at_the_end(lambda: materialize(there / "out")))
    assert tables(there) == listed[1]
    assert only_listed(there)


def test_a_result_that_was_replaced_meanwhile_stays(there, listed):
    def replace():
        run(listed[0], there / "out", overwrite=True, min_separation=60.0)

    with pytest.raises(OutputExistsError, match="meanwhile"):
        materialize(there / "out", on_event=at_the_end(replace))
    assert manifest(there)["parameters"]["min_separation"] == 60
    assert only_listed(there)
    assert verify(there / "out").verified


def test_a_result_is_replaced_by_another_and_back(there, listed):
    inputs, files = listed
    for only in (True, False, True):
        run(inputs, there / "out", overwrite=True, duplicates_only=only)
        assert only_listed(there)
        assert verify(there / "out").verified
    materialize(there / "out")
    assert tables(there) == files
    run(inputs, there / "out", overwrite=True, duplicates_only=True)
    assert only_listed(there)
    assert verify(there / "out").verified


def test_an_input_that_changed_is_refused(there, tmp_path):
    inputs, _ = in_store(there, tmp_path, "parquet")
    run(inputs, there / "out", duplicates_only=True)
    other = Folder(there.store, there.name)
    name = next(name for name in there.names("in"))
    other.write(f"in/{name}", there.read(f"in/{name}"))
    before = there.names("out")
    with pytest.raises(InputError, match="has changed since the run"):
        materialize(there / "out")
    assert there.names("out") == before


def test_particles_are_read_and_published(there, listed):
    pytest.importorskip("deltalake")
    kept = manifest(there)["totals"]["kept"]
    assert len(read_kept(there / "out")) == kept
    with pytest.raises(InputError, match="materialize"):
        publish(there / "out", delta=there / "lake")
    materialize(there / "out")
    assert publish(there / "out", delta=there / "lake").rows == kept
