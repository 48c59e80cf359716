"""Object stores for tests: moto's server, Ceph's gateway, and a proxy that counts requests and injects faults."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from ports import free_port

KEY = "KEYFORTESTSONLY"
#: With characters that break careless handling of URIs; no output may contain it.
SECRET = "Not/To+Be/Seen0123456789AnywhereAtAll"
BUCKET = "picks"
#: A `Proxy.fault`: the connection is closed without a response.
LOST = 0
#: Seconds any server may take to start.
LONG = 120.0
CEPH = Path(__file__).parent / "ceph"
#: Settings of the user's own account that tests must not use.
_OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3")


@dataclass
class Store:
    """The URL of a server, and valid credentials."""

    url: str
    key: str = KEY
    secret: str = SECRET

    @property
    def environment(self):
        """Environment variables for a process that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }

    def use(self, monkeypatch):
        """Make this process use it."""
        import s3fs

        for name in _OTHERS:
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()

    def around(self, **changes):
        """Return the whole environment of a process that uses it."""
        whole = {name: value for name, value in os.environ.items() if name not in _OTHERS}
        whole |= self.environment | changes
        return {name: value for name, value in whole.items() if value is not None}

    def client(self):
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )


class Folder:
    """A prefix of the bucket for one test."""

    def __init__(self, store, name, bucket=BUCKET):
        self.store, self.name, self.bucket = store, name, bucket
        self.client = store.client()

    def __truediv__(self, name):
        return f"s3://{self.bucket}/{self.name}/{name}"

    def put(self, path, name=""):
        """Upload a local file or folder and return its URI."""
        path = Path(path)
        name = name or path.name
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in files:
            within = "" if file == path else f"/{file.relative_to(path).as_posix()}"
            self.write(f"{name}{within}", file.read_bytes())
        return self / name

    def write(self, name, content):
        self.client.put_object(Bucket=self.bucket, Key=f"{self.name}/{name}", Body=content)

    def read(self, name):
        answer = self.client.get_object(Bucket=self.bucket, Key=f"{self.name}/{name}")
        return answer["Body"].read()

    def remove(self, name):
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.name}/{name}")

    def names(self, below=""):
        """Return the names of all objects below a name, relative to it."""
        prefix = f"{self.name}/{below}"
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return sorted(key.removeprefix(prefix).removeprefix("/") for key in found)

    def contents(self, below):
        return {name: self.read(f"{below}/{name}") for name in self.names(below)}

    def uploads(self):
        """Return the keys of unfinished multipart uploads."""
        answer = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=f"{self.name}/")
        return [upload["Key"] for upload in answer.get("Uploads", ())]


def start_moto(folder):
    """Start moto's server in a new process; it accepts any credentials."""
    port = free_port()
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "MOTO_S3_CUSTOM_ENDPOINTS": "", "NO_PROXY": "127.0.0.1"},
        )
    store = Store(f"http://127.0.0.1:{port}")
    wait_for_server(port, process)
    store.client().create_bucket(Bucket=BUCKET)
    return process, store


def wait_for_server(port, process=None):
    end = time.monotonic() + LONG
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 60).close()
        except OSError:
            assert process is None or process.poll() is None, "the server has exited"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)
        else:
            return


class Ceph:
    """A small Ceph cluster with its gateway, which checks signatures and can be killed and restarted."""

    def __init__(self, folder):
        self.folder = folder
        self.store = Store(f"http://127.0.0.1:{free_port()}")

    def start(self):
        port = str(urlsplit(self.store.url).port)
        words = [CEPH / "start.sh", self.folder, port, str(free_port()), KEY, SECRET]
        subprocess.run(words, check=True, timeout=120)
        self.store.client().create_bucket(Bucket=BUCKET)

    def start_gateway(self):
        subprocess.run([CEPH / "start.sh", self.folder], check=True, timeout=120)

    @property
    def gateway(self):
        """Process id of the gateway."""
        return int((self.folder / "run" / "client.rgw.pid").read_text())

    def stop(self):
        subprocess.run([CEPH / "stop.sh", self.folder], check=True, timeout=120)


@dataclass
class Proxy:
    """An HTTP proxy in front of a store.

    Attributes
    ----------
    store : Store
        The store behind it.
    fault : callable
        Called with the number of the request, from 1, and the request, such as ``PUT /picks/out/manifest.json``.
        Returns None to forward it, a status code to respond with, or `LOST`.
    """

    store: Store
    fault: object = lambda number, request: None
    #: Headers that are not forwarded.
    lost_headers: tuple = ("Expect",)
    requests: list = field(default_factory=list)
    refused: int = 0
    sent: int = 0
    received: int = 0

    def __enter__(self):
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.front = Store(f"http://127.0.0.1:{self.server.server_port}")
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


_CODES = {503: "SlowDown", 500: "InternalError", 403: "AccessDenied", 429: "TooManyRequests"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_):
        pass

    def _forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {self.path}"
        with self.proxy.lock:
            self.proxy.requests.append(request)
            self.proxy.last_body = body
            self.proxy.sent += len(body)
            status = self.proxy.fault(len(self.proxy.requests), request)
            self.proxy.refused += status is not None
        if status == LOST:
            # Like a killed server.
            self.close_connection = True
            return
        if status is not None:
            code = _CODES[status]
            answer = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, answer)
            return
        behind = http.client.HTTPConnection(urlsplit(self.proxy.store.url).netloc, timeout=LONG)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name not in self.proxy.lost_headers
        }
        try:
            behind.request(self.command, self.path, body, headers)
            reply = behind.getresponse()
            content = reply.read()
        except OSError:
            # Like a lost server.
            self.close_connection = True
            return
        finally:
            behind.close()
        with self.proxy.lock:
            self.proxy.received += len(content)
        kept = {
            name: value
            for name, value in reply.getheaders()
            if name.lower() not in ("transfer-encoding", "connection", "server", "date")
        }
        self._answer(reply.status, kept, content)

    def _answer(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        elif "Content-Length" not in headers and "content-length" not in headers:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815
