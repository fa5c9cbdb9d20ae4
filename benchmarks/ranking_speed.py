"""Ranking a relation under the full protocol against the least that any evaluation must do, in one run.

Ours: `rank` on one relation with one method, a scorer that multiplies heads and tails, filtered mean ranks of all true tails,
the check for NaN, and the bootstrap of 1,000 resamples. The other side: the same matrix product in the same blocks, and
np.partition for each head's top 100 (no filter, no ties, no metrics). Both in float32. Exits 1 where ours takes over twice as long.

    python benchmarks/ranking_speed.py [--heads 5000] [--tails 20000] [--dim 1024] [--threads N] [--runs 3] [--seed 0]

Knows: the ranking protocol. Does not know: any model; embeddings and edges are drawn at random, with a long tail of heads that
have hundreds of true tails.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from biobridge_rag.bridge.model import unit
from biobridge_rag.evaluation.ranking import BUDGET, rank
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

RELATION = Relation("target", NodeType.DRUG.value, NodeType.PROTEIN.value)
BOUND, TOP = 2.0, 100


@dataclass(frozen=True)
class Product:
    """Scores are the bare matrix product of heads and tails (n_tails, dim)."""

    tails: Vectors
    methods: tuple[str, ...] = ("bridge",)

    def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
        return {"bridge": heads.x @ self.tails.T}


def make_graph(n_tails: int) -> KnowledgeGraph:
    nodes = (*(Node(str(i), NodeType.PROTEIN, "") for i in range(n_tails)), Node("d", NodeType.DRUG, ""))
    edge = np.zeros(1, np.int16)
    return KnowledgeGraph("made", nodes, (RELATION,), np.array([n_tails], np.int32), edge, np.zeros(1, np.int32), edge, ("",))


def make_edges(heads: int, tails: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    counts = np.minimum(rng.zipf(1.7, heads), min(500, tails // 2))
    found = [rng.choice(tails, n, replace=False) for n in counts]
    return np.repeat(np.arange(heads), counts), np.concatenate(found)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=int, default=5_000)
    parser.add_argument("--tails", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    x, y = (unit(rng.standard_normal((n, given.dim), dtype=np.float32)) for n in (given.heads, given.tails))
    edges = make_edges(given.heads, given.tails, rng)
    graph = make_graph(given.tails)
    unseen = UnseenNodes((graph.nodes[-1],) * given.heads, {RELATION: edges})
    block = BUDGET // (4 * given.tails)

    def ours() -> None:
        rank([Product(y)], graph, unseen, lambda t, at: x[at], split="made", progress=lambda *told: None)

    def bare() -> None:
        for at in range(0, given.heads, block):
            np.partition(x[at : at + block] @ y.T, given.tails - TOP, axis=1)[:, -TOP:]

    graph.by_type  # noqa: B018 - looked up once by any evaluation, so on neither side
    with threadpool_limits(given.threads):
        ours(), bare()
        pairs = [(seconds(ours), seconds(bare)) for _ in range(given.runs)]
    mine, least = (statistics.median(side) for side in zip(*pairs, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{given.heads:,} heads x {given.tails:,} tails, {len(edges[0]):,} true pairs, {given.dim} dimensions, peak memory {peak:.2f} GB")
    print(f"ranking {mine:.2f} s, matrix product and top {TOP} {least:.2f} s, ratio {mine / least:.2f} (bound {BOUND:g})")
    if mine > BOUND * least:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
