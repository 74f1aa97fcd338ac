"""What the embedded hub takes from writers: repos, settings, uploads, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from pathlib import PurePosixPath
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sn37.devnet.hub.reads import repo_of
from sn37.devnet.hub.storage import REPO_TYPES, Conflict, File, Repo, Storage
from sn37.devnet.hub.users import Refused, Users

__all__ = ["Writes"]

_LFS_SUFFIX = re.compile(r"\.(arrow|bin|ckpt|gz|h5|model|npy|npz|onnx|parquet|pkl|pth?|safetensors|tar|zip|zst)")
_LFS_FROM_BYTES = 10_000_000
_PATH_PART = re.compile(r"[^/\\\x00-\x1f]{1,255}")


class Writes:
    """The writing half of the hub."""

    def __init__(self, storage: Storage, users: Users) -> None:
        self.storage, self.users = storage, users
        self._tickets: dict[str, tuple[Repo, str]] = {}
        self._uploaded: set[tuple[Repo, str]] = set()

    def routes(self) -> list[Route]:
        repo = "/api/{type}/{namespace}/{name}"
        lfs = "/{namespace}/{name}.git/info/lfs/objects/batch"
        post, put, delete = ["POST"], ["PUT"], ["DELETE"]
        return [
            Route("/api/repos/create", self.create, methods=post, name="create"),
            Route("/api/repos/delete", self.delete, methods=delete, name="delete"),
            Route("/api/validate-yaml", self.validate_yaml, methods=post, name="validate-yaml"),
            Route(repo + "/settings", self.settings, methods=put, name="settings"),
            Route(repo + "/branch/{branch}", self.branch, methods=post, name="branch"),
            Route(repo + "/preupload/{revision}", self.preupload, methods=post, name="preupload"),
            Route(repo + "/commit/{revision}", self.commit, methods=post, name="commit"),
            *[Route(f"/{kind}{lfs}", self.lfs_batch, methods=post, name="lfs-batch") for kind in REPO_TYPES[1:]],
            Route(lfs, self.lfs_batch, methods=post, name="lfs-batch"),
            Route("/_lfs/{ticket}", self.lfs_put, methods=put, name="lfs-put"),
            Route("/_lfs/{ticket}/verify", self.lfs_verify, methods=post, name="lfs-verify"),
        ]

    async def create(self, request: Request) -> Response:
        repo, data = await self._named(request)
        self.users.writes(request, repo)
        private = data.get("visibility") == "private" or bool(data.get("private"))
        made = self.storage.create(repo, private)
        kind = "" if repo.type == "models" else f"{repo.type}/"
        body = {"url": f"{request.base_url}{kind}{repo.id}", "name": repo.id, "id": repo.id}
        if not made:
            return JSONResponse({**body, "error": "You already created this repo"}, 409)
        return JSONResponse(body)

    async def delete(self, request: Request) -> Response:
        repo, _ = await self._named(request)
        self.users.writes(request, repo)
        self.users.reads(request, repo)
        self.storage.delete(repo)
        return JSONResponse({})

    async def _named(self, request: Request) -> tuple[Repo, dict[str, Any]]:
        data = await request.json()
        user = data.get("organization") or self.users.of(request)
        if user is None:
            raise Refused(401, "Invalid username or password.")
        try:
            return Repo(f"{data.get('type') or 'model'}s", user, data["name"]), data
        except (KeyError, ValueError) as error:
            raise Refused(400, f"Invalid repo: {error}") from None

    async def validate_yaml(self, request: Request) -> Response:
        return JSONResponse({"errors": [], "warnings": []})

    async def settings(self, request: Request) -> Response:
        repo = self._writable(request)
        data = await request.json()
        if "visibility" in data or "private" in data:
            self.storage.set_private(repo, data.get("visibility") == "private" or bool(data.get("private")))
        return JSONResponse({"private": self.storage.private(repo)})

    async def branch(self, request: Request) -> Response:
        repo = self._writable(request)
        name = request.path_params["branch"]
        body = await request.body()
        commit = self.storage.resolve(repo, (json.loads(body) if body else {}).get("startingPoint", "main"))
        if commit is None:
            raise Refused(404, "Invalid starting point", "RevisionNotFound")
        if name in self.storage.branches(repo):
            raise Refused(409, f"Reference already exists: refs/heads/{name}")
        self.storage.set_branch(repo, name, commit.hash)
        return JSONResponse({})

    def _writable(self, request: Request) -> Repo:
        repo = repo_of(request)
        self.users.writes(request, repo)
        self.users.reads(request, repo)
        return repo

    async def preupload(self, request: Request) -> Response:
        repo = self._writable(request)
        newest = self.storage.resolve(repo, request.path_params["revision"])
        files: list[dict[str, Any]] = []
        for entry in (await request.json())["files"]:
            path = entry["path"]
            large = entry["size"] >= _LFS_FROM_BYTES or _LFS_SUFFIX.fullmatch(PurePosixPath(path).suffix) is not None
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            known = newest.files.get(path) if newest else None
            if known is not None:
                # what the client compares with its own file, to leave out what has not changed
                answer["oid"] = known.sha256 if known.lfs else known.oid
            files.append(answer)
        return JSONResponse({"files": files, "commitOid": newest.hash if newest else None})

    async def lfs_batch(self, request: Request) -> Response:
        if request.scope["path"].startswith(("/datasets/", "/spaces/")):
            request.path_params["type"] = request.scope["path"].split("/")[1]
        repo = self._writable(request)
        objects: list[dict[str, Any]] = []
        for entry in (await request.json())["objects"]:
            answer: dict[str, Any] = {"oid": entry["oid"], "size": entry["size"]}
            if not self._has(repo, entry["oid"]):
                ticket = secrets.token_hex(16)
                self._tickets[ticket] = (repo, entry["oid"])
                href = f"{request.base_url}_lfs/{ticket}"
                answer["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    def _has(self, repo: Repo, sha256: str) -> bool:
        """Whether the repo itself holds the blob: another repo's blob cannot be had by naming its hash."""
        if (repo, sha256) in self._uploaded:
            return True
        commits = (c for name in self.storage.branches(repo) for c in self.storage.history(repo, name))
        return any(file.lfs and file.sha256 == sha256 for commit in commits for file in commit.files.values())

    def _ticket(self, request: Request) -> tuple[Repo, str]:
        ticket = self._tickets.get(request.path_params["ticket"])
        if ticket is None:
            raise Refused(403, "No such upload")
        return ticket

    async def lfs_put(self, request: Request) -> Response:
        repo, sha256 = self._ticket(request)
        aside, total = self.storage.incoming(), hashlib.sha256()
        try:
            with aside.open("wb") as file:
                async for chunk in request.stream():
                    total.update(chunk)
                    file.write(chunk)
            if total.hexdigest() != sha256:
                raise Refused(400, f"The upload's SHA-256 is {total.hexdigest()}, not {sha256}")
            self.storage.add_blob(aside, sha256)
        finally:
            aside.unlink(missing_ok=True)
        self._uploaded.add((repo, sha256))
        return Response(headers={"ETag": f'"{sha256}"'})

    async def lfs_verify(self, request: Request) -> Response:
        repo, sha256 = self._ticket(request)
        if not self._has(repo, sha256):
            raise Refused(404, "Object not found")
        return JSONResponse({})

    async def commit(self, request: Request) -> Response:
        repo = self._writable(request)
        branch = request.path_params["revision"]
        try:
            lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
            header = next(line["value"] for line in lines if line["key"] == "header")
        except (ValueError, KeyError, StopIteration):
            raise Refused(400, "A commit is lines of JSON, its header first") from None

        def change(files: dict[str, File]) -> None:
            for line in lines:
                self._apply(repo, files, line["key"], line["value"])

        try:
            made = self.storage.commit(
                repo,
                branch,
                repo.namespace,
                header.get("summary", ""),
                header.get("description", ""),
                change,
                header.get("parentCommit"),
            )
        except LookupError:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound") from None
        except Conflict as error:
            raise Refused(412, f"A commit has happened since. Please refresh and try again: {error}") from None
        kind = "" if repo.type == "models" else f"{repo.type}/"
        url = f"{request.base_url}{kind}{repo.id}/commit/{made.hash}"
        return JSONResponse({"success": True, "commitOid": made.hash, "commitUrl": url, "hookOutput": ""})

    def _apply(self, repo: Repo, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
        if key == "header":
            return
        path = value["path"].rstrip("/")
        if any(part in (".", "..", ".git") or not _PATH_PART.fullmatch(part) for part in path.split("/")):
            raise Refused(400, f"Invalid path: {path!r}")
        if key == "file":
            files[path] = self.storage.add_bytes(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            file = self.storage.lfs_file(value["oid"]) if self._has(repo, value["oid"]) else None
            if file is None:
                raise Refused(400, f"Your push was rejected: the LFS object of {path} is missing")
            files[path] = file
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path + "/")]:
                del files[name]
        else:
            raise Refused(400, f"Unknown operation: {key}")
