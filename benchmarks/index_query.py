"""Searching the vector index: latency and recall@20 at several sizes, `NodeIndex.search` beside bare `collection.query`.

For each size: the index is written by `NodeIndex.write`; queries, drawn like the vectors but not among them, are asked one at a time,
of both sides by turns. Recall is against exact search in numpy, whose latency stands beside. Memory is what the process grew by
while the index was written; disk, what the folder holds. With --own the same again on a collection with Chroma's own parameters.

    python benchmarks/index_query.py [--n 10000,100000,1000000] [--dim 768] [--queries 500] [--k 20] [--random] [--own] [--url URL]
    [--seed 0]

Knows: the index, bare Chroma, vectors of index_build's making. Does not know: graphs, encoders, homes.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from index_build import TYPE, Bare, make_nodes, make_vectors
from numpy.typing import NDArray

from biobridge_rag.store.hnsw import parameters
from biobridge_rag.store.index import FROZEN, NodeIndex
from biobridge_rag.types import Vectors

BLOCK = 65_536
Search = Callable[[Vectors], list[str]]


def exact(x: Vectors, queries: Vectors, k: int) -> NDArray[np.int64]:
    """Rows of the k nearest vectors of each query (n, k), in any order, by all cosines a block at a time."""
    scores, rows = np.empty((len(queries), 0), dtype=np.float32), np.empty((len(queries), 0), dtype=np.int64)
    for at in range(0, len(x), BLOCK):
        block = queries @ x[at : at + BLOCK].T
        scores = np.concatenate([scores, block], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(np.arange(at, at + block.shape[1]), block.shape)], axis=1)
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return rows


def ask(sides: dict[str, Search], queries: Vectors, truth: NDArray[np.int64]) -> dict[str, tuple[float, float, float]]:
    """p50 and p99 in milliseconds and recall of each side; the first of them to answer changes from query to query."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    hits = dict.fromkeys(sides, 0)
    for i, right in enumerate(truth):
        wanted = {f"DB{row:07d}" for row in right}
        for name in list(sides)[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            got = sides[name](queries[i : i + 1])
            times[name].append(1000 * (time.perf_counter() - start))
            hits[name] += len(wanted & set(got))
    return {name: (float(np.median(spent)), float(np.percentile(spent, 99)), hits[name] / truth.size) for name, spent in times.items()}


def show(name: str, p50: float, p99: float, recall: float) -> None:
    print(f"  {name:<38} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   recall {recall:.4f}", flush=True)


def resident() -> float:
    """MB of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def run(n: int, given: argparse.Namespace) -> None:
    every = make_vectors(n + given.queries, given.dim, given.seed, random=given.random)
    x, queries = every[:n], every[n:]
    truth, nodes = exact(x, queries, given.k), make_nodes(n)
    print(f"{n:,} x {given.dim}, {'random' if given.random else 'clustered'}, {given.url or 'embedded'}, HNSW {parameters(n)}", flush=True)
    before = resident()

    def by_numpy(query: Vectors) -> list[str]:
        return [f"DB{row:07d}" for row in exact(x, query, given.k)[0]]

    with tempfile.TemporaryDirectory() as scratch:
        index, start = NodeIndex(Path(scratch), given.url, "bench-query"), time.perf_counter()
        index.write(TYPE, FROZEN, nodes, x, str(time.time()), lambda *_: None)
        built = time.perf_counter() - start
        collection = index._get(f"{TYPE.slug}.{FROZEN}")

        def bare(query: Vectors) -> list[str]:
            return list(collection.query(query_embeddings=query, n_results=given.k, include=["distances"])["ids"][0])

        sides: dict[str, Search] = {
            "NodeIndex.search": lambda query: index.search(TYPE, FROZEN, query, given.k)[0][0],
            "collection.query, same collection": bare,
        }
        ask(sides, queries[:20], truth[:20])  # warm
        found = ask(sides, queries, truth)
        grown = resident() - before
        size = sum(f.stat().st_size for f in Path(scratch).rglob("*") if f.is_file()) / 1e6
        print(f"  built in {built:.0f} s; memory {grown:.0f} MB more, disk {size:.0f} MB")
        for name, figures in found.items():
            show(name, *figures)
        ours, theirs = found.values()
        print(f"  ratio of collection.query to NodeIndex.search: p50 {theirs[0] / ours[0]:.2f}, p99 {theirs[1] / ours[1]:.2f}")
        show("exact, numpy, in memory", *ask({"": by_numpy}, queries[:100], truth[:100])[""])
        index.close()
    if given.own:
        with tempfile.TemporaryDirectory() as scratch:
            own = Bare("bench-query-own", Path(scratch), given.url, {"space": "cosine"})
            own.add_up_to(n, nodes, x)

            def default(query: Vectors) -> list[str]:
                return list(own.collection.query(query_embeddings=query, n_results=given.k, include=["distances"])["ids"][0])

            ask({"": default}, queries[:20], truth[:20])
            print(f"  Chroma's own parameters: built in {own.seconds:.0f} s")
            show("collection.query, Chroma's parameters", *ask({"": default}, queries, truth)[""])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", default="10000,100000,1000000")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--url", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for n in given.n.split(","):
        run(int(n), given)


if __name__ == "__main__":
    main()
