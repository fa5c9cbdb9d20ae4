"""The vector index: one Chroma collection for each node type and space (frozen: encoder output; bridge: projections).

Knows: chromadb (its only user), embedded or as a server. Does not know: encoders, bridges, graphs beyond their nodes.

Ids are the graph's node ids, documents are readable text, metadata are flat: any Chroma client can read the folder or the server.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError, IndexServerError, InputError
from biobridge_rag.store.hnsw import parameters
from biobridge_rag.store.renewing import original, readable, relabel, settle, take_out
from biobridge_rag.store.server import ServerAddress, ask, read_address, silent
from biobridge_rag.types import Node, NodeType, Progress, Vectors

FROZEN, BRIDGE = "frozen", "bridge"
CHANGED = "changed"  # the label of a collection whose content nobody has named
BATCH_BYTES = 1 << 24  # of vectors written at once: what a kill can cost; a server takes at most 40 MB in a request
PATIENCE = 120.0  # seconds that a server may take for one answer; a cold one first reads the collection
_PREFIX = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,398}[A-Za-z0-9])?)?")


def collection_name(node_type: NodeType, space: str) -> str:
    return f"{node_type.slug}.{space}"


class NodeIndex:
    """A Chroma store. Search returns node ids and cosines, best first.

    Without `url` it is embedded, in the folder `path`, and takes one writer at a time: the caller holds a lock. With a URL
    (http://host:port or https://host:port) it is a Chroma server, `path` is not touched, and writers need no lock. `prefix` (letters,
    digits, dots, underscores, dashes) goes before the collections' names, so that several homes can share a server.

    Every method raises IndexServerError, in one line, where the server cannot be reached, goes away, or is no Chroma server."""

    def __init__(self, path: Path, url: str = "", prefix: str = "") -> None:
        if not _PREFIX.fullmatch(prefix):
            raise InputError(f"The prefix of collections {prefix!r} has other characters than letters, digits, dots, _ and -.")
        self.path = path
        self._prefix = f"{prefix}." if prefix else ""
        self._collections: dict[str, Any] = {}
        self._address = read_address(url) if url else None
        self._where = self._address.url if self._address else str(path)
        self._client = _connect(self._address) if self._address else _open(path)

    @property
    def host(self) -> str:
        """HOST:PORT of the server that holds the index, empty where it is embedded."""
        return f"{self._address.host}:{self._address.port}" if self._address else ""

    def close(self) -> None:
        """Frees the files or the connection; the path can then be opened again or deleted."""
        self._collections.clear()
        close = getattr(self._client, "close", None)
        if close is not None:
            close()

    def counts(self) -> dict[str, int]:
        """How many nodes each of this home's collections holds, by the collection's name (without the prefix)."""
        with self._telling(f"The index in {self._where} cannot be read", "Delete the folder and run biobridge-rag build again."):
            names = self._names()
            return {
                name.removeprefix(self._prefix): self._client.get_collection(there, embedding_function=None).count()
                for name in sorted({original(n) for n in names})
                if (there := readable(names, name))
            }

    def write(self, node_type: NodeType, space: str, nodes: Sequence[Node], vectors: Vectors, label: str, progress: Progress) -> None:
        """Makes the collection hold exactly these nodes. `label` names the content (a hash): a whole collection with the
        same label is left alone, one with another label is replaced, a half-written one is completed.

        vectors: (n, dim), finite and not zero. Raises InputError, before anything is written, for others. A new collection takes the
        HNSW parameters of its size (see store.hnsw); one that is there keeps its own."""
        name = collection_name(node_type, space)
        check(name, [n.id for n in nodes], vectors)
        with self._writing(name):
            self._write(name, nodes, vectors, label, progress)

    def upsert(self, node_type: NodeType, space: str, nodes: Sequence[Node], vectors: Vectors, label: str = "") -> None:
        """Adds these nodes, or replaces those of the same ids; makes the collection where there is none. vectors: (n, dim).

        A node that is replaced is taken out and added (see store.renewing): while that goes on it is not found. The collection then has
        `label` (of its new content); without one, or broken off, the next `write` makes it anew."""
        name = collection_name(node_type, space)
        check(name, [n.id for n in nodes], vectors)
        with self._writing(name):
            if readable(self._names(), self._prefix + name) is None:
                self._create(name, CHANGED, len(nodes))
            collection, size = self._settled(name), self._batch(vectors.shape[1])
            _check_dim(name, collection, vectors)
            collection, _ = self._take_out(name, collection, [n.id for n in nodes], CHANGED)
            for at in range(0, len(nodes), size):
                _store(collection, nodes[at : at + size], vectors[at : at + size])
            if label:
                relabel(collection, label)

    def delete(self, node_type: NodeType, space: str, ids: Sequence[str], label: str = "") -> int:
        """Removes the nodes of these ids; those that are not there are passed over. Returns how many went. `label` as in `upsert`."""
        name = collection_name(node_type, space)
        self._get(name)
        with self._writing(name):
            collection, went = self._take_out(name, self._settled(name), ids, CHANGED)
            if label:
                relabel(collection, label)
            return went

    def search(self, node_type: NodeType, space: str, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]:
        """The k nearest nodes of each query: ids, n lists of k, and cosines (n, k) in [-1, 1], best first."""
        collection = self._get(collection_name(node_type, space))
        with self._telling("The index cannot be searched", "Run biobridge-rag doctor."):
            found = collection.query(query_embeddings=np.asarray(vectors, dtype=np.float32), n_results=k, include=["distances"])
            return found["ids"], 1.0 - np.asarray(found["distances"], dtype=np.float32)

    def _names(self) -> list[str]:
        return [c.name for c in self._client.list_collections() if c.name.startswith(self._prefix)]

    def _get(self, name: str) -> Any:
        if name not in self._collections:
            with self._telling(f"The index has no collection {name!r}", "Run biobridge-rag build again."):
                full = self._prefix + name
                there = readable(self._names(), full) or full
                self._collections[name] = self._client.get_collection(there, embedding_function=None)
        return self._collections[name]

    def _settled(self, name: str) -> Any:
        """The collection, under its own name and as it is now. For writers."""
        settle(self._client, self._names(), self._prefix + name)
        self._collections[name] = self._client.get_collection(self._prefix + name, embedding_function=None)
        return self._collections[name]

    def _take_out(self, name: str, collection: Any, ids: Sequence[str], label: str) -> tuple[Any, int]:
        stored = collection.get(limit=1, include=["embeddings"])["embeddings"]
        size = self._batch(len(stored[0]) if len(stored) else 1)
        self._collections[name], went = take_out(self._client, collection, ids, label, size)
        return self._collections[name], went

    def _batch(self, dim: int) -> int:
        return max(1, min(int(self._client.get_max_batch_size()), BATCH_BYTES // (4 * dim)))

    def _create(self, name: str, label: str, n: int) -> Any:
        return self._client.create_collection(
            self._prefix + name, embedding_function=None, metadata={"label": label}, configuration={"hnsw": dict(parameters(n))}
        )

    def _write(self, name: str, nodes: Sequence[Node], vectors: Vectors, label: str, progress: Progress) -> None:
        there = readable(self._names(), self._prefix + name) is not None
        if there:
            collection = self._settled(name)
            if (collection.metadata or {}).get("label") != label or collection.count() > len(nodes):
                self._client.delete_collection(self._prefix + name)
                there = False
        if not there:
            collection = self._create(name, label, len(nodes))
        self._collections[name] = collection
        start, size = collection.count(), self._batch(vectors.shape[1])
        if start == len(nodes):
            return
        _check_dim(name, collection, vectors)
        for at in range(start - start % size, len(nodes), size):
            if at < start:
                collection, _ = self._take_out(name, collection, [n.id for n in nodes[at : at + size]], label)
            _store(collection, nodes[at : at + size], vectors[at : at + size])
            progress(f"indexing {name}", min(at + size, len(nodes)), len(nodes))

    @contextmanager
    def _telling(self, what: str, todo: str) -> Iterator[None]:
        """Makes one line of whatever Chroma raises: bare Rust errors where it is embedded, HTTP errors where it is a server."""
        try:
            yield
        except BiobridgeError:
            raise
        except Exception as error:
            from chromadb.errors import ChromaError, NotFoundError

            if self._address is not None and not isinstance(error, ChromaError):
                raise _lost(self._address, error) from error
            if self._address is not None and isinstance(error, NotFoundError):
                todo = f"Run biobridge-rag build again with --chroma-url {self._where}."
            raise HomeError(f"{what} ({_line(error)}).", todo) from error

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        todo = "Run biobridge-rag build again." if self._address else "Delete the chroma folder of the home and build again."
        try:
            with self._telling(f"Cannot write the collection {name}", todo):
                yield
        except HomeError as error:  # a full disk comes as a Rust or SQLite error text
            cause = str(error.__cause__).lower()
            if error.__cause__ is None or not any(word in cause for word in ("full", "space", "disk", "i/o")):
                raise
            raise DiskFullError(
                f"No room to write the index in {self._where} ({_line(error.__cause__)}).",
                "Free some space, then run the same command again: it goes on where it stopped.",
            ) from error.__cause__


def describe(path: Path, url: str = "") -> str:
    """One line on the index in `path` or at `url`, for people. Raises IndexServerError or InputError where the server is not there."""
    import importlib.metadata

    version = importlib.metadata.version("chromadb")
    if url:
        beat, address = ask(read_address(url)), read_address(url)
        return f"Chroma server {address.url}, interface {beat.version}, answers in {beat.milliseconds:.0f} ms (client {version})"
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else []
    return f"Chroma {version}, embedded in {path}, {sum(f.stat().st_size for f in files) / 1e6:,.0f} MB"


def check(name: str, ids: Sequence[str], vectors: Vectors) -> None:
    """Raises InputError where these cannot be the nodes of one collection: a cosine needs finite vectors that are not zero. Reads
    memory-mapped vectors a block at a time."""
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise InputError(f"The vectors for {name} have the shape {vectors.shape}; {len(ids):,} nodes need as many rows.")
    if len(set(ids)) != len(ids):
        raise InputError(f"The nodes for {name} hold an id twice: {next(i for i, n in Counter(ids).items() if n > 1)}.")
    for at in range(0, len(vectors), 8192):
        block = np.asarray(vectors[at : at + 8192], dtype=np.float32)
        for what, bad in (("not finite", ~np.isfinite(block).all(axis=1)), ("zero", ~block.any(axis=1))):
            if bad.any():
                raise InputError(f"The vector of {ids[at + int(bad.argmax())]} for {name} is {what}; nothing was written.")


def _check_dim(name: str, collection: Any, vectors: Vectors) -> None:
    """Chroma itself looks only as it writes, a batch at a time."""
    stored = collection.get(limit=1, include=["embeddings"])["embeddings"]
    if len(stored) and len(stored[0]) != vectors.shape[1]:
        raise InputError(f"The collection {name} holds vectors of {len(stored[0])} dimensions, not {vectors.shape[1]}.")


def _store(collection: Any, nodes: Sequence[Node], vectors: Vectors) -> None:
    collection.upsert(
        ids=[n.id for n in nodes],
        embeddings=np.ascontiguousarray(vectors, dtype=np.float32),
        documents=[f"{n.name}. {n.description}".strip() for n in nodes],
        metadatas=[{"name": n.name, "type": n.type.value, "source": n.source, "url": n.url} for n in nodes],
    )


def _quiet() -> Any:
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _open(path: Path) -> Any:
    settings = _quiet()
    import chromadb

    try:
        path.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(path=str(path), settings=settings)
    except OSError as error:
        raise DiskFullError(f"Cannot open the index in {path}: {error.strerror or error}.") from error
    except Exception as error:  # chromadb raises bare Rust errors for a damaged database
        raise HomeError(
            f"The index in {path} cannot be opened ({_line(error)}).", "Delete the folder and run biobridge-rag build again."
        ) from error


def _connect(address: ServerAddress) -> Any:
    ask(address)  # in seconds; Chroma's client itself waits without end
    settings = _quiet()
    import chromadb
    import httpx

    try:
        client = chromadb.HttpClient(address.host, address.port, address.scheme == "https", settings=settings)
        client.get_max_batch_size()
    except Exception as error:
        raise _lost(address, error) from error
    session = getattr(getattr(client, "_server", None), "_session", None)
    if isinstance(session, httpx.Client):
        session.timeout = httpx.Timeout(PATIENCE, connect=5.0)
    return client


def _lost(address: ServerAddress, error: Exception) -> IndexServerError:
    import httpx

    if isinstance(error, httpx.HTTPError | OSError):
        return silent(address, error)
    return IndexServerError(f"The Chroma server {address.url} gave an answer that cannot be read ({_line(error)}).", "Look at its log.")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
