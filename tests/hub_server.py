"""A loopback Hugging Face hub: the part of its protocol that the real ``huggingface_hub`` needs to fetch data files.

Info of data sets and models at a revision, ``resolve`` with commit and entity-tag headers, redirects of large files to
another host, ranges, and the error codes of the real hub; and uploads of small files. It can also misbehave: cut a
transfer off, send other bytes than listed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


def commit_of(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    """Commits of one data set or model, oldest first; files with ``lfs`` names are large files."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    lfs: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes]) -> str:
        sha = commit_of(len(self.commits))
        self.commits[sha] = files
        return sha

    @property
    def head(self) -> str:
        return list(self.commits)[-1]


class Hub:
    """``with Hub() as hub``: serves ``hub.repos`` at ``hub.url`` until the block ends or ``stop``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.created: dict[str, dict[str, Any]] = {}
        """What was asked for of repositories that were made."""
        self.uploaded: dict[str, dict[str, bytes]] = {}
        """Files by repository (``spaces/USER/NAME``) that were committed."""
        self.requests: Counter[str] = Counter()
        self.cut = 0
        """Transfers that will break off half way."""
        self.corrupt = False
        """Send other bytes of the same length."""
        self.status: int | None = None
        """Answer everything with this status."""
        self.stopped = False
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.stopped = True
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Tests are silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """Uploads: a repository is made, asked how files are to come (as they are), and gets a commit."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests[f"POST {path}"] += 1
        if self.headers.get("Authorization") != "Bearer hf_right":
            self._send(401, b'{"error":"Invalid username or password."}')
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['type']}s/{asked['organization']}/{asked['name']}"
            self.hub.created[name] = asked
            self._send(200, json.dumps({"url": f"{self.hub.url}/{name}", "name": name}).encode())
        elif path == "/api/validate-yaml":
            self._send(200, b'{"errors": [], "warnings": []}')
        elif found := re.fullmatch(r"/api/((?:spaces|datasets)/[^/]+/[^/]+)/preupload/main", path):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._send(200, json.dumps({"files": files}).encode())
        elif found := re.fullmatch(r"/api/((?:spaces|datasets)/[^/]+/[^/]+)/commit/main", path):
            files = [json.loads(line) for line in body.splitlines()]
            self.hub.uploaded[found[1]] = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in files
                if line["key"] == "file"
            }
            url = f"{self.hub.url}/{found[1]}/commit/{commit_of(0)}"
            self._send(
                200, json.dumps({"commitUrl": url, "commitOid": commit_of(0), "success": True}).encode()
            )
        else:
            self._send(404, b"{}")

    def _answer(self) -> None:
        if self.hub.stopped:  # a connection that was kept alive
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.hub.requests[f"{self.command} {path}"] += 1
        if self.hub.status is not None:
            self._send(self.hub.status, b"{}")
        elif found := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(*found.groups())
        elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*found.groups())
        elif found := re.fullmatch(r"/large/([0-9a-f]{64})", path):
            self._large(found[1])
        else:
            self._send(404, b"{}")

    def _repo(self, name: str, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            # what the real hub says of a repository that an anonymous user cannot see
            self._send(401, b'{"error":"Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
            return None
        if repo.gated:
            self._send(401, b'{"error":"gated"}', {"X-Error-Code": "GatedRepo"})
            return None
        sha = repo.head if revision in (None, "main") else revision
        if sha not in repo.commits:
            self._send(404, b'{"error":"Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return None
        return sha, repo.commits[sha]

    def _info(self, name: str, revision: str | None) -> None:
        if (found := self._repo(name, revision)) is None:
            return
        sha, files = found
        siblings = []
        for path, body in files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(body), "blobId": _git_hash(body)}
            if self.hub.repos[name].lfs:
                sha256 = hashlib.sha256(body).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(body), "pointerSize": 130}
            siblings.append(entry)
        info = {"id": name, "sha": sha, "private": False, "gated": False, "tags": [], "siblings": siblings}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        if (found := self._repo(name, revision)) is None:
            return
        sha, files = found
        if path not in files:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        body = files[path]
        if self.hub.repos[name].lfs:
            sha256 = hashlib.sha256(body).hexdigest()
            headers = {
                "X-Repo-Commit": sha,
                "X-Linked-Etag": f'"{sha256}"',
                "X-Linked-Size": str(len(body)),
                # another host name, as the real hub's storage has: the library follows redirects of its own host itself
                "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/large/{sha256}",
            }
            self._send(302, b"", headers)
        else:
            self._file(body, {"X-Repo-Commit": sha, "ETag": f'"{_git_hash(body)}"'})

    def _large(self, sha256: str) -> None:
        bodies = [b for r in self.hub.repos.values() for files in r.commits.values() for b in files.values()]
        body = next(b for b in bodies if hashlib.sha256(b).hexdigest() == sha256)
        self._file(body, {"ETag": f'"{sha256}"'})

    def _file(self, body: bytes, headers: dict[str, str]) -> None:
        status, start = 200, 0
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(found[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.hub.corrupt:
            body = body.replace(b"1", b"2")
        cut = None
        if self.command == "GET" and self.hub.cut:
            self.hub.cut -= 1
            cut = (len(body) - start) // 2
        self._send(status, body[start:], {"Accept-Ranges": "bytes", **headers}, cut=cut)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


def _git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
