"""The vector index: one Chroma collection for each node type and space (frozen: encoder output; bridge: projections).

Knows: chromadb (its only user). Does not know: encoders, bridges, graphs beyond their nodes.

Ids are the graph's node ids, documents are readable text, metadata are flat: any Chroma client can read the folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError, InputError
from biobridge_rag.types import Node, NodeType, Vectors

FROZEN, BRIDGE = "frozen", "bridge"
CHANGED = "changed"  # the label of a collection whose content nobody has named
Progress = Callable[[str, int, int], None]


def collection_name(node_type: NodeType, space: str) -> str:
    return f"{node_type.slug}.{space}"


class NodeIndex:
    """A persistent, embedded Chroma store. Search returns node ids and cosines, best first."""

    def __init__(self, path: Path) -> None:
        os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
        import chromadb
        from chromadb.config import Settings

        self.path = path
        self._collections: dict[str, Any] = {}
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._client = chromadb.PersistentClient(path=str(path), settings=Settings(anonymized_telemetry=False))
        except OSError as error:
            raise DiskFullError(f"Cannot open the index in {path}: {error.strerror or error}.") from error
        except Exception as error:  # chromadb raises bare Rust errors for a damaged database
            raise HomeError(
                f"The index in {path} cannot be opened ({_line(error)}).", "Delete the folder and run biobridge-rag build again."
            ) from error

    def close(self) -> None:
        """Frees the files; the path can then be opened again or deleted."""
        self._collections.clear()
        close = getattr(self._client, "close", None)
        if close is not None:
            close()

    def counts(self) -> dict[str, int]:
        try:
            return {c.name: self._client.get_collection(c.name, embedding_function=None).count() for c in self._client.list_collections()}
        except Exception as error:  # as above
            raise HomeError(
                f"The index in {self.path} cannot be read ({_line(error)}).", "Delete the folder and run biobridge-rag build again."
            ) from error

    def _get(self, name: str) -> Any:
        if name not in self._collections:
            try:
                self._collections[name] = self._client.get_collection(name, embedding_function=None)
            except Exception as error:  # as above
                raise HomeError(f"The index has no collection {name!r}.", "Run biobridge-rag build again.") from error
        return self._collections[name]

    def write(self, node_type: NodeType, space: str, nodes: Sequence[Node], vectors: Vectors, label: str, progress: Progress) -> None:
        """Makes the collection hold exactly these nodes. `label` names the content (a hash): a whole collection with the
        same label is left alone, one with another label is replaced, a half-written one is completed.

        vectors: (n, dim), finite and not zero. Raises InputError, before anything is written, for others."""
        name = collection_name(node_type, space)
        check(name, [n.id for n in nodes], vectors)
        with self._writing(name):
            self._write(name, nodes, vectors, label, progress)

    def upsert(self, node_type: NodeType, space: str, nodes: Sequence[Node], vectors: Vectors, label: str = "") -> None:
        """Adds these nodes, or replaces those of the same ids; makes the collection where there is none. vectors: (n, dim).

        The collection then has `label` (of its new content); without one, or broken off, the next `write` makes it anew."""
        name = collection_name(node_type, space)
        check(name, [n.id for n in nodes], vectors)
        with self._writing(name):
            if name not in self.counts():
                self._collections[name] = self._create(name, CHANGED)
            collection = self._get(name)
            self._check_dim(collection, vectors)
            collection.modify(metadata={"label": CHANGED})
            for at in range(0, len(nodes), self._batch):
                self._store(collection, nodes[at : at + self._batch], vectors[at : at + self._batch])
            if label:
                collection.modify(metadata={"label": label})

    def delete(self, node_type: NodeType, space: str, ids: Sequence[str], label: str = "") -> int:
        """Removes the nodes of these ids; those that are not there are passed over. Returns how many went. `label` as in `upsert`."""
        name = collection_name(node_type, space)
        collection = self._get(name)
        with self._writing(name):
            before = collection.count()
            collection.modify(metadata={"label": CHANGED})
            for at in range(0, len(ids), self._batch):
                collection.delete(ids=list(ids[at : at + self._batch]))
            if label:
                collection.modify(metadata={"label": label})
            return int(before - collection.count())

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except BiobridgeError:
            raise
        except Exception as error:  # as above; a full disk comes as a Rust or SQLite error text
            if any(word in str(error).lower() for word in ("full", "space", "disk", "i/o")):
                raise DiskFullError(
                    f"No room to write the index in {self.path} ({_line(error)}).",
                    "Free some space, then run the same command again: it goes on where it stopped.",
                ) from error
            raise HomeError(
                f"Cannot write the collection {name} ({_line(error)}).", "Delete the chroma folder of the home and build again."
            ) from error

    @property
    def _batch(self) -> int:
        return min(1000, int(self._client.get_max_batch_size()))

    def _create(self, name: str, label: str) -> Any:
        return self._client.create_collection(
            name, embedding_function=None, metadata={"label": label}, configuration={"hnsw": {"space": "cosine"}}
        )

    @staticmethod
    def _check_dim(collection: Any, vectors: Vectors) -> None:
        """Chroma itself looks only as it writes, a batch at a time."""
        stored = collection.get(limit=1, include=["embeddings"])["embeddings"]
        if len(stored) and len(stored[0]) != vectors.shape[1]:
            raise InputError(f"The collection {collection.name} holds vectors of {len(stored[0])} dimensions, not {vectors.shape[1]}.")

    def _write(self, name: str, nodes: Sequence[Node], vectors: Vectors, label: str, progress: Progress) -> None:
        existing = {c.name for c in self._client.list_collections()}
        if name in existing:
            collection = self._client.get_collection(name, embedding_function=None)
            if (collection.metadata or {}).get("label") != label or collection.count() > len(nodes):
                self._client.delete_collection(name)
                existing.remove(name)
        if name not in existing:
            collection = self._create(name, label)
        self._collections[name] = collection
        start, size = collection.count(), self._batch
        if start == len(nodes):
            return
        self._check_dim(collection, vectors)
        for at in range(start - start % size, len(nodes), size):
            self._store(collection, nodes[at : at + size], vectors[at : at + size])
            progress(f"indexing {name}", min(at + size, len(nodes)), len(nodes))

    @staticmethod
    def _store(collection: Any, nodes: Sequence[Node], vectors: Vectors) -> None:
        collection.upsert(
            ids=[n.id for n in nodes],
            embeddings=np.ascontiguousarray(vectors, dtype=np.float32),
            documents=[f"{n.name}. {n.description}".strip() for n in nodes],
            metadatas=[{"name": n.name, "type": n.type.value, "source": n.source, "url": n.url} for n in nodes],
        )

    def search(self, node_type: NodeType, space: str, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]:
        """The k nearest nodes of each query: ids, n lists of k, and cosines (n, k) in [-1, 1], best first."""
        collection = self._get(collection_name(node_type, space))
        try:
            found = collection.query(query_embeddings=np.asarray(vectors, dtype=np.float32), n_results=k, include=["distances"])
        except Exception as error:  # as above
            raise HomeError(f"The index cannot be searched ({_line(error)}).", "Run biobridge-rag doctor.") from error
        return found["ids"], 1.0 - np.asarray(found["distances"], dtype=np.float32)


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
