"""Who may do what on the embedded hub: tokens, their users, and the replies that refuse.

The tokens live in `tokens.json` in the hub's folder, {"token": "user"}; the file is read again
whenever it changes. A user owns the namespace of its own name and no other. The tokens protect
nothing of value: the hub listens on the loopback interface only.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse

from sn37.devnet.hub.storage import Repo, Storage
from sn37.errors import ConfigError
from sn37.files import write_json

__all__ = ["Refused", "Users", "refused"]


class Refused(Exception):
    """A request that gets an error for an answer. code: the hub's own name of the error."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


async def refused(request: Request, error: Exception) -> JSONResponse:
    """The answer to a refused request, as the real hub words it."""
    assert isinstance(error, Refused)
    headers = {"X-Error-Message": error.message}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message}, error.status, headers)


class Users:
    """Tokens and users, and what they allow."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self._path = path
        self._storage = storage
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._tokens: dict[str, str] = {}
        self._read()

    def token_of(self, user: str) -> str:
        """A token of the user, made and kept where there is none."""
        with self._lock:
            for token, name in self._read().items():
                if name == user:
                    return token
            Repo("models", user, "name")
            token = f"hf_{user}"
            write_json(self._path, {**self._tokens, token: user})
            return token

    def of(self, request: Request) -> str | None:
        """The user behind a request, None for an anonymous one."""
        header = request.headers.get("authorization", "")
        if not header:
            return None
        with self._lock:
            user = self._read().get(header.removeprefix("Bearer ").strip())
        if user is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return user

    def reads(self, request: Request, repo: Repo) -> None:
        """Refuse unless the request may read the repo. A private repo looks like a missing one."""
        user = self.of(request)
        visible = self._storage.exists(repo) and (not self._storage.private(repo) or user == repo.namespace)
        if not visible and user is None:
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        if not visible:
            raise Refused(404, "Repository not found", "RepoNotFound")

    def writes(self, request: Request, repo: Repo) -> str:
        """Refuse unless the request may write to the repo (whether or not it exists); its user."""
        user = self.of(request)
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if user != repo.namespace:
            raise Refused(403, f"You don't have the rights to write to {repo.id}")
        return user

    def _read(self) -> dict[str, str]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._tokens
        if self._seen != (stat.st_mtime_ns, stat.st_ino):
            try:
                tokens = json.loads(self._path.read_text())
            except ValueError as error:
                raise ConfigError(f"{self._path} is no JSON ({error}); expected token to user") from None
            if not isinstance(tokens, dict) or not all(isinstance(user, str) for user in tokens.values()):
                raise ConfigError(f'{self._path} must be a JSON object of tokens and users, {{"token": "user"}}')
            self._tokens = tokens
            self._seen = (stat.st_mtime_ns, stat.st_ino)
        return self._tokens
