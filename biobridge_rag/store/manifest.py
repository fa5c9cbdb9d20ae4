"""The manifest of a home: which graph, encoders and bridge its parts were made with, and the lock that one writer holds.

Knows: JSON, files, locks. Does not know: graphs, models, chroma.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from biobridge_rag.errors import DiskFullError, HomeError, HomeLockedError, HomeMismatchError

FORMAT = 3
_GO_ON = "Free some space, then run the same command again: it goes on where it stopped."


@dataclass(frozen=True)
class Manifest:
    """What a home was built from. encoders: modality -> id, which changes with the encoder's output; training: options of the
    bridge's training that are not the default; weights: the file or folder that foundation models were read from, if one was named;
    index_url: the Chroma server that holds the index, empty where the home itself does; index_prefix: what its collections' names
    begin with there.

    graph_sha256 is of the graph that the home holds. `additions` counts what was added to it since it was built; where that is not 0,
    built_sha256 is of the graph that it was built from.
    `stages` lists those that are finished, in order; a build goes on after the last one."""

    graph_name: str
    graph_sha256: str
    encoders: dict[str, str]
    encoder_names: dict[str, str]
    dims: dict[str, int]
    bridge_kind: str
    seed: int
    epochs: int
    bridge_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    stages: tuple[str, ...] = ()
    index_url: str = ""
    index_prefix: str = ""
    format: int = FORMAT
    additions: int = 0
    built_sha256: str = ""

    def difference(self, other: Manifest) -> str:
        """In words, what differs between two identities; empty when nothing does. Additions are not part of the identity."""
        if (self.built_sha256 or self.graph_sha256) != (other.built_sha256 or other.graph_sha256):
            return (
                f"it holds the graph {self.graph_name!r} in another version"
                if self.graph_name == other.graph_name
                else f"it holds the graph {self.graph_name!r}, not {other.graph_name!r}"
            )
        for modality, name in other.encoders.items():
            if self.encoders.get(modality) != name:
                return f"its {modality} encoder is {self.encoders.get(modality)!r}, not {name!r}"
        for what in ("bridge_kind", "seed", "epochs", "training", "format"):
            if getattr(self, what) != getattr(other, what):
                return f"its {what.replace('_', ' ')} is {getattr(self, what)!r}, not {getattr(other, what)!r}"
        return ""


def read_manifest(home: Path) -> Manifest | None:
    """The manifest, or None where there is none. Raises HomeError for a damaged one, HomeMismatchError for another format."""
    path = home / "manifest.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text())
        if data.get("format") != FORMAT:
            raise HomeMismatchError(
                f"The home {home} has format {data.get('format')}; this version reads format {FORMAT}.",
                "Build it again in an empty folder.",
            )
        return Manifest(**{**data, "stages": tuple(data["stages"])})
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise HomeError(f"The manifest {path} is damaged.", "Delete the folder and run biobridge-rag build again.") from error


def write_manifest(home: Path, manifest: Manifest) -> None:
    data = asdict(manifest)
    if not manifest.additions:
        del data["additions"], data["built_sha256"]
    write_text(home / "manifest.json", json.dumps(data, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file beside its place and renames it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise DiskFullError(
            f"Cannot write {path}: {error.strerror or error}.",
            _GO_ON,
        ) from error


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """Holds the home's lock; the operating system frees it when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(home / ".lock"))
        lock.acquire(timeout=0)
    except Timeout:
        raise HomeLockedError(f"Another process is building {home}.", "Wait until it has finished, or choose another --home.") from None
    except OSError as error:
        raise DiskFullError(f"Cannot write to {home}: {error.strerror or error}.", "Choose another --home.") from error
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(f"Cannot write to {home}: {error.strerror}.", _GO_ON) from error
    finally:
        lock.release()
