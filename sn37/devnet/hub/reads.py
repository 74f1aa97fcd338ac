"""What the embedded hub answers to readers: listings, history, files by byte range."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sn37.devnet.hub.storage import REPO_TYPES, Commit, File, Repo, Storage, pointer
from sn37.devnet.hub.users import Refused, Users

__all__ = ["Reads", "repo_of"]

_CHUNK_BYTES = 1 << 20
_TREE_PAGE = 1000
_COMMITS_PAGE = 50


def repo_of(request: Request) -> Repo:
    """The repo a path speaks of."""
    kind = request.path_params.get("type", "models")
    try:
        return Repo(kind, request.path_params["namespace"], request.path_params["name"])
    except ValueError:
        raise Refused(404, "Repository not found", "RepoNotFound") from None


class Reads:
    """The reading half of the hub."""

    def __init__(self, storage: Storage, users: Users) -> None:
        self.storage, self.users = storage, users

    def routes(self) -> list[Route]:
        repo = "/api/{type}/{namespace}/{name}"
        files = "/{namespace}/{name}/resolve/{revision}/{path:path}"
        return [
            Route("/api/whoami-v2", self.whoami, name="whoami"),
            Route("/api/models", self.models, name="models"),
            Route(repo, self.info, name="info"),
            Route(repo + "/revision/{revision}", self.info, name="info"),
            Route(repo + "/tree/{revision}", self.tree, name="tree"),
            Route(repo + "/tree/{revision}/{path:path}", self.tree, name="tree"),
            Route(repo + "/paths-info/{revision}", self.paths_info, methods=["POST"], name="paths-info"),
            Route(repo + "/refs", self.refs, name="refs"),
            Route(repo + "/commits/{revision}", self.commits, name="commits"),
            *[Route(f"/{kind}{files}", self.resolve, name="resolve") for kind in REPO_TYPES[1:]],
            Route(files, self.resolve, name="resolve"),
        ]

    def _commit(self, request: Request) -> tuple[Repo, Commit]:
        repo = repo_of(request)
        self.users.reads(request, repo)
        revision = request.path_params.get("revision", "main")
        commit = self.storage.resolve(repo, revision)
        if commit is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit

    async def whoami(self, request: Request) -> Response:
        user = self.users.of(request)
        if user is None:
            raise Refused(401, "Invalid username or password.")
        token = {"type": "access_token", "accessToken": {"displayName": "devnet", "role": "write"}}
        return JSONResponse({"type": "user", "id": user, "name": user, "fullname": user, "orgs": [], "auth": token})

    async def models(self, request: Request) -> Response:
        """The public models, sorted."""
        public = (repo.id for repo in self.storage.repos() if repo.type == "models" and not self.storage.private(repo))
        return _page(request, [{"id": name, "private": False} for name in public], _COMMITS_PAGE)

    async def info(self, request: Request) -> Response:
        repo, commit = self._commit(request)
        blobs = request.query_params.get("blobs", "").lower() in ("true", "1")
        siblings: list[dict[str, object]] = []
        for path, file in commit.files.items():
            entry: dict[str, object] = {"rfilename": path}
            if blobs:
                entry |= {"size": file.size, "blobId": file.oid}
                if file.lfs:
                    entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
            siblings.append(entry)
        data = {
            "_id": commit.hash[:24],
            "id": repo.id,
            "author": repo.namespace,
            "sha": commit.hash,
            "lastModified": commit.date,
            "createdAt": self.storage.created(repo),
            "private": self.storage.private(repo),
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
        return JSONResponse(data)

    async def tree(self, request: Request) -> Response:
        _, commit = self._commit(request)
        prefix = request.path_params.get("path", "").strip("/")
        recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        entries = _entries(commit, prefix, recursive)
        if prefix and not entries:
            raise Refused(404, f"{prefix} does not exist on {commit.hash}", "EntryNotFound")
        return _page(request, entries, _TREE_PAGE)

    async def paths_info(self, request: Request) -> Response:
        _, commit = self._commit(request)
        form = parse_qs((await request.body()).decode())
        known = {entry["path"]: entry for entry in _entries(commit, "", recursive=True)}
        entries = [known[path] for path in form.get("paths", []) if path in known]
        return JSONResponse(entries)

    async def refs(self, request: Request) -> Response:
        repo, _ = self._commit(request)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
            for name, commit in self.storage.branches(repo).items()
        ]
        return JSONResponse({"branches": branches, "converts": [], "tags": []})

    async def commits(self, request: Request) -> Response:
        repo, commit = self._commit(request)
        entries: list[dict[str, object]] = [
            {
                "id": past.hash,
                "title": past.title,
                "message": past.message,
                "authors": [{"user": past.author}],
                "date": past.date,
            }
            for past in self.storage.history(repo, commit.hash)
        ]
        return _page(request, entries, _COMMITS_PAGE)

    async def resolve(self, request: Request) -> Response:
        if request.scope["path"].startswith(("/datasets/", "/spaces/")) and request.path_params.get("type") is None:
            request.path_params["type"] = request.scope["path"].split("/")[1]
        _, commit = self._commit(request)
        path = request.path_params["path"]
        file = commit.files.get(path)
        headers = {"X-Repo-Commit": commit.hash, "Accept-Ranges": "bytes"}
        if file is None:
            raise Refused(404, f"Entry not found: {path}", "EntryNotFound")
        stored = self.storage.blob(file.sha256)
        size = stored.stat().st_size
        headers["ETag"] = f'"{file.sha256 if file.lfs else file.oid}"'
        headers["Content-Disposition"] = f'inline; filename="{PurePosixPath(path).name}"'
        if file.lfs:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(size)}
        start, end, status = _range(request.headers.get("range", ""), size)
        headers["Content-Length"] = str(end - start)
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if status == 416:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type="application/octet-stream")
        return StreamingResponse(_chunks(stored, start, end), status, headers, "application/octet-stream")


def _pointer_size(file: File) -> int:
    return len(pointer(file.sha256, file.size))


def _entries(commit: Commit, prefix: str, recursive: bool) -> list[dict[str, object]]:
    """Files and folders below `prefix`, sorted by path."""
    found: dict[str, dict[str, object]] = {}
    base = f"{prefix}/" if prefix else ""
    for path, file in commit.files.items():
        if not path.startswith(base):
            continue
        parts = path[len(base) :].split("/")
        for depth in range(1, len(parts)):
            folder = base + "/".join(parts[:depth])
            found[folder] = {"type": "directory", "path": folder, "oid": commit.hash, "size": 0}
            if not recursive:
                break
        if recursive or len(parts) == 1:
            found[path] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
            if file.lfs:
                found[path]["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    return [found[path] for path in sorted(found)]


def _page(request: Request, entries: Sequence[dict[str, object]], limit: int) -> Response:
    """One page of a listing; the next one's address is in the Link header."""
    try:
        start = int(request.query_params.get("cursor", "0"))
        limit = min(limit, int(request.query_params.get("limit", limit)))
    except ValueError:
        raise Refused(400, "cursor and limit are numbers") from None
    headers = {}
    if start + limit < len(entries):
        query = {**request.query_params, "cursor": str(start + limit)}
        headers["Link"] = f'<{request.url.replace(query=urlencode(query))}>; rel="next"'
    return JSONResponse(list(entries[start : start + limit]), headers=headers)


def _range(header: str, size: int) -> tuple[int, int, int]:
    """(first byte, byte after the last, status) of a Range header."""
    if not header.startswith("bytes=") or "," in header:
        return 0, size, 200
    first, _, last = header.removeprefix("bytes=").partition("-")
    try:
        if first:
            start, end = int(first), min(int(last) + 1, size) if last else size
        else:
            start, end = max(size - int(last), 0), size
    except ValueError:
        return 0, size, 200
    return (start, end, 206) if start < end else (0, 0, 416)


async def _chunks(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            chunk = file.read(min(_CHUNK_BYTES, end - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk
