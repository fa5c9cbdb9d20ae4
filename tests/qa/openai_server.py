"""A small server on loopback that speaks the OpenAI chat protocol, well or badly, for tests. Knows no model."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MODES = (
    "good", "status", "slow", "garbage", "html", "wrong_json", "cut_off", "no_finish", "empty", "nothing", "endless", "drop", "stall",
    "pings", "flood", "too_long", "filtered", "error_event", "spent",
)  # fmt: skip


class OpenAIServer:
    """`with OpenAIServer("good", pieces=[...]) as server:`; `server.url` is the base address, `server.requests` what came in.

    before: what the first requests get instead: a status, (status, headers) or a mode; refuses: fields that are answered with `refusal`
    and a message that holds `names`, if given, or their names; usage: (in, out) tokens, sent where the request asks for it; tools:
    (name, arguments as text) of the tool calls that stand in place of text; answer: pieces for the request."""

    def __init__(
        self, mode: str = "good", pieces: Sequence[str] = ("Hello ", "world."), status: int = 200, body: str = "", *,
        headers: dict[str, str] | None = None, before: Sequence[int | str | tuple[int, dict[str, str]]] = (), refuses: Sequence[str] = (),
        names: str | None = None, refusal: int = 400, usage: tuple[int, int] | None = None, always_usage: bool = False,
        tools: Sequence[tuple[str, str]] = (), answer: Callable[[dict[str, Any]], Sequence[str]] | None = None, code: str = "",
    ) -> None:  # fmt: skip
        assert mode in MODES, mode
        self.mode, self.pieces, self.status, self.body, self.code = mode, list(pieces), status, body, code
        self.sent_headers, self.before, self.refuses, self.names, self.refusal = headers or {}, list(before), list(refuses), names, refusal
        self.usage, self.always_usage, self.tools, self.answer = usage, always_usage, list(tools), answer
        self._lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        outer = self

        class Handler(_Handler):
            owner = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def what(self) -> tuple[str, int, dict[str, str]]:
        """Mode, status and headers for the next request."""
        with self._lock:
            turn = self.before.pop(0) if self.before else None
        if turn is None:
            return self.mode, self.status, self.sent_headers
        if isinstance(turn, str):
            return turn, 200, {}
        return "status", *((turn, dict[str, str]()) if isinstance(turn, int) else turn)

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
        mode, status, headers = owner.what()
        if refused := [name for name in owner.refuses if name in request]:
            mode, status, headers = "status", owner.refusal, {}
        if mode == "drop":
            self.close_connection = True
            self.connection.close()
            return
        if mode == "status":
            message = (owner.names or f"Unrecognized: {', '.join(refused)}") if refused and owner.names != "" else owner.body or "no"
            body = json.dumps({"error": {"message": message, "type": "x", "code": owner.code or None}}).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            return
        if mode == "slow":
            owner.released.wait(20)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-type", "text/html" if mode == "html" else "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            self._body(mode, request)
            self.wfile.write(b"0\r\n\r\n")

    def _body(self, mode: str, request: dict[str, Any]) -> None:
        owner = self.owner
        bad = {
            "garbage": "data: {not json\n\n",
            "html": "<html>502</html>",
            "wrong_json": 'data: {"choices": 7}\n\n',
            "error_event": 'data: {"error": {"message": "out of memory sk-test-7f3a91", "code": 500}}\n\n',
            "nothing": "",
        }
        if mode in bad:
            if bad[mode]:
                self._send(bad[mode])
            return
        if mode in ("endless", "pings", "flood"):
            until = time.monotonic() + 10
            while not owner.released.is_set() and time.monotonic() < until:
                self._send({"endless": _chunk("ha " * 400), "pings": ": ping\n\n", "flood": ":" + "x" * (1 << 20)}[mode])
                time.sleep(0.001 if mode != "pings" else 0.05)
            return
        self._send(_chunk("", role="assistant"))
        pieces = owner.answer(request) if owner.answer else owner.pieces
        for piece in pieces if mode not in ("empty", "spent") and not owner.tools else ():
            self._send(_chunk(piece))
            if owner.always_usage and owner.usage:  # a running total, as some servers send it
                self._send(_chunk("", usage={"prompt_tokens": owner.usage[0], "completion_tokens": 1, "total_tokens": 0}))
        if mode == "cut_off":
            self.close_connection = True
            self.connection.close()
            raise ConnectionAbortedError
        if mode == "stall":
            owner.released.wait(20)
            self.close_connection = True
            return
        for index, (name, arguments) in enumerate(owner.tools):
            for start in {"id": f"call{index}", "name": name, "arguments": arguments[:7]}, {"arguments": arguments[7:]}:
                function = {k: v for k, v in start.items() if k != "id"}
                call = {"index": index, "type": "function", "function": function} | ({"id": start["id"]} if "id" in start else {})
                self._send(_chunk("", calls=[call]))
        finish = {"too_long": "length", "spent": "length", "filtered": "content_filter"}.get(mode, "tool_calls" if owner.tools else "stop")
        if mode != "no_finish":
            self._send(_chunk("", finish=finish))
        if owner.usage and (owner.always_usage or (request.get("stream_options") or {}).get("include_usage")):
            given = {"prompt_tokens": owner.usage[0], "completion_tokens": owner.usage[1], "total_tokens": sum(owner.usage)}
            self._send(_chunk("", usage=given))
        self._send("data: [DONE]\n\n")

    def _send(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def _chunk(
    text: str, role: str = "", finish: str | None = None, calls: list[dict[str, Any]] | None = None, usage: dict[str, int] | None = None
) -> str:
    delta = {"content": text} | ({"role": role} if role else {}) | ({"tool_calls": calls} if calls else {})
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": choices}
    if usage:
        body["usage"] = usage
    return f"data: {json.dumps(body)}\n\n"
