"""A model hub, as the hub's own client calls it: what a test says it has, at the test's pace.

Also `python hub.py`, in a pod: it needs nothing but the standard library.
"""

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_of-the-tests"
_PIECE = 1 << 18
_API = re.compile(r"/api/models/(?P<model>[^/?]+/[^/?]+)(/(?P<what>revision|tree)/[^?]+)?(\?.*)?")
_FILE = re.compile(r"/(?P<model>[^/?]+/[^/?]+)/resolve/[^/]+/(?P<name>[^?]+)")
_LARGE = re.compile(r"/large/(?P<model>[^/?]+/[^/?]+)/(?P<name>.+)")


@dataclass
class Repo:
    """A model: its files, and who may have them.

    Attributes:
        gated: Everybody may see it; its files want TOKEN.
        bytes_per_s: The pace of its weights; 0 for as fast as it goes.
        stop_after: By file: with the hub's gate shut, it stops after so many bytes.
        claims: Sizes that the hub tells, where they are not the true ones.
    """

    files: dict[str, bytes]
    gated: bool = False
    bytes_per_s: int = 0
    stop_after: dict[str, int] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)


def tiny_model(
    weights: int = 1000, shards: int = 1, more: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """The files of a model whose weights have so many bytes each."""
    names = [f"model-{at:05}-of-{shards:05}.safetensors" for at in range(1, shards + 1)]
    contents = {name: bytes([at]) * weights for at, name in enumerate(names, 1)}
    index = {"weight_map": {f"layer.{at}": name for at, name in enumerate(names)}}
    return {
        "config.json": b"{}",
        "tokenizer.json": b'{"model": {}}',
        "model.safetensors.index.json": json.dumps(index).encode(),
        **contents,
        **(more or {}),
    }


class FakeHub:
    """The server, in a thread.

    Attributes:
        repos: What it has, by model.
        fault: A status that every request is answered with; 0 for none.
        gate: While clear, weights stop at `Repo.stop_after`.
        sent: Bytes of each file that went out, in all.
        asked: Paths of all requests.
    """

    def __init__(self, repos: dict[str, Repo], host: str = "127.0.0.1", port: int = 0) -> None:
        self.repos = repos
        self.fault = 0
        self.gate = threading.Event()
        self.gate.set()
        self.sent: dict[str, int] = {}
        self.asked: list[str] = []
        hub = self

        class Bound(_Handler):
            served = hub

        self._server = _Server((host, port), Bound)

    @property
    def url(self) -> str:
        """Its address, as HF_ENDPOINT."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> "FakeHub":
        """Serve."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def serve_forever(self) -> None:
        """Serve in this thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Be away from now on."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    served: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        self.served.asked.append(self.path)
        found = _API.fullmatch(self.path) or _FILE.match(self.path) or _LARGE.fullmatch(self.path)
        repo = self.served.repos.get(found["model"]) if found else None
        refused = self._refusal(repo, file=found is not None and found.re is not _API)
        if refused:
            status, headers = refused
            self._send(status, headers=headers)
        elif found is None or repo is None:
            raise AssertionError(self.path)
        elif found.re is _API:
            self._describe(found["model"], repo, found["what"])
        elif found["name"] not in repo.files:
            self._send(404, headers={"X-Error-Code": "EntryNotFound"})
        elif found.re is _FILE:
            self._file(found["model"], repo, found["name"])
        else:
            self._weights(repo, found["name"])

    def _refusal(self, repo: Repo | None, *, file: bool) -> tuple[int, dict[str, str]] | None:
        if self.served.fault:
            return self.served.fault, {}
        authorization = self.headers.get("authorization")
        if authorization not in (None, f"Bearer {TOKEN}"):
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}
        if repo is None:
            # as the real one: without a token it does not tell missing and private apart
            return (404 if authorization else 401), {"X-Error-Code": "RepoNotFound"}
        if repo.gated and file and not authorization:
            return 401, {"X-Error-Code": "GatedRepo"}
        return None

    def _describe(self, model: str, repo: Repo, what: str | None) -> None:
        sizes = {name: repo.claims.get(name, len(data)) for name, data in repo.files.items()}
        if what == "tree":
            listed = [
                {"type": "file", "path": name, "size": size, "oid": _oid(repo.files[name])}
                for name, size in sizes.items()
            ]
            return self._send(200, json.dumps(listed).encode())
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        info = {
            "id": model,
            "modelId": model,
            "sha": COMMIT,
            "private": False,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "downloads": 0,
            "tags": [],
            "siblings": siblings,
        }
        return self._send(200, json.dumps(info).encode())

    def _file(self, model: str, repo: Repo, name: str) -> None:
        data = repo.files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_oid(data)}"'}
        if not name.endswith((".safetensors", ".bin")):
            return self._send(200, data, headers)
        # large files lie elsewhere
        headers |= {
            "X-Linked-Size": str(repo.claims.get(name, len(data))),
            "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Location": f"http://{self.headers['host']}/large/{model}/{name}",
        }
        return self._send(302, headers=headers)

    def _weights(self, repo: Repo, name: str) -> None:
        data = repo.files[name]
        if self.command == "HEAD":
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            return self._send(200, data, headers)
        first = int((self.headers.get("range") or "bytes=0-")[len("bytes=") :].split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("content-length", str(len(data) - first))
        self.end_headers()
        hub, gate = self.served, self.served.gate
        for at in range(first, len(data), _PIECE):
            if at >= repo.stop_after.get(name, len(data)):
                gate.wait()
            if repo.bytes_per_s:
                time.sleep(_PIECE / repo.bytes_per_s)
            piece = data[at : at + _PIECE]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True  # the client went away
                break
            hub.sent[name] = hub.sent.get(name, 0) + len(piece)

        return None

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def main() -> None:
    """Serve two models: one that is slow, and one that wants TOKEN."""
    slow = Repo(tiny_model(30_000_000), bytes_per_s=2_500_000)
    repos = {"tests/slow": slow, "tests/gated": Repo(tiny_model(), gated=True)}
    FakeHub(repos, "0.0.0.0", 8080).serve_forever()


if __name__ == "__main__":
    main()
