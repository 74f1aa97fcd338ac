"""An embedded wandb server: serves runs to wandb's own public API, and takes those that wandb's own client logs.

It answers the GraphQL operations that listing runs, scanning their history, starting, resuming and streaming a run ask
for. Any API key is let in; it listens on the loopback interface only.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

API_KEY = "0" * 40
"""A key in the form wandb asks for; this server accepts any."""

_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "$gte": lambda a, b: a >= b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$lt": lambda a, b: a < b,
}
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class ServedRun:
    """A run of `entity/project`: its config, and its history rows, each with `_step` and `_timestamp`."""

    project: str
    id: str
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    created_at: datetime
    heartbeat_at: datetime

    @property
    def last_step(self) -> int:
        return max((int(row["_step"]) for row in self.history), default=-1)

    def node(self) -> dict[str, Any]:
        """The run as GraphQL gives it."""
        return {
            "id": f"UnVu{self.id}",
            "projectId": "1",
            "name": self.id,
            "displayName": self.id,
            "state": "running",
            "config": json.dumps({key: {"value": value} for key, value in self.config.items()}),
            "createdAt": _text(self.created_at),
            "heartbeatAt": _text(self.heartbeat_at),
            "historyLineCount": len(self.history),
            "historyKeys": {"lastStep": self.last_step, "sets": [], "keys": {}},
            "summaryMetrics": json.dumps({"_step": self.last_step}),
            "systemMetrics": "{}",
            "tags": [],
            "readOnly": True,
            "user": {"name": "devnet", "username": "devnet"},
            **dict.fromkeys(("sweepName", "group", "jobType", "commit", "description", "notes")),
        }


class WandbServer:
    """Serves `runs` on a thread of this process. port: 0 for any free one; logs: gives more runs, as they stand
    at the moment of each request.

    failures: how many of the next requests fail; failure_status: with what, 0 for a connection that is cut;
    requests: how many came.
    """

    def __init__(
        self, runs: Iterable[ServedRun] = (), port: int = 0, logs: Callable[[], Iterable[ServedRun]] = tuple
    ) -> None:
        self.runs = list(runs)
        self._logs = logs
        self.failures = 0
        self.failure_status = 503
        self.requests = 0
        self._socket = socket.create_server((_HOST, port))
        stream = "/files/{entity}/{project}/{run}/file_stream"
        routes = [
            Route("/graphql", self._answer, methods=["POST"]),
            Route(stream, self._take, methods=["POST"]),
            Route("/upload", self._drop, methods=["PUT"]),
        ]
        app = Starlette(routes=routes)
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def base_url(self) -> str:
        """What wandb takes as WANDB_BASE_URL."""
        return f"http://{_HOST}:{self._socket.getsockname()[1]}"

    def start(self) -> WandbServer:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> WandbServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        self.requests += 1
        if self.failures > 0:
            self.failures -= 1
            if not self.failure_status:
                # less than was promised: the connection ends in the middle of the answer
                return Response(b'{"data": ', headers={"content-length": "1000"}, media_type="application/json")
            return JSONResponse({"errors": [{"message": "service unavailable"}]}, self.failure_status)
        return JSONResponse({"data": self._data(body["query"], body.get("variables") or {})})

    def _data(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if "viewer {" in query:
            viewer = {"id": "1", "entity": "devnet", "username": "devnet", "email": "", "flags": "{}"}
            return {"viewer": {**viewer, "teams": {"edges": []}}}
        project = f"{variables.get('entity')}/{variables.get('project')}"
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.base_url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if "upsertBucket" in query:
            return {"upsertBucket": self._upsert(project, variables)}
        if "RunResumeStatus" in query:
            known = next((run for run in self.runs if (run.project, run.id) == (project, variables["name"])), None)
            entity = {"id": "1", "name": variables["entity"]}
            bucket = known and known.node() | _tail(known)
            return {"model": {"id": "1", "name": variables["project"], "entity": entity, "bucket": bucket}}
        runs = [run for run in (*self.runs, *self._logs()) if run.project == project]
        if not runs:
            return {"project": None}
        if "runs(filters" in query:
            return {"project": {"internalId": "1", "readOnly": True, **_page(runs, variables)}}
        name = variables.get("runName") or variables.get("run") or variables.get("name")
        run = next((run for run in runs if run.id == name), None)
        return {"project": {"run": _run(run, query, variables) if run else None}}

    def _upsert(self, project: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Start a run, or go on with one."""
        entity, name = project.split("/")
        known = next((run for run in self.runs if (run.project, run.id) == (project, variables["name"])), None)
        if known is None:
            config = {key: item["value"] for key, item in json.loads(variables.get("config") or "{}").items()}
            now = datetime.now(UTC)
            self.runs.append(ServedRun(project, variables["name"], config, [], now, now + timedelta(hours=1)))
        place = {"id": "1", "name": name, "entity": {"id": "1", "name": entity}}
        bucket = {"id": f"UnVu{variables['name']}", "name": variables["name"], "config": "{}", "sweepName": None}
        more = {"displayName": variables.get("displayName"), "description": "", "historyLineCount": 0}
        return {"bucket": {**bucket, **more, "project": place}, "inserted": known is None}

    async def _take(self, request: Request) -> Response:
        """The lines that a client streams."""
        files = (await request.json()).get("files") or {}
        history = files.get("wandb-history.jsonl")
        if history is not None:
            where = request.path_params
            run = next(run for run in self.runs if run.id == where["run"])
            lines = [json.loads(line) for line in history["content"]]
            self.runs[self.runs.index(run)] = replace(run, history=[*run.history[: history["offset"]], *lines])
        return JSONResponse({"exitcode": None, "limits": {}})

    async def _drop(self, request: Request) -> Response:
        await request.body()
        return Response()


def _tail(run: ServedRun) -> dict[str, Any]:
    """What a client that resumes a run asks for."""
    lines = [json.dumps(row) for row in run.history[-1:]]
    counts = {"logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0}
    return {**counts, "historyTail": json.dumps(lines), "eventsTail": "[]", "wandbConfig": "{}", "config": "{}"}


def _page(runs: list[ServedRun], variables: Mapping[str, Any]) -> dict[str, Any]:
    wanted = json.loads(variables.get("filters") or "{}")
    found = sorted((run for run in runs if _matches(run, wanted)), key=lambda run: (run.created_at, run.id))
    if str(variables.get("order", "")).startswith("-"):
        found.reverse()
    start = int(variables.get("cursor") or 0)
    stop = start + int(variables.get("perPage") or 50)
    edges = [{"node": run.node(), "cursor": str(start + i + 1)} for i, run in enumerate(found[start:stop])]
    info = {"endCursor": str(start + len(edges)), "hasNextPage": stop < len(found)}
    return {"runCount": len(found), "runs": {"edges": edges, "pageInfo": info}}


def _matches(run: ServedRun, wanted: Mapping[str, Any]) -> bool:
    fields = {"created_at": _text(run.created_at), "heartbeat_at": _text(run.heartbeat_at)}
    for key, value in wanted.items():
        if key == "$and":
            if not all(_matches(run, part) for part in value):
                return False
        elif not all(_COMPARISONS[name](fields[key], limit) for name, limit in value.items()):
            return False
    return True


def _run(run: ServedRun, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    if "parquetHistory" in query:
        return {"parquetHistory": {"parquetUrls": [], "liveData": []}}
    if "history(" in query:
        start, stop = int(variables["minStep"]), int(variables["maxStep"])
        rows = [row for row in run.history if start <= row["_step"] < stop]
        return {"history": [json.dumps(row) for row in rows[: int(variables["pageSize"])]]}
    return run.node()


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
