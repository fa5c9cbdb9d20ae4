"""A small server on loopback that speaks the OpenAI chat protocol, well or badly, for tests. Knows no model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MODES = ("good", "status", "slow", "garbage", "html", "wrong_json", "cut_off", "no_finish", "empty", "endless")


class OpenAIServer:
    """`with OpenAIServer("good", pieces=[...]) as server:`; `server.url` is the base address, `server.requests` what came in."""

    def __init__(self, mode: str = "good", pieces: Sequence[str] = ("Hello ", "world."), status: int = 200, body: str = "") -> None:
        assert mode in MODES, mode
        self.mode, self.pieces, self.status, self.body = mode, list(pieces), status, body
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        outer = self

        class Handler(_Handler):
            owner = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: OpenAIServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_POST(self) -> None:
        owner = self.owner
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            request = json.loads(raw)
        except ValueError:
            request = {"undecodable": len(raw)}
        owner.requests.append({"path": self.path, **request} if isinstance(request, dict) else {"path": self.path})
        owner.headers.append({k.lower(): v for k, v in self.headers.items()})
        if owner.mode == "status":
            body = json.dumps({"error": {"message": owner.body or "no", "type": "x"}}).encode()
            self.send_response(owner.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if owner.mode == "slow":
            owner.released.wait(20)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-type", "text/html" if owner.mode == "html" else "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._body()

    def _body(self) -> None:
        owner = self.owner
        if owner.mode in ("garbage", "html", "wrong_json"):
            self._send({"garbage": "data: {not json\n\n", "html": "<html>502</html>", "wrong_json": 'data: {"choices": 7}\n\n'}[owner.mode])
        elif owner.mode == "endless":
            try:
                while not owner.released.is_set():
                    self._send(_chunk("ha " * 400))
                    time.sleep(0.001)
            except OSError:
                return
        else:
            self._send(_chunk("", role="assistant"))
            for piece in owner.pieces if owner.mode != "empty" else ():
                self._send(_chunk(piece))
            if owner.mode == "cut_off":
                self.close_connection = True
                self.connection.close()
                return
            if owner.mode != "no_finish":
                self._send(_chunk("", finish="stop"))
            self._send("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def _chunk(text: str, role: str = "", finish: str | None = None) -> str:
    delta = {"content": text} | ({"role": role} if role else {})
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n"
