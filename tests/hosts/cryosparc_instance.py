"""A stand-in for a CryoSPARC instance: projects and jobs in memory, behind the protocols of both client generations.

The real clients of cryosparc-tools 4.7 and 5 talk to it. Paths of the REST interface are those of this module, because
the client reads them from the schema. What a real instance checks or computes beyond this is not known here.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from cryosparc.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EMAIL, PASSWORD = "ali@example.com", "Correct-Horse-7"
LICENSE, TOKEN = "0dd5eca1-0000-4000-8000-c0ffee00beef", "token-f00dfeedc0de"
SECRETS = (PASSWORD, LICENSE, TOKEN, hashlib.sha256(PASSWORD.encode()).hexdigest())
DATASET = "application/x-cryosparc-dataset"


class RefusedError(Exception):
    """A request that the instance refuses, with the code of HTTP."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class Output:
    type: str
    slots: list[dict[str, str]]
    passthrough: str | None = None
    saved: Dataset | None = None
    image: bytes | None = None


@dataclass
class Job:
    uid: str
    type: str = "snowflake"
    title: str = ""
    description: str = ""
    status: str = "building"
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    plots: list[tuple[str, bytes]] = field(default_factory=list)
    tile: bytes | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)


class Instance:
    """Project P1 with workspace W1, and what both protocols do with its jobs.

    `before` maps the name of an operation to a function that is called before it.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.assets: dict[str, bytes] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.url = ""

    def add_result(self, uid: str, name: str, dataset: Dataset, type: str = "particle") -> None:
        """Add a finished job with one output, which has all fields of `dataset`."""
        slots = [
            {"name": each, "dtype": re.sub(r"_class_\d+$", "3D", each)}
            for each in dataset.prefixes()
        ]
        job = self.jobs.setdefault(uid, Job(uid, "extract_micrographs_multi", status="completed"))
        job.outputs[name] = Output(type, slots, saved=dataset)

    @property
    def external(self) -> Job:
        """The external job, if there is exactly one."""
        (job,) = (job for job in self.jobs.values() if job.type == "snowflake")
        return job

    def check_project(self, project: str) -> None:
        if project != "P1":
            raise RefusedError(404, f"project {project} not found")

    def check_workspace(self, project: str, workspace: str) -> None:
        self.check_project(project)
        if workspace != "W1":
            raise RefusedError(404, f"workspace {workspace} not found")

    def job(self, project: str, uid: str) -> Job:
        self.check_project(project)
        if uid not in self.jobs:
            raise RefusedError(404, f"job {uid} not found")
        return self.jobs[uid]

    def create(self, project: str, workspace: str, title: str, description: str) -> Job:
        self.check_workspace(project, workspace)
        uid = f"J{1 + max((int(each[1:]) for each in self.jobs), default=0)}"
        self.jobs[uid] = Job(uid, title=title, description=description)
        return self.jobs[uid]

    def add_input(self, job: Job, name: str, type: str, slots: list[dict[str, str]]) -> None:
        self.check_open(job)
        job.inputs[name] = {"type": type, "slots": slots, "connections": []}

    def add_output(self, job: Job, name: str, output: Output) -> None:
        self.check_open(job)
        if not output.slots or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise RefusedError(422, f"invalid output {name}")
        job.outputs[name] = output

    def check_open(self, job: Job) -> None:
        if job.status in ("completed", "failed"):
            raise RefusedError(400, f"job {job.uid} is {job.status}")

    def connect(self, job: Job, name: str, source_uid: str, source_output: str) -> None:
        source = self.jobs[source_uid].outputs.get(source_output)
        if source is None or source.type != job.inputs[name]["type"]:
            raise RefusedError(400, f"cannot connect {source_uid}.{source_output}")
        job.inputs[name]["connections"].append((source_uid, source_output))

    def load(self, job: Job, name: str) -> Dataset:
        """Return an output: what was saved, joined with the connected results if it passes an input through."""
        output = job.outputs.get(name)
        if output is None or output.saved is None:
            raise RefusedError(404, f"job {job.uid} has no output {name}")
        return join(output.saved, *self.passed_through(job, output))

    def passed_through(self, job: Job, output: Output) -> list[Dataset]:
        if output.passthrough is None or output.saved is None:
            return []
        connections = job.inputs[output.passthrough]["connections"]
        sources = [self.load(self.jobs[uid], name) for uid, name in connections]
        return [Dataset.append_many(*sources, repeat_allowed=True)]

    def save(self, job: Job, name: str, dataset: Dataset) -> None:
        if job.status not in ("running", "waiting"):
            raise RefusedError(400, f"job {job.uid} is {job.status}")
        names = {slot["name"] for slot in job.outputs[name].slots}
        if set(dataset.prefixes()) != names:
            raise RefusedError(422, f"expected the slots {sorted(names)}")
        job.outputs[name].saved = dataset

    def start(self, job: Job) -> None:
        self.check_open(job)
        self._set_status(job, "running")

    def stop(self, job: Job, error: str | None) -> None:
        """End a job: completed if `error` is None, else failed with this reason."""
        if error:
            job.events.append(("error", error))
        self._set_status(job, "completed" if error is None else "failed")

    def _set_status(self, job: Job, status: str) -> None:
        job.status = status
        job.history.append(status)


def join(saved: Dataset, *others: Dataset) -> Dataset:
    """Add the fields of `others` to `saved` by uid, in the order of `saved`."""
    joined = Dataset(saved)
    for other in others:
        fields = [each for each in other.descr() if each[0] not in saved.fields()]
        joined.add_fields(fields)
        distinct, first = np.unique(other["uid"], return_index=True)
        rows = first[np.searchsorted(distinct, saved["uid"])]
        for name, *_ in fields:
            joined[name] = other[name][rows]
    return joined


class _Handler(BaseHTTPRequestHandler):
    """Reads a request and writes a response; `respond` returns the type and the content of it."""

    protocol_version = "HTTP/1.1"
    #: Else each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    instance: Instance

    def respond(self, body: bytes) -> tuple[str, bytes]:
        raise NotImplementedError

    def _handle(self) -> None:
        try:
            kind, content = self.respond(self._body())
            code = 200
        except RefusedError as error:
            code, kind = error.code, "application/json"
            content = json.dumps({"detail": str(error)}).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _handle  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def call(self, name: str) -> None:
        """Do what the test wants before the operation `name`."""
        self.instance.before.get(name, lambda: None)()

    def log_message(self, *_: object) -> None:
        pass


def as_stream(dataset: Dataset) -> bytes:
    return b"".join(dataset.stream())


def from_stream(body: bytes) -> Dataset:
    return Dataset.load(BytesIO(body))


#: Operations of the REST interface: method, names of the path and of the query, and the type of body and of result.
_REST: dict[str, tuple[str, str, str, str, str]] = {
    "login": ("post", "", "", "form", "Token"),
    "health": ("get", "", "", "", "text"),
    "users.me": ("get", "", "", "", "User"),
    "config.get_version": ("get", "", "", "", "text"),
    "projects.find_one": ("get", "p", "", "", "Project"),
    "projects.upload_file": ("post", "p", "path overwrite", "bytes", ""),
    "workspaces.find_one": ("get", "p w", "", "", "Workspace"),
    "jobs.create": ("post", "p w", "type title description", "", "Job"),
    "jobs.find_one": ("get", "p j", "", "", "Job"),
    "jobs.add_external_input": ("post", "p j name", "", "json", "Job"),
    "jobs.add_external_output": ("post", "p j name", "", "json", "Job"),
    "jobs.connect": ("post", "p j name", "source_job_uid source_output_name", "", "Job"),
    "jobs.load_output": ("get", "p j name", "slots version", "", "dataset"),
    "jobs.save_output": ("post", "p j name", "version", "dataset", "Job"),
    "jobs.mark_running": ("post", "p j", "status", "", "Job"),
    "jobs.mark_completed": ("post", "p j", "", "", "Job"),
    "jobs.mark_failed": ("post", "p j", "error", "", "Job"),
    "jobs.add_event_log": ("post", "p j", "type", "json", "TextEvent"),
    "jobs.update_event_log": ("post", "p j e", "type", "json", "TextEvent"),
    "jobs.add_image_log": ("post", "p j", "text flags", "json", "ImageEvent"),
    "jobs.set_tile_image": ("post", "p j", "", "json", "Job"),
    "jobs.set_output_image": ("post", "p j name", "", "json", "Job"),
    "assets.upload": ("post", "p j", "filename format", "bytes", "GridFSAsset"),
}
_MIME = {
    "form": "application/x-www-form-urlencoded",
    "json": "application/json",
    "bytes": "application/octet-stream",
    "dataset": DATASET,
    "text": "text/plain",
}
_ROOT, _DATE = "/api/cmd", "2026-01-01T00:00:00+00:00"


def _schema() -> dict[str, Any]:
    paths = {}
    for name, (method, path, query, body, result) in _REST.items():
        operation: dict[str, Any] = {
            "summary": name,
            "parameters": [{"name": each, "in": "path", "required": True} for each in path.split()]
            + [{"name": each, "in": "query", "required": False} for each in query.split()],
        }
        if body:
            operation["requestBody"] = {"content": {_MIME[body]: {"schema": {}}}}
        kind = _MIME.get(result, "application/json")
        is_model = result and result not in _MIME
        schema = {"$ref": f"#/components/schemas/{result}"} if is_model else {}
        operation["responses"] = {"200": {"content": {kind: {"schema": schema}}}}
        places = "".join(f"/{{{each}}}" for each in path.split())
        paths[f"/{name}{places}"] = {method: operation}
    return {"info": {}, "paths": paths, "components": {}}


class _RestHandler(_Handler):
    """The interface of CryoSPARC 5."""

    def respond(self, body: bytes) -> tuple[str, bytes]:
        url = urlsplit(self.path)
        if not url.path.startswith(_ROOT):
            raise RefusedError(404, "not here")
        name, *places = map(unquote, url.path.removeprefix(_ROOT).strip("/").split("/"))
        if name == "openapi.json":
            return "application/json", json.dumps(_schema()).encode()
        if name != "login" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError(401, "not authenticated")
        self.call(name)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        result = getattr(self, name.replace(".", "_"))(*places, body=body, **query)
        if isinstance(result, Job):
            result = job_model(result)
        if isinstance(result, Dataset):
            return DATASET, as_stream(result)
        if isinstance(result, str):
            return "text/plain", result.encode()
        return "application/json", json.dumps(result).encode()

    def login(self, body: bytes) -> dict[str, str]:
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
        if (form["username"], form["password"]) != (EMAIL, hashed):
            raise RefusedError(401, f"wrong password {form['password']}")
        return {"access_token": TOKEN, "token_type": "bearer"}

    def users_me(self, body: bytes) -> dict[str, Any]:
        return {"_id": "u1", "name": "ali", "first_name": "Ali", "last_name": "A"}

    def config_get_version(self, body: bytes) -> str:
        return "v5.0.3"

    def projects_find_one(self, p: str, body: bytes) -> dict[str, Any]:
        self.instance.check_project(p)
        return {
            "uid": p,
            "uid_num": 1,
            "project_dir": "/projects/P1",
            "owner_user_id": "u1",
            "title": "",
            "size_last_updated": _DATE,
        }

    def projects_upload_file(self, p: str, body: bytes, path: str, overwrite: str = "") -> None:
        uid, _, name = path.partition("/")
        self.instance.job(p, uid).files[name] = body

    def workspaces_find_one(self, p: str, w: str, body: bytes) -> dict[str, Any]:
        self.instance.check_workspace(p, w)
        return {
            "uid": w,
            "project_uid": p,
            "uid_num": 1,
            "project_uid_num": 1,
            "workspace_type": "base",
        }

    def jobs_create(
        self, p: str, w: str, body: bytes, type: str, title: str = "", description: str = ""
    ) -> Job:
        assert type == "snowflake"
        return self.instance.create(p, w, title, description)

    def jobs_find_one(self, p: str, j: str, body: bytes) -> Job:
        return self.instance.job(p, j)

    def jobs_add_external_input(self, p: str, j: str, name: str, body: bytes) -> Job:
        job, given = self.instance.job(p, j), json.loads(body)
        self.instance.add_input(job, name, given["type"], given["slots"])
        return job

    def jobs_add_external_output(self, p: str, j: str, name: str, body: bytes) -> Job:
        job, given = self.instance.job(p, j), json.loads(body)
        output = Output(given["type"], given["slots"], given.get("passthrough"))
        self.instance.add_output(job, name, output)
        return job

    def jobs_connect(
        self,
        p: str,
        j: str,
        name: str,
        body: bytes,
        source_job_uid: str,
        source_output_name: str,
    ) -> Job:
        job = self.instance.job(p, j)
        self.instance.connect(job, name, source_job_uid, source_output_name)
        return job

    def jobs_load_output(
        self, p: str, j: str, name: str, body: bytes, slots: str, version: str
    ) -> Dataset:
        assert (slots, version) == ("all", "F")
        return self.instance.load(self.instance.job(p, j), name)

    def jobs_save_output(self, p: str, j: str, name: str, body: bytes, version: str) -> Job:
        job = self.instance.job(p, j)
        self.instance.save(job, name, from_stream(body))
        return job

    def jobs_mark_running(self, p: str, j: str, body: bytes, status: str) -> Job:
        job = self.instance.job(p, j)
        self.instance.start(job)
        return job

    def jobs_mark_completed(self, p: str, j: str, body: bytes) -> Job:
        job = self.instance.job(p, j)
        self.instance.stop(job, None)
        return job

    def jobs_mark_failed(self, p: str, j: str, body: bytes, error: str) -> Job:
        job = self.instance.job(p, j)
        self.instance.stop(job, error)
        return job

    def jobs_add_event_log(self, p: str, j: str, body: bytes, type: str) -> dict[str, Any]:
        events = self.instance.job(p, j).events
        events.append((type, json.loads(body)))
        return self._event(p, j, len(events) - 1)

    def jobs_update_event_log(
        self, p: str, j: str, e: str, body: bytes, type: str
    ) -> dict[str, Any]:
        self.instance.job(p, j).events[int(e)] = (type, json.loads(body))
        return self._event(p, j, int(e))

    def _event(self, p: str, j: str, number: int) -> dict[str, Any]:
        type, text = self.instance.job(p, j).events[number]
        return {"_id": str(number), "project_uid": p, "job_uid": j, "type": type, "text": text}

    def jobs_add_image_log(
        self, p: str, j: str, body: bytes, text: str, flags: str
    ) -> dict[str, Any]:
        for each in json.loads(body):
            self.instance.job(p, j).plots.append((text, self.instance.assets[each["fileid"]]))
        return {"project_uid": p, "job_uid": j, "type": "image", "text": text}

    def jobs_set_tile_image(self, p: str, j: str, body: bytes) -> Job:
        job = self.instance.job(p, j)
        job.tile = self.instance.assets[json.loads(body)["fileid"]]
        return job

    def jobs_set_output_image(self, p: str, j: str, name: str, body: bytes) -> Job:
        job = self.instance.job(p, j)
        job.outputs[name].image = self.instance.assets[json.loads(body)["fileid"]]
        return job

    def assets_upload(
        self, p: str, j: str, body: bytes, filename: str, format: str
    ) -> dict[str, str]:
        return add_asset(self.instance, body, filename, format)


def add_asset(instance: Instance, body: bytes, filename: str, format: str) -> dict[str, str]:
    number = f"{len(instance.assets):024x}"
    instance.assets[number] = body
    return {"fileid": number, "filename": filename, "filetype": format}


def job_model(job: Job) -> dict[str, Any]:
    """Return a job as the REST interface shows it."""
    inputs = {
        name: {
            "type": each["type"],
            "title": name,
            "slots": each["slots"],
            "connections": [{"job_uid": j, "output": o} for j, o in each["connections"]],
        }
        for name, each in job.inputs.items()
    }
    outputs = {
        name: {
            "type": each.type,
            "title": name,
            "slots": each.slots,
            "passthrough": each.passthrough,
            "results": [{**slot, "passthrough": False} for slot in each.slots],
        }
        for name, each in job.outputs.items()
    }
    spec = {"type": job.type, "inputs": inputs, "outputs": outputs, "resource_spec": {}}
    return {
        "uid": job.uid,
        "uid_num": int(job.uid[1:]),
        "project_uid": "P1",
        "project_uid_num": 1,
        "job_dir": job.uid,
        "job_dir_size_last_updated": _DATE,
        "title": job.title,
        "status": job.status,
        "status_num": 0,
        "build_errors": [],
        "spec": spec | {"ui_tile_width": 1, "ui_tile_height": 1},
    }


class _CommandHandler(_Handler):
    """The interface of CryoSPARC 4: JSON-RPC, and some paths for files. Each port answers to all of it."""

    def respond(self, body: bytes) -> tuple[str, bytes]:
        if self.headers.get("License-ID") != LICENSE:
            raise RefusedError(403, f"invalid license {self.headers.get('License-ID')}")
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/api":
            return "application/json", json.dumps(self._rpc(json.loads(body))).encode()
        if url.path == "/get_project_file":
            asked = json.loads(body)
            return DATASET, as_stream(self._metafile(asked["project_uid"], asked["path"]))
        parts = url.path.strip("/").split("/")
        if parts[0] == "external":
            _, _, p, _, j, _, name, _ = parts
            self.call("jobs.save_output")
            self.instance.save(self.instance.job(p, j), unquote(name), from_stream(body))
            return "application/json", b"{}"
        if parts[2] == "jobs":
            return "application/json", json.dumps(
                add_asset(self.instance, body, query["filename"], query["format"])
            ).encode()
        uid, _, name = query["path"].partition("/")
        self.call("projects.upload_file")
        self.instance.job(parts[1], uid).files[name] = body
        return "application/json", b"{}"

    def _rpc(self, request: dict[str, Any]) -> dict[str, Any]:
        name, params = request["method"], request["params"]
        if name == "system.describe":
            procs = [each[4:] for each in dir(self) if each.startswith("rpc_")]
            return {"result": {"procs": [{"name": each} for each in procs]}}
        arguments, keywords = (params, {}) if isinstance(params, list) else ([], params)
        try:
            return {"result": getattr(self, f"rpc_{name}")(*arguments, **keywords)}
        except RefusedError as error:
            return {"error": {"name": "ServerError", "code": error.code, "message": str(error)}}

    def _metafile(self, project: str, path: str) -> Dataset:
        uid, name, kind = path.split("/")
        job = self.instance.job(project, uid)
        output = job.outputs[name]
        assert output.saved is not None
        if kind == "passthrough.cs":
            (source,) = self.instance.passed_through(job, output)
            own = output.saved.fields(exclude_uid=True)
            return join(Dataset({"uid": output.saved["uid"]}), source.drop_fields(own, copy=True))
        return output.saved

    def rpc_get_id_by_email_password(self, email: str, password: str) -> str:
        if (email, password) != (EMAIL, PASSWORD):
            raise RefusedError(401, f"wrong password {password}")
        return "u1"

    def rpc_get_running_version(self) -> str:
        return "v4.7.1"

    def rpc_get_project(self, p: str) -> dict[str, str]:
        self.instance.check_project(p)
        return {"uid": p}

    def rpc_get_workspace(self, p: str, w: str) -> dict[str, str]:
        self.instance.check_workspace(p, w)
        return {"uid": w}

    def rpc_get_job(self, p: str, j: str) -> dict[str, Any]:
        return self._document(self.instance.job(p, j))

    def _document(self, job: Job) -> dict[str, Any]:
        results = []
        for name, output in job.outputs.items():
            saved = output.saved is not None
            own = {slot["name"]: slot["dtype"] for slot in output.slots}
            passed = {
                prefix: prefix
                for dataset in self.instance.passed_through(job, output)
                for prefix in dataset.prefixes()
                if prefix not in own
            }
            for slots, kind in ((own, "particles.cs"), (passed, "passthrough.cs")):
                results += [
                    {
                        "group_name": name,
                        "name": slot,
                        "type": f"{output.type}.{dtype}",
                        "passthrough": kind == "passthrough.cs",
                        "metafiles": [f"{job.uid}/{name}/{kind}"] if saved else [],
                        "min_fields": [],
                    }
                    for slot, dtype in slots.items()
                ]
        return {
            "uid": job.uid,
            "job_type": job.type,
            "type": job.type,
            "status": job.status,
            "input_slot_groups": [
                {
                    "name": name,
                    "type": each["type"],
                    "connections": [
                        {"job_uid": j, "group_name": o} for j, o in each["connections"]
                    ],
                }
                for name, each in job.inputs.items()
            ],
            "output_result_groups": [
                {
                    "name": name,
                    "type": each.type,
                    "contains": [
                        {"name": slot["name"], "type": f"{each.type}.{slot['dtype']}"}
                        for slot in each.slots
                    ],
                }
                for name, each in job.outputs.items()
            ],
            "output_results": results,
        }

    def rpc_create_external_job(
        self, project_uid: str, workspace_uid: str, user: str, title: str, desc: str
    ) -> str:
        self.call("jobs.create")
        return self.instance.create(project_uid, workspace_uid, title or "", desc or "").uid

    def rpc_add_external_job_input(
        self, project_uid: str, job_uid: str, type: str, name: str, slots: list[Any], **_: Any
    ) -> None:
        job = self.instance.job(project_uid, job_uid)
        self.instance.add_input(job, name, type, list(map(_slot, slots)))

    def rpc_add_external_job_output(
        self,
        project_uid: str,
        job_uid: str,
        type: str,
        name: str,
        slots: list[Any],
        passthrough: str | None,
        title: str,
    ) -> None:
        output = Output(type, list(map(_slot, slots)), passthrough)
        self.instance.add_output(self.instance.job(project_uid, job_uid), name, output)

    def rpc_connect_external_job(
        self,
        project_uid: str,
        source_job_uid: str,
        source_output: str,
        target_job_uid: str,
        target_input: str,
        **_: Any,
    ) -> None:
        job = self.instance.job(project_uid, target_job_uid)
        self.instance.connect(job, target_input, source_job_uid, source_output)

    def rpc_run_external_job(self, p: str, j: str, status: str) -> None:
        self.call("jobs.mark_running")
        self.instance.start(self.instance.job(p, j))

    def rpc_set_job_status(self, p: str, j: str, status: str) -> None:
        self.instance.stop(self.instance.job(p, j), None if status == "completed" else "")

    def rpc_job_send_streamlog(
        self,
        project_uid: str,
        job_uid: str,
        message: str,
        error: bool = False,
        flags: list[str] | None = None,
        imgfiles: list[dict[str, str]] | None = None,
    ) -> str:
        self.call("jobs.add_event_log")
        job = self.instance.job(project_uid, job_uid)
        if imgfiles:
            job.plots += [(message, self.instance.assets[each["fileid"]]) for each in imgfiles]
        else:
            job.events.append(("error" if error else "text", message))
        return "e1"


def _slot(given: str | dict[str, Any]) -> dict[str, str]:
    if isinstance(given, str):
        return {"name": given, "dtype": given}
    return {"name": given["prefix"], "dtype": given["dtype"]}


@contextmanager
def serve(instance: Instance, *, is_rest: bool) -> Iterator[Instance]:
    """Serve an instance: on one port to cryosparc-tools 5, or on the ports 2, 3 and 5 above it to 4.7."""
    handler = type("Handler", (_RestHandler if is_rest else _CommandHandler,), {})
    handler.instance = instance
    servers = _bind(handler, (0,) if is_rest else (2, 3, 5))
    port = servers[0].server_address[1] - (0 if is_rest else 2)
    instance.url = f"http://127.0.0.1:{port}"
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield instance
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _bind(handler: type[_Handler], offsets: tuple[int, ...]) -> list[ThreadingHTTPServer]:
    """Bind servers to ports that are `offsets` above one port."""
    for _ in range(50):
        servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler)]
        first = servers[0].server_address[1] - offsets[0]
        try:
            for offset in offsets[1:]:
                servers.append(ThreadingHTTPServer(("127.0.0.1", first + offset), handler))  # noqa: PERF401
        except (OSError, OverflowError):
            for server in servers:
                server.server_close()
            continue
        for server in servers:
            server.daemon_threads = True
        return servers
    raise RuntimeError("no free ports")
