"""Runs `transformers serve`, a real server of the OpenAI protocol, on loopback, with a model from a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 180.0


def can_serve() -> bool:
    """Whether what transformers[serving] asks for is installed."""
    from transformers.utils.import_utils import is_accelerate_available, is_serve_available

    return bool(is_serve_available() and is_accelerate_available())


@contextmanager
def serving(folder: Path, scratch: Path) -> Iterator[str]:
    """The base address of a server of the model in `folder`, which it knows by the name str(folder). scratch: an empty folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hub = scratch / "hub"
    hub.mkdir()
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub), "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    start = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    command = [sys.executable, "-c", start, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, cwd=scratch)
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.monotonic() > until:
                        raise AssertionError((scratch / "log").read_text()[-2000:]) from None
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
