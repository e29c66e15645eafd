"""A stand-in for the Hugging Face Hub on 127.0.0.1: what the course's libraries ask of it, and faults on demand.

The libraries talk to it unchanged once ``HF_ENDPOINT`` names it, which they read when they are imported. Files are
served as plain HTTP (no Xet and no LFS endpoint: uploads arrive base64 in the commit), in ranges where asked for.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from hub_repository import TOKEN, USER, Repository, Request, info, listing, tree

ADDRESS = re.compile(r"/(?P<kind>datasets/|)(?P<id>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>[\w.-]+/[\w.-]+)(?:/(?P<verb>[\w-]+)(?:/(?P<revision>[^/]+))?"
                 r"(?:/(?P<path>.+))?)?")


class HubServer:
    """The Hub. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []
        self.stalled = False
        """Accept connections, and never answer."""
        self.status: int | None = None
        """Answer everything with this error."""
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    # ------------------------------------------------------------------------------------------------- for the tests
    @property
    def endpoint(self) -> str:
        """What ``HF_ENDPOINT`` is set to. It stays the same when the server is stopped and started again."""
        return f"http://127.0.0.1:{self._port}"

    def add(self, repository_id: str, files: dict[str, bytes] | Path, type: str = "model", **settings) -> Repository:
        """Serve these files, or those of a folder, under this id."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in sorted(files.iterdir()) if path.is_file()}
        repository = Repository(repository_id, dict(files), type, **settings)
        self.repositories[type, repository_id] = repository
        return repository

    def asked_for(self, repository_id: str, method: str | None = None) -> set[str]:
        """Names of the files of this repository that were asked for (by this method)."""
        found = (ADDRESS.fullmatch(request.path) for request in list(self.requests) if method in (None, request.method))
        return {unquote(match["path"]) for match in found if match and match["id"] == repository_id}

    def start(self) -> HubServer:
        """Answer at `endpoint`."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse every connection from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; `hub` is set by `HubServer.start`."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None:
        """Requests are recorded, not printed."""

    # ---------------------------------------------------------------------------------------------------- dispatching
    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.address = urlsplit(self.path)
        self.authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.hub.requests.append(Request(self.command, self.address.path, self.headers.get("Range"), self.authorized))
        if self.hub._server is None:  # a connection kept alive from before the server was stopped
            return self._hang_up()
        if self.hub.stalled:
            time.sleep(60)
            return self._hang_up()
        if self.hub.status:
            return self._error(self.hub.status, None, "Out of order")
        path = unquote(self.address.path)
        if self.command != "POST" and (match := ADDRESS.fullmatch(path)):
            return self._resolve("dataset" if match["kind"] else "model", match["id"], match["revision"], match["path"])
        if path == "/api/whoami-v2":
            if not self.authorized:
                return self._error(401, None, "Invalid credentials in Authorization header")
            token = {"displayName": "tests", "role": "write"}
            return self._json({"name": USER, "type": "user", "orgs": [],
                               "auth": {"type": "access_token", "accessToken": token}})
        if self.command == "POST" and path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.command == "POST" and path == "/api/repos/create":
            return self._create(json.loads(self.body))
        if match := API.fullmatch(path):
            return self._api(match)
        self._error(404, None, f"This stand-in has no {path}")

    def _api(self, match: re.Match) -> None:
        repository = self.hub.repositories.get((match["kind"].removesuffix("s"), match["id"]))
        if repository is None:
            return self._error(401 if not self.authorized else 404, "RepoNotFound", "Repository not found")
        verb, revision, folder = match["verb"], match["revision"], match["path"]
        if revision not in (None, "main", repository.sha):
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if self.command == "POST":
            if verb == "paths-info":
                paths = parse_qs(self.body.decode())["paths"]
                return self._json([item for path in paths for item in listing(repository, path)])
            if not self.authorized:
                return self._error(401, None, "Invalid username or password.")
            if verb == "preupload":
                return self._json({"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                                             for file in json.loads(self.body)["files"]]})
            if verb == "commit":
                return self._commit(repository)
        elif verb in (None, "revision"):
            return self._json(info(repository))
        elif verb == "tree":
            recursive = parse_qs(self.address.query).get("recursive", ["false"])[0].lower() in ("true", "1")
            listing = tree(repository, folder or "", recursive)
            if folder and not listing:
                return self._error(404, "EntryNotFound", f"{folder} does not exist on 'main'", repository)
            return self._json(listing)
        self._error(404, None, f"This stand-in has no {self.command} {self.path}")

    # ---------------------------------------------------------------------------------------------------------- files
    def _resolve(self, type: str, repository_id: str, revision: str, path: str) -> None:
        repository = self.hub.repositories.get((type, repository_id))
        if repository is None:
            return self._error(401 if not self.authorized else 404, "RepoNotFound", "Repository not found")
        if repository.gated and not self.authorized:
            return self._error(401, "GatedRepo", f"Access to {type} {repository_id} is restricted. Please log in.",
                               repository)
        if revision not in ("main", repository.sha):
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path not in repository.files:
            return self._error(404, "EntryNotFound", "Entry not found", repository)
        whole = repository.files[path]
        start, stop, status = 0, len(whole), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            start, stop, status = int(asked[1]), min(int(asked[2] or len(whole)) + 1, len(whole)), 206
            if start >= len(whole):
                return self._error(416, None, "Range not satisfiable", repository)
        self.send_response(status)
        self.send_header("X-Repo-Commit", repository.sha)
        self.send_header("ETag", f'"{hashlib.sha1(whole).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(whole)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if path not in repository.send:
            self._write(whole[start:stop])
            return
        for piece in repository.send[path](whole[start:stop], start=start, total=len(whole)):
            if not self._write(piece):
                break
        self._hang_up()

    def _write(self, piece: bytes) -> bool:
        try:
            self.wfile.write(piece)
            self.wfile.flush()
            return True
        except OSError:  # the other side has had enough
            self.close_connection = True
            return False

    # -------------------------------------------------------------------------------------------------------- writing
    def _create(self, wanted: dict) -> None:
        if not self.authorized:
            return self._error(401, None, "Invalid username or password.")
        repository_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        key, url = (wanted.get("type") or "model", repository_id), f"{self.hub.endpoint}/{repository_id}"
        if key in self.hub.repositories:
            return self._json({"error": "You already created this repo", "url": url}, 409)
        self.hub.add(repository_id, {}, key[0])
        self._json({"url": url, "name": repository_id, "id": repository_id})

    def _commit(self, repository: Repository) -> None:
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                repository.files.pop(value["path"], None)
            elif line["key"] != "header":
                return self._error(400, None, f"This stand-in knows no {line['key']}")
        repository.commits += 1
        url = f"{self.hub.endpoint}/{repository.id}/commit/{repository.sha}"
        self._json({"commitUrl": url, "commitOid": repository.sha, "hookOutput": "", "success": True})

    # ------------------------------------------------------------------------------------------------------ responses
    def _json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        sizes = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**sizes, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(body)

    def _error(self, status: int, code: str | None, message: str, repository: Repository | None = None) -> None:
        # Without X-Error-Code the client takes a 401 for just any error.
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        if repository is not None:
            headers["X-Repo-Commit"] = repository.sha
        self._json({"error": message}, status, headers)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
