"""Kinases, nuclear receptors and GPCRs of the starter graph, each held out with all its edges: is a drug that truly acts on it
in the top ten? Five-fold, the bridge and the fusion trained anew without the fold's proteins; popularity and analogues beside.

`python benchmarks/starter_leave_out.py [--folds N]`
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from biobridge_rag.building import DEFAULT_ENCODERS, DEFAULT_EPOCHS, train_parts
from biobridge_rag.embedding import compare, embed
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import encode_groups
from biobridge_rag.evaluation.baselines import RetrieverScorer
from biobridge_rag.evaluation.metrics import filtered_ranks
from biobridge_rag.graph.splits import hold_out
from biobridge_rag.graph.starter import load_starter
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import KnowledgeGraph, NodeType, Relation, Split

TARGET = Relation("target", NodeType.PROTEIN, NodeType.DRUG)
# By words in the names of a protein's molecular functions in the graph.
FAMILIES = {
    "kinases": ("kinase activity",),
    "nuclear receptors": ("nuclear receptor activity", "nuclear steroid receptor"),
    "GPCRs": ("G protein-coupled", "adrenergic", "dopamine", "histamine", "melatonin", "orexin", "endothelin", "neuropeptide receptor"),
}
METHODS = ("fused", "bridge", "analogues", "popularity")


def members(graph: KnowledgeGraph) -> dict[str, list[int]]:
    """Positions of each family's proteins that have a target edge, by their GO functions in the graph."""
    out: dict[str, list[int]] = {name: [] for name in FAMILIES}
    for position in graph.by_type[NodeType.PROTEIN]:
        triples = graph.triples_of(int(position))
        functions = {t.tail.name for t in triples if t.tail.type is NodeType.MOLECULAR_FUNCTION}
        if any(t.relation == TARGET for t in triples):
            for name, words in FAMILIES.items():
                if any(word in function for word in words for function in functions):
                    out[name].append(int(position))
                    break
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folds", type=int, default=5)
    folds = parser.parse_args().folds
    graph = load_starter()
    families = members(graph)
    everyone = np.random.default_rng(0).permutation(sorted(p for group in families.values() for p in group))
    encoders = {m: make_encoder(m, name) for m, name in DEFAULT_ENCODERS.items()}
    best: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for fold in range(folds):
            held = np.sort(everyone[fold::folds])
            cut = hold_out(graph, Split("fold", fold, {NodeType.PROTEIN: held}))
            path = Path(scratch) / str(fold)
            tables = embed(cut.graph, Path(scratch), encoders, lambda *_: None)
            likeness = compare(cut.graph, path, tables, encoders, lambda *_: None)
            trained = train_parts(
                cut.graph, tables, likeness, "default", DEFAULT_EPOCHS["default"], 0, "cpu", lambda *_: None, path / "bridge"
            )
            scorer = RetrieverScorer(TailScorer(cut.graph, tables, trained.projections, trained.bridge, likeness), trained.fusions)
            heads, tails = cut.unseen.edges[TARGET]
            for head in np.unique(heads):
                node = cut.unseen.nodes[head]
                asked = Heads(encode_groups(encoders[node.type.modality], [node.values]), values=[node.values])
                scores = scorer.score(asked, TARGET)
                ranks = {m: filtered_ranks(scores[m][0], tails[heads == head]).min() for m in METHODS}
                best[int(held[head])] = ranks
    print(
        f"| held-out proteins | n | {' | '.join(f'{m}, top ten' for m in METHODS)} |\n| --- | --- | {' | '.join('---' for _ in METHODS)} |"
    )
    rows = [*families.items(), ("all", sorted(best))]
    for name, positions in rows:
        found = [p for p in positions if p in best]
        shares = " | ".join(f"{np.mean([best[p][m] <= 10 for p in found]):.2f}" for m in METHODS)
        print(f"| {name} | {len(found)} | {shares} |")
    share = {m: np.mean([best[p][m] <= 10 for p in best]) for m in METHODS}
    for other in METHODS[1:]:
        print(f"fused against {other}: ratio {share['fused'] / max(share[other], 1e-9):.2f}")


if __name__ == "__main__":
    main()
