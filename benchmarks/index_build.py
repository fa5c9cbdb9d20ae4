"""Writing the vector index against bare Chroma on the same vectors, in one run.

Ours: `NodeIndex.write`, which checks the vectors, writes batches of 16 MB that survive a kill, and reports progress. The other side:
`collection.add` on the same ids, vectors, documents and metadata, in the largest batches that Chroma takes, on a collection with the
same HNSW parameters. Beside them, as the price of the parameters: `collection.add` on one with Chroma's defaults. All
sides in folders of their own, or with --url on that Chroma server, and by turns, some thousand vectors each, so that what else the
machine does falls on all alike. Exits 1 where ours has less than 0.8 of the throughput.

    python benchmarks/index_build.py [--n 85000] [--dim 768] [--random] [--url URL] [--no-defaults] [--seed 0]

Knows: the index, bare Chroma, vectors of its own making. Does not know: graphs, encoders, homes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from biobridge_rag.store.hnsw import parameters
from biobridge_rag.store.index import FROZEN, NodeIndex
from biobridge_rag.types import Node, NodeType, Vectors

BOUND = 0.8
TYPE = NodeType.DRUG


def make_vectors(n: int, dim: int, seed: int, *, random: bool = False) -> Vectors:
    """n unit vectors (n, dim), float32. random: uniform on the sphere, which has no neighbours worth the name. Else a mixture as
    embeddings are: clusters of some hundred (the largest of thousands) in families, a mean that all share (mean cosine about 0.25),
    and a spectrum that falls off, so that some tens of directions hold most of the variance."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, dim), dtype=np.float32)
    scale = ((1 + np.arange(dim) / 6) ** -0.6).astype(np.float32)
    n_clusters = max(8, n // 100)
    families = rng.standard_normal((int(n_clusters**0.5), dim), dtype=np.float32)
    centres = families[rng.integers(len(families), size=n_clusters)] + 0.9 * rng.standard_normal((n_clusters, dim), dtype=np.float32)
    mean = rng.standard_normal(dim, dtype=np.float32)
    sizes = np.arange(1, n_clusters + 1) ** -0.5
    member = rng.choice(n_clusters, size=n, p=sizes / sizes.sum())
    for at in range(0, n, 8192):
        rows = member[at : at + 8192]
        x = rng.standard_normal((len(rows), dim), dtype=np.float32)
        if not random:
            x = (centres[rows] + x + mean) * scale
        out[at : at + 8192] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return out


def make_nodes(n: int) -> list[Node]:
    return [Node(f"DB{i:07d}", TYPE, f"compound {i}", f"Compound number {i}.", "made up", f"https://example.org/{i}") for i in range(n)]


class Bare:
    """Bare Chroma: `add` in the largest batches that it takes, timed."""

    def __init__(self, name: str, folder: Path, url: str, hnsw: dict[str, Any]) -> None:
        import chromadb
        from chromadb.config import Settings

        quiet, at = Settings(anonymized_telemetry=False), urlsplit(url)
        if url:
            client = chromadb.HttpClient(str(at.hostname), at.port or 8000, at.scheme == "https", settings=quiet)
        else:
            client = chromadb.PersistentClient(str(folder), settings=quiet)
        if name in {c.name for c in client.list_collections()}:
            client.delete_collection(name)
        self.collection = client.create_collection(name, embedding_function=None, configuration={"hnsw": hnsw})
        self._batch, self._done, self.seconds, self.processor = client.get_max_batch_size(), 0, 0.0, 0.0

    def add_up_to(self, done: int, nodes: list[Node], x: Vectors) -> None:
        """Adds what is there of whole batches of the first `done`, and the rest with the last."""
        wall, processor = time.perf_counter(), time.process_time()
        while self._done + self._batch <= done or self._done < done == len(nodes):
            rows = slice(self._done, min(self._done + self._batch, done))
            self.collection.add(
                ids=[n.id for n in nodes[rows]],
                embeddings=x[rows],
                documents=[f"{n.name}. {n.description}" for n in nodes[rows]],
                metadatas=[{"name": n.name, "type": n.type.value, "source": n.source, "url": n.url} for n in nodes[rows]],
            )
            self._done = rows.stop
        self.seconds += time.perf_counter() - wall
        self.processor += time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=85_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--url", default="")
    parser.add_argument("--no-defaults", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tuned = parameters(given.n)
    print(f"{given.n:,} x {given.dim}, {'random' if given.random else 'clustered'}, {given.url or 'embedded'}, HNSW {tuned}", flush=True)
    x, nodes = make_vectors(given.n, given.dim, given.seed, random=given.random), make_nodes(given.n)
    with tempfile.TemporaryDirectory() as scratch:
        index = NodeIndex(Path(scratch) / "ours", given.url, "bench-build")
        sides = {"collection.add, same parameters": Bare("bench-same", Path(scratch) / "same", given.url, tuned)}
        if not given.no_defaults:
            sides["collection.add, Chroma's own"] = Bare("bench-own", Path(scratch) / "own", given.url, {"space": "cosine"})

        def progress(_stage: str, done: int, _total: int) -> None:
            for side in sides.values():
                side.add_up_to(done, nodes, x)

        wall, processor = time.perf_counter(), time.process_time()
        index.write(TYPE, FROZEN, nodes, x, str(time.time()), progress)
        seconds = time.perf_counter() - wall - sum(side.seconds for side in sides.values())
        processor = time.process_time() - processor - sum(side.processor for side in sides.values())
        assert all(side.collection.count() == given.n for side in sides.values()) and index.counts()[f"{TYPE.slug}.{FROZEN}"] == given.n
        index.close()
    rows = {"NodeIndex.write": (seconds, processor), **{name: (side.seconds, side.processor) for name, side in sides.items()}}
    for name, (wall, cpu) in rows.items():
        print(f"{name:<34} {wall:8.1f} s  {given.n / wall:7.0f} vectors/s  {cpu:8.1f} s of processor time here")
    (same, same_cpu), *own = list(rows.values())[1:]
    print(f"throughput of NodeIndex.write over bare collection.add: {same / seconds:.2f} (by processor time {same_cpu / processor:.2f})")
    for own_seconds, own_cpu in own:
        print(f"time with these parameters over time with Chroma's own: {same / own_seconds:.2f} (processor {same_cpu / own_cpu:.2f})")
    sys.exit(0 if same / seconds >= BOUND else 1)


if __name__ == "__main__":
    main()
