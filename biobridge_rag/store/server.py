"""The address of a Chroma server: read from a URL, and asked once whether a Chroma server answers there.

Knows: URLs, two paths of Chroma's HTTP interface (version 2). Does not know: chromadb, collections.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from biobridge_rag.errors import IndexServerError, InputError

ANSWERS_WITHIN = 5.0  # seconds for a first sign of life
PORTS = {"http": 8000, "https": 443}


@dataclass(frozen=True)
class ServerAddress:
    scheme: str
    host: str  # an IPv6 address with its brackets
    port: int

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def read_address(url: str) -> ServerAddress:
    """`http://host[:port]` (port 8000 where none is given) or `https://host[:port]` (443). Raises InputError for anything else."""
    what = f"The address of the Chroma server {url!r} "
    example = "Give it as http://HOST:PORT, such as http://localhost:8000."
    try:
        parts = urlsplit(url.strip())
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{what}cannot be read ({error}).", example) from error
    if scheme not in PORTS or not host or any(c.isspace() for c in host) or port == 0:
        raise InputError(f"{what}is not one of a server.", example)
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise InputError(f"{what}has parts besides scheme, host and port.", example)
    return ServerAddress(scheme, f"[{host}]" if ":" in host else host, port or PORTS[scheme])


@dataclass(frozen=True)
class Heartbeat:
    """version: as the server gives it (that of its HTTP interface); milliseconds: of one round trip."""

    version: str
    milliseconds: float


def ask(address: ServerAddress) -> Heartbeat:
    """Raises IndexServerError, within seconds, where nothing answers there or something that is no Chroma server (1.0 or later)."""
    import httpx

    start = ""
    try:
        with httpx.Client(base_url=address.url, timeout=ANSWERS_WITHIN) as client:
            started = time.perf_counter()
            answer = client.get("/api/v2/heartbeat")
            milliseconds = 1000 * (time.perf_counter() - started)
            start = f"{answer.status_code} {answer.text[:60]}".strip()
            answer.raise_for_status()
            int(json.loads(answer.text)["nanosecond heartbeat"])
            return Heartbeat(str(json.loads(client.get("/api/v2/version").raise_for_status().text)), milliseconds)
    except (httpx.HTTPStatusError, httpx.DecodingError, ValueError, KeyError, TypeError) as error:
        raise IndexServerError(
            f"What answers at {address.url} is no Chroma server of version 1 or later (it said: {start}).",
            "Check the address, or start one there: chroma run --path DIR --host HOST --port PORT.",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise silent(address, error) from error


def silent(address: ServerAddress, error: Exception) -> IndexServerError:
    """Nothing answers (any more) at the address."""
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return IndexServerError(
        f"The Chroma server {address.url} does not answer ({reason}).",
        f"Start it: chroma run --path DIR --host {address.host.strip('[]')} --port {address.port}; or give another with --chroma-url.",
    )
