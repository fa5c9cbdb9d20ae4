"""The vector index: one Chroma collection for each node type and space (frozen: encoder output; bridge: projections).

Knows: chromadb (its only user). Does not know: encoders, bridges, graphs beyond their nodes.

Ids are the graph's node ids, documents are readable text, metadata are flat: any Chroma client can read the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError
from biobridge_rag.types import Node, NodeType, Vectors

FROZEN, BRIDGE = "frozen", "bridge"
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
        same label is left alone, one with another label is replaced, a half-written one is completed."""
        name = collection_name(node_type, space)
        with self._telling(name):
            self._write(name, nodes, vectors, label, progress)

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Errors in writing to the collection of that name are told in one line."""
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

    def _write(self, name: str, nodes: Sequence[Node], vectors: Vectors, label: str, progress: Progress) -> None:
        existing = {c.name for c in self._client.list_collections()}
        if name in existing:
            collection = self._client.get_collection(name, embedding_function=None)
            if (collection.metadata or {}).get("label") != label or collection.count() > len(nodes):
                self._client.delete_collection(name)
                existing.remove(name)
        if name not in existing:
            collection = self._client.create_collection(
                name, embedding_function=None, metadata={"label": label}, configuration={"hnsw": {"space": "cosine"}}
            )
        self._collections[name] = collection
        start, size = collection.count(), self._batch
        if start == len(nodes):
            return
        for at in range(start - start % size, len(nodes), size):
            _put(collection, nodes[at : at + size], vectors[at : at + size])
            progress(f"indexing {name}", min(at + size, len(nodes)), len(nodes))

    def add(self, node_type: NodeType, space: str, nodes: Sequence[Node], vectors: Vectors) -> None:
        """Adds these nodes to a collection that is there; those that it holds already are written anew."""
        name = collection_name(node_type, space)
        with self._telling(name):
            collection = self._get(name)
            for at in range(0, len(nodes), self._batch):
                _put(collection, nodes[at : at + self._batch], vectors[at : at + self._batch])

    def remove(self, node_type: NodeType, space: str, ids: Sequence[str]) -> None:
        """Takes these nodes out of a collection; those that it does not hold are passed over."""
        name = collection_name(node_type, space)
        with self._telling(name):
            collection = self._get(name)
            for at in range(0, len(ids), self._batch):
                collection.delete(ids=list(ids[at : at + self._batch]))

    @property
    def _batch(self) -> int:
        return min(1000, int(self._client.get_max_batch_size()))

    def search(self, node_type: NodeType, space: str, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]:
        """The k nearest nodes of each query: ids, n lists of k, and cosines (n, k) in [-1, 1], best first."""
        collection = self._get(collection_name(node_type, space))
        try:
            found = collection.query(query_embeddings=np.asarray(vectors, dtype=np.float32), n_results=k, include=["distances"])
        except Exception as error:  # as above
            raise HomeError(f"The index cannot be searched ({_line(error)}).", "Run biobridge-rag doctor.") from error
        return found["ids"], 1.0 - np.asarray(found["distances"], dtype=np.float32)


def _put(collection: Any, nodes: Sequence[Node], vectors: Vectors) -> None:
    collection.upsert(
        ids=[n.id for n in nodes],
        embeddings=np.ascontiguousarray(vectors, dtype=np.float32),
        documents=[f"{n.name}. {n.description}".strip() for n in nodes],
        metadatas=[{"name": n.name, "type": n.type.value, "source": n.source, "url": n.url} for n in nodes],
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
