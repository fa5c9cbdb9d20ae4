"""A server on this machine that gives scripted answers and remembers what it was asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """cut: break the connection after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Script = Reply | Callable[[Asked], Reply]


class Server:
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.scripts: dict[str, list[Script]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 20  # head and body in one packet, or each answer waits 40 ms

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                query, form = ({k: v[0] for k, v in parse_qs(text).items()} for text in (parts.query, body))
                asked = Asked(self.command, parts.path, query, {k.lower(): v for k, v in self.headers.items()}, form)
                server.asked.append(asked)
                scripts = server.scripts.get(parts.path, [Reply(status=404)])
                script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
                reply = script if isinstance(script, Reply) else script(asked)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body[: reply.cut])
                self.close_connection = reply.cut is not None

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"
        threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def on(self, path: str, *scripts: Script) -> str:
        """Answers to `path`, one after the other; the last one repeats."""
        self.scripts[path] = list(scripts)
        return self.url + path

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()


def ranged(data: bytes, etag: str = '"one"', cut: int | None = None) -> Callable[[Asked], Reply]:
    """A file of a server that knows Range and If-Range."""

    def script(asked: Asked) -> Reply:
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        found = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        if not found or asked.headers.get("if-range", etag) != etag:
            return Reply(data, 200, headers, cut)
        start = int(found[1])
        if start >= len(data):
            return Reply(b"", 416, headers | {"Content-Range": f"bytes */{len(data)}"})
        return Reply(data[start:], 206, headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, cut)

    return script


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    yield made
    made.close()
