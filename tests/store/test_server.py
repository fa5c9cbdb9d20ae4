"""A Chroma server as the index: its address, several homes on one, and one line for every way in which it can fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag.errors import DiskFullError, HomeError, IndexServerError, InputError
from biobridge_rag.store import index as store_index
from biobridge_rag.store import server
from biobridge_rag.store.index import BRIDGE, FROZEN, NodeIndex, describe
from biobridge_rag.store.server import ask, read_address
from biobridge_rag.types import NodeType
from tests.store.conftest import running_server
from tests.store.test_index import DRUG, nodes_of, quiet, vectors_of

BEAT = {"/api/v2/heartbeat": (200, '{"nanosecond heartbeat": 7}'), "/api/v2/version": (200, '"1.0.0"')}
CLIENT = {
    "/api/v2/auth/identity": (200, '{"user_id": "", "tenant": "default_tenant", "databases": ["default_database"]}'),
    "/api/v2/tenants/default_tenant": (200, '{"name": "default_tenant"}'),
    "/api/v2/tenants/default_tenant/databases/default_database": (
        200,
        '{"id": "b8a31d63-2c4d-4a0c-a3a5-c6a3d7d3a2b1", "name": "default_database", "tenant": "default_tenant"}',
    ),
    "/api/v2/pre-flight-checks": (200, '{"max_batch_size": 100}'),
}


@contextmanager
def answering(answers: dict[str, tuple[int, str]], otherwise: tuple[int, str] = (404, "not found")) -> Iterator[str]:
    """The URL of a server that says the same to every request for a path."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status, text = answers.get(self.path, otherwise)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def one_line(caught: pytest.ExceptionInfo[Exception]) -> bool:
    return len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("http://localhost", "http://localhost:8000"),
        (" http://chroma.example.org:9000/ ", "http://chroma.example.org:9000"),
        ("https://chroma.example.org", "https://chroma.example.org:443"),
        ("http://[::1]:8001", "http://[::1]:8001"),
    ],
)
def test_addresses(url: str, means: str) -> None:
    assert read_address(url).url == means


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000", "ftp://localhost", "http://", "http://:8000", "http://h:99999", "http://h:abc", "http://h:0", "http://a b:1",
        "http://h/path", "http://h?x=1", "http://me:secret@h", "http://[::1", "chroma",
    ],
)  # fmt: skip
def test_a_wrong_address_is_bad_input(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="address of the Chroma server") as caught:
        NodeIndex(tmp_path / "chroma", url)
    assert one_line(caught) and not (tmp_path / "chroma").exists()


@pytest.mark.parametrize("prefix", ["a b", "-a", "a.", "ä", "a/b", "x" * 401])
def test_a_prefix_that_chroma_would_refuse_is_bad_input(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(InputError, match="prefix"):
        NodeIndex(tmp_path, prefix=prefix)


def test_homes_on_one_server_do_not_see_each_other(tmp_path: Path, chroma_url: str) -> None:
    one, other = NodeIndex(tmp_path, chroma_url, "starter-1a2b"), NodeIndex(tmp_path, chroma_url, "starter-1a")
    one.write(DRUG, FROZEN, nodes_of(5), vectors_of(5), "v1", quiet)
    other.write(DRUG, FROZEN, nodes_of(9), vectors_of(9), "v1", quiet)
    other.write(DRUG, BRIDGE, nodes_of(9), vectors_of(9), "v1", quiet)
    assert one.counts() == {"drug.frozen": 5} and other.counts() == {"drug.frozen": 9, "drug.bridge": 9}
    with pytest.raises(HomeError, match=r"no collection 'drug.bridge'.*--chroma-url"):
        one.search(DRUG, BRIDGE, vectors_of(1), 3)
    assert [len(row) for row in one.search(DRUG, FROZEN, vectors_of(1), 9)[0]] == [5]
    one.close()
    other.close()


def test_nothing_at_the_address_is_one_line(tmp_path: Path) -> None:
    with answering({}) as url:
        pass
    for call in (lambda: NodeIndex(tmp_path, url), lambda: describe(tmp_path, url)):
        with pytest.raises(IndexServerError, match=rf"The Chroma server {url} does not answer .* chroma run --path") as caught:
            call()
        assert one_line(caught)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(server, "ANSWERS_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(IndexServerError, match="does not answer"):
        NodeIndex(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize(
    ("answers", "otherwise"),
    [
        ({}, (404, '{"detail": "Not Found"}')),
        ({"/api/v1/heartbeat": BEAT["/api/v2/heartbeat"]}, (404, "only version 1")),
        ({}, (410, '{"error":"Unimplemented","message":"The v1 API is deprecated."}')),
        ({}, (200, "<html>A page of something else</html>")),
        ({}, (200, "[]")),
        ({}, (200, '{"nanosecond heartbeat": "soon"}')),
        ({}, (500, "")),
        ({"/api/v2/heartbeat": BEAT["/api/v2/heartbeat"]}, (200, "<html>")),
    ],
)
def test_what_is_no_chroma_server_is_one_line(tmp_path: Path, answers: dict[str, tuple[int, str]], otherwise: tuple[int, str]) -> None:
    with answering(answers, otherwise) as url, pytest.raises(IndexServerError, match="is no Chroma server of version 1 or later") as caught:
        NodeIndex(tmp_path, url)
    assert one_line(caught)


@pytest.mark.parametrize("otherwise", [(200, "<html>"), (200, "[1]"), (500, "boom"), (404, ""), (503, '{"error": "x"}')])
def test_a_server_that_talks_nonsense_later_is_one_line(tmp_path: Path, otherwise: tuple[int, str]) -> None:
    calls: list[Callable[[NodeIndex], object]] = [
        lambda index: index.counts(),
        lambda index: index.search(DRUG, FROZEN, vectors_of(1), 3),
        lambda index: index.write(DRUG, FROZEN, nodes_of(3), vectors_of(3), "v1", quiet),
        lambda index: index.upsert(DRUG, FROZEN, nodes_of(3), vectors_of(3)),
        lambda index: index.delete(DRUG, FROZEN, ["DB1"]),
    ]
    with answering({**BEAT}, otherwise) as url, pytest.raises(IndexServerError) as caught:
        NodeIndex(tmp_path, url)
    assert one_line(caught)
    with answering({**BEAT, **CLIENT}, otherwise) as url:
        index = NodeIndex(tmp_path, url)
        for call in calls:
            with pytest.raises(IndexServerError, match=f"The Chroma server {url} ") as caught:
                call(index)
            assert one_line(caught)
        index.close()


def test_a_full_disk_of_the_server_is_told_apart(tmp_path: Path, chroma_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from chromadb.errors import InternalError

    index = NodeIndex(tmp_path, chroma_url, "full")

    def fail(*_args: object) -> None:
        raise InternalError("database or disk is full")

    monkeypatch.setattr(index, "_write", fail)
    with pytest.raises(DiskFullError, match=f"No room to write the index in {chroma_url}"):
        index.write(DRUG, FROZEN, nodes_of(3), vectors_of(3), "v1", quiet)
    index.close()


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_index, "BATCH_BYTES", 1000 * 16 * 4)
    x = vectors_of(1_500)
    with running_server(tmp_path / "data") as (url, process):
        index = NodeIndex(tmp_path, url, "here")
        index.write(DRUG, FROZEN, nodes_of(30), x[:30], "v1", quiet)
        assert index.search(DRUG, FROZEN, x[[7]], 1)[0] == [["DB7"]]
        with pytest.raises(IndexServerError, match="does not answer"):
            index.write(NodeType.DISEASE, FROZEN, nodes_of(1_500), x, "v1", lambda *_: (process.kill(), process.wait()))  # type: ignore[arg-type,return-value]
        with pytest.raises(IndexServerError, match=f"The Chroma server {url} does not answer") as caught:
            index.search(DRUG, FROZEN, x[[7]], 1)
        assert one_line(caught)
        with pytest.raises(IndexServerError, match="does not answer"):
            index.counts()
        index.close()
    with running_server(tmp_path / "data") as (url, _process):
        index = NodeIndex(tmp_path, url, "here")
        assert index.counts() == {"drug.frozen": 30, "disease.frozen": 1000}
        index.write(NodeType.DISEASE, FROZEN, nodes_of(1_500), x, "v1", quiet)
        assert index.counts()["disease.frozen"] == 1_500
        ids, cosines = index.search(NodeType.DISEASE, FROZEN, x[[1, 1_499]], 1)
        assert ids == [["DB1"], ["DB1499"]] and np.allclose(cosines, 1.0, atol=1e-5)
        index.close()


def test_what_a_doctor_says(tmp_path: Path, chroma_url: str) -> None:
    (tmp_path / "chroma.sqlite3").write_bytes(b"x" * 3_400_000)
    assert describe(tmp_path).endswith(f"embedded in {tmp_path}, 3 MB") and "0 MB" in describe(tmp_path / "nowhere")
    assert describe(tmp_path, chroma_url).startswith(f"Chroma server {chroma_url}, interface ")
    assert ask(read_address(chroma_url)).milliseconds > 0
