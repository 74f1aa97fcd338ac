"""Servers that answer as no hub should: one that writes what it is told to, and a proxy before a hub."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any

Answer = Callable[[socket.socket, str], None]


class RawServer:
    """Every request is answered by `answer(connection, path)`, which writes what it likes."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.paths, self.headers = answer, list[str](), list[dict[str, str]]()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                while line := lines.readline().decode():
                    headers = {}
                    while header := lines.readline().decode().strip():
                        name, _, value = header.partition(":")
                        headers[name.lower()] = value.strip()
                    self.paths.append(line.split()[1])
                    self.headers.append(headers)
                    self.answer(connection, line.split()[1])
            except OSError:
                pass


def reply(connection: socket.socket, body: Any, status: str = "200 OK", **headers: str) -> None:
    """Write one whole answer."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


class Proxy:
    """A proxy before a hub. hook(handler): answers itself with `say` and returns True, or lets the request through."""

    def __init__(self, upstream: str, hook: Callable[[Any], object]) -> None:
        target = urllib.parse.urlsplit(upstream)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def forward(self) -> None:
                if not hook(self):
                    status, headers, body = self.fetched()
                    self.say(status, headers, body)

            do_GET = do_HEAD = forward  # noqa: N815 - the names that the library looks for

            def fetched(self) -> tuple[int, dict[str, str], bytes]:
                """What the hub answers."""
                line = http.client.HTTPConnection(str(target.hostname), target.port, timeout=20)
                dropped = ("host", "connection")
                headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                line.request(self.command, self.path, sent or None, headers)
                answer = line.getresponse()
                body = answer.read()
                line.close()
                dropped = ("transfer-encoding", "connection")
                return answer.status, {k: v for k, v in answer.getheaders() if k.lower() not in dropped}, body

            def say(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                known = {name.lower() for name in headers}
                for name, value in headers.items():
                    if name.lower() != "content-length" or self.command == "HEAD":
                        self.send_header(name, value)
                if self.command != "HEAD" or "content-length" not in known:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
