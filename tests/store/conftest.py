"""A Chroma server on a free port, and the places that an index can be in."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from biobridge_rag.store.index import NodeIndex

Open = Callable[[], NodeIndex]


@contextmanager
def running_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL and the process of a Chroma server that keeps its data in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/api/v2/heartbeat", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended by itself"
                time.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("server")) as (url, _process):
        yield url


@pytest.fixture(params=["embedded", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the index of one home, as often as it is called, each time where the same data lie."""
    url = request.getfixturevalue("chroma_url") if request.param == "server" else ""
    prefix = tmp_path.name.rstrip("_-") if url else ""
    opened: list[NodeIndex] = []

    def open_index() -> NodeIndex:
        opened.append(NodeIndex(tmp_path / "chroma", url, prefix))
        return opened[-1]

    yield open_index
    for index in opened:
        index.close()
    assert not url or not (tmp_path / "chroma").exists(), "a server's index left files here"
