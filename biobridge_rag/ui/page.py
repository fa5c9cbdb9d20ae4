"""How the page is opened and served: `build` makes it over an engine, `launch` opens the engine and serves it.

Knows: the settings' host and port, how gradio serves. Does not know: what is on the page (blocks.py), models, retrieval.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.ui import style

if TYPE_CHECKING:
    import gradio as gr

    from biobridge_rag.assembly import Engine
    from biobridge_rag.config import Settings

CONCURRENCY = 8
UPLOAD_LIMIT = 25_000_000
"""Bytes; files above the engine's own limit are refused in the conversation, files above this one by the server."""


def build(engine: Engine) -> gr.Blocks:
    """The page over an open engine; launch it with `serve`."""
    from biobridge_rag.ui.blocks import Page

    return Page(engine).build()


def serve(blocks: gr.Blocks, host: str, port: int) -> None:
    """Starts serving the page and returns. Raises BiobridgeError if the port is taken or the address is not of this machine."""
    blocks.queue(default_concurrency_limit=CONCURRENCY)
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            theme=style.theme(),
            css=style.css(),
            js=style.FOLLOW_JS,
            favicon_path=style.FAVICON,
            quiet=True,
            share=False,
            footer_links=[],
            run_history=False,
            max_file_size=UPLOAD_LIMIT,
            show_error=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
        )
    except OSError as error:
        raise _address_error(host, port, error) from error
    except ValueError as error:  # gradio gives a busy machine three seconds, and asks through a proxy where one is set
        if not _answers(host, port):
            raise BiobridgeError(
                f"The page was started on {host}:{port}, but does not answer there.",
                "Look whether a firewall stands between.",
            ) from error


def _answers(host: str, port: int, patience: float = 60.0) -> bool:
    """Whether the page answers within `patience` seconds; no proxy is asked."""
    import httpx

    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/"
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with httpx.Client(trust_env=False, timeout=max(1.0, end - time.monotonic())) as client:
                return client.head(url).status_code < 500
        except httpx.TransportError:
            time.sleep(0.2)
    return False


def require_address(host: str, port: int) -> None:
    """Raises BiobridgeError if nothing can be served there; asked before the engine is opened, which takes seconds."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _address_error(host, port, error) from error


def _address_error(host: str, port: int, error: OSError) -> BiobridgeError:
    help = "Choose another one with --port or BIOBRIDGE_PORT."
    if error.errno in (errno.EADDRINUSE, None):
        return BiobridgeError(f"Port {port} of {host} is taken by another program.", help)
    return BiobridgeError(f"The page cannot be served on {host}:{port}: {error.strerror}.", help)


def launch(settings: Settings | None = None) -> None:
    """Opens the engine, saying on stderr what it does, and serves the page until it is stopped.

    Raises BiobridgeError with one line where the address is taken or the engine cannot be opened.
    """
    from biobridge_rag.assembly import open_engine
    from biobridge_rag.config import Settings

    settings = settings or Settings()
    require_address(settings.host, settings.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="biobridge-page-") as uploads:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = uploads
        _say("Opening the graph, the encoders and the index...")
        blocks = build(open_engine(settings, _Stages()))
        serve(blocks, settings.host, settings.port)
        _say(f"The page is on http://{settings.host}:{settings.port} (Ctrl-C stops it).")
        blocks.block_thread()


class _Stages:
    """Says once what each stage of a first build does."""

    def __init__(self) -> None:
        self.stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            _say(f"First start, building: {stage}...")
        self.stage = stage


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
