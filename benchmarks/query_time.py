"""Query time without encoding: the whole retrieval against Chroma's own two searches on the same collections, in one run.

`python benchmarks/query_time.py [--home DIR] [--queries N]` (default: the starter home, built where it is missing)
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from biobridge_rag.assembly import open_engine
from biobridge_rag.bridge.model import unit
from biobridge_rag.config import Settings
from biobridge_rag.retrieval.fusion import POOL
from biobridge_rag.store.index import BRIDGE, FROZEN
from biobridge_rag.types import NodeType, Query, Relation


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    given = parser.parse_args()
    engine = open_engine(Settings(**({"home": given.home} if given.home else {})))
    retriever, index = engine.retriever, engine.home.index
    relation = Relation("target", NodeType.PROTEIN, NodeType.DRUG)
    heads = retriever.scorer.view(relation).heads
    rows = np.random.default_rng(0).choice(heads, min(given.queries, len(heads)), replace=False)
    ours, theirs = [], []
    for row in rows:
        node = retriever.node(NodeType.PROTEIN, int(row))
        x = np.asarray(engine.home.tables[NodeType.PROTEIN][row : row + 1])
        carried = unit(engine.home.bridge.transform(x, relation))
        start = time.perf_counter()
        index.search(NodeType.DRUG, BRIDGE, carried, min(POOL, len(engine.home.tables[NodeType.DRUG])))
        index.search(NodeType.PROTEIN, FROZEN, x, min(120, len(engine.home.tables[NodeType.PROTEIN])))
        middle = time.perf_counter()
        retriever.retrieve(Query(NodeType.PROTEIN, node.name, node.values[0], node), relation, 20)
        ours.append(time.perf_counter() - middle)
        theirs.append(middle - start)
    ours_ms, theirs_ms = 1000 * np.array(ours[5:]), 1000 * np.array(theirs[5:])
    print(f"{len(ours_ms)} queries, protein -> drug (target), graph {engine.home.manifest.graph_name}, {engine.graph.n_edges:,} edges")
    for name, q in (("p50", 50), ("p99", 99)):
        a, b = np.percentile(ours_ms, q), np.percentile(theirs_ms, q)
        print(f"{name}: retrieval {a:.2f} ms, Chroma's own two searches {b:.2f} ms, ratio {a / b:.2f}")
    engine.close()


if __name__ == "__main__":
    main()
