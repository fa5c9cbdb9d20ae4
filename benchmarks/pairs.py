"""Pairs of proteins and drugs that the graph has never seen together: AUROC and average precision of each method, and the ratios.

`python benchmarks/pairs.py [--graph DIR] [--pairs FILE] [--relation target] [--seed N]` (default ../shared/realkg; says so and
stops where it is not there). Without --pairs, proteins and drugs are cut out of the graph, and their edges are set against as many
pairs drawn evenly from the same proteins or drugs and all others that have an edge: once for new proteins, once for new drugs.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from realkg import cut

from biobridge_rag.embedding import compare
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import encode_groups
from biobridge_rag.evaluation.pairs import METHODS, evaluate_pairs, pair_relation, read_pairs
from biobridge_rag.graph.primekg import UnseenNodes, load_graph, load_unseen
from biobridge_rag.types import KnowledgeGraph, Modality, NodeType, Relation, Vectors

ENCODERS = {NodeType.PROTEIN: (Modality.PROTEIN, "kmer"), NodeType.DRUG: (Modality.MOLECULE, "fingerprint")}


def write_pairs(path: Path, graph: KnowledgeGraph, unseen: UnseenNodes, relation: Relation, seed: int) -> None:
    """The unseen heads' edges, label 1, and as many other pairs of the same heads and all tails with an edge, label 0."""
    heads, tails = unseen.edges[relation]
    positives = set(zip(heads.tolist(), tails.tolist(), strict=True))
    rng = np.random.default_rng(seed)
    rows, columns = np.unique(heads), np.union1d(graph.edges(relation)[1], tails)
    negatives: dict[tuple[int, int], None] = {}
    while len(negatives) < len(positives):
        pair = (int(rng.choice(rows)), int(rng.choice(columns)))
        if pair not in positives:
            negatives[pair] = None
    positions = graph.by_type[NodeType(relation.tail_type)]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("smiles", "sequence", "label"))
        for label, pairs in ((1, sorted(positives)), (0, negatives)):
            for head, tail in pairs:
                values = {
                    relation.head_type: unseen.nodes[head].values[0],
                    relation.tail_type: graph.nodes[positions[tail]].values[0],
                }
                writer.writerow((values[NodeType.DRUG.value], values[NodeType.PROTEIN.value], label))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "realkg")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--relation", default="target")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not (given.graph / "nodes.csv.gz").exists():
        print(f"{given.graph} is not there: nothing measured. Give --graph DIR with gzipped tables in PrimeKG's layout.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.pairs:
            graph = load_graph(given.graph)
            relation = pair_relation(graph, given.relation)
            files = {given.pairs.name: given.pairs}
        else:
            cut(given.graph, folder, given.seed)
            graph = load_graph(folder / "graph")
            unseen = load_unseen(folder / "unseen", graph)
            relation = pair_relation(graph, given.relation)
            files = {"new proteins": folder / "proteins.csv", "new drugs": folder / "drugs.csv"}
            for path, direction in zip(files.values(), (relation, relation.inverse), strict=True):
                write_pairs(path, graph, unseen, direction, given.seed)
        encoders = {t: make_encoder(*named) for t, named in ENCODERS.items()}
        tables = {t: encode_groups(e, [graph.nodes[i].values for i in graph.by_type[t]]) for t, e in encoders.items()}
        likeness = compare(graph, folder, tables, {e.modality: e for e in encoders.values()}, lambda stage, done, total: None)

        def encode(node_type: NodeType, values: list[str]) -> Vectors:
            return encoders[node_type].encode(values)

        for name, path in files.items():
            found = evaluate_pairs(graph, likeness, encode, read_pairs(path), relation, given.seed, lambda stage, done, total: None)
            print(
                f"\n{name}: {found['n']:,} pairs, {found['n_unseen_proteins']:,} unseen proteins, {found['n_unseen_drugs']:,} unseen drugs"
            )
            print("| method | AUROC | AUPR | 95 % | fused against it |\n| --- | --- | --- | --- | --- |")
            for method in METHODS:
                figures, (low, high) = found["methods"][method], found["ci"][method]["aupr"]
                ratio = found["methods"]["fused"]["aupr"] / figures["aupr"]
                print(f"| {method} | {figures['auroc']:.3f} | {figures['aupr']:.3f} | {low:.3f} to {high:.3f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
