"""Training triples a second of the authors' architecture: our step against a per-row loop, on the same machine, graph and model.

`python benchmarks/official_throughput.py [--small] [--batch N] [--steps N] [--loop-steps N] [--threads N]` (about 2 minutes on 2 cores)

The loop does what the authors' released collator and model do with a batch: for every triple a dictionary look-up and a tensor for the
head, the true tail and 5 of 50 false tails drawn for the row; lists of tensors, grouped by type and stacked; one run of the whole
network a row; InfoNCE over the row's own 6 tails. (Their table look-up and parsing of strings a row are left out, to their gain.)
Ours has the same network, optimiser, objective, triples a batch and false tails a triple. What differs: its batches are drawn by
query (a head with a relation, all its true tails together), so the network runs once for all the triples of a query; the last layer
is run for the one token that is read; each distinct tail is projected once; and the data are gathered by index. So the full step
gains up to as many times as a query has triples, which is a property of the graph and is printed with the figures, and its batches
hold fewer different queries than batches of random triples do.

The graph is made at random with the node types, the counts of nodes and edges and the embedding widths of PrimeKG, all a little thinned
(85,000 nodes, 3.5 million triples); embeddings are random. --small takes a small network, for a quick look: there the data path weighs
more.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from biobridge_rag.bridge.official import OfficialNetwork
from biobridge_rag.bridge.official_objective import TEMPERATURE, Objective, TrainingSet
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

NEGATIVES, PRESAMPLED = 5, 50
P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
B, M, C = NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION, NodeType.CELLULAR_COMPONENT
WIDTHS = {P: 2560, D: 512, S: 768, B: 768, M: 768, C: 768}
# Nodes and undirected edges of PrimeKG (Chandak et al. 2023, Scientific Data 10:67, the counts of its released kg.csv, rounded).
NODES = {P: 27_671, D: 7_957, S: 17_080, B: 28_642, M: 11_169, C: 4_176}
EDGES = [
    ("synergistic interaction", D, D, 1_336_000), ("ppi", P, P, 321_000), ("interacts with", P, B, 144_800),
    ("interacts with", P, C, 83_400), ("interacts with", P, M, 69_500), ("associated with", S, P, 80_400),
    ("contraindication", D, S, 30_700), ("parent-child", S, S, 32_200), ("parent-child", B, B, 52_900), ("target", D, P, 16_400),
    ("indication", D, S, 9_400), ("parent-child", M, M, 13_600), ("enzyme", D, P, 5_300), ("parent-child", C, C, 4_800),
]  # fmt: skip


@dataclass(frozen=True)
class Data:
    graph: KnowledgeGraph
    tables: dict[str, np.ndarray]


def synthetic(thin: float = 1.138, seed: int = 0) -> Data:
    """A random graph of PrimeKG's counts divided by `thin`. The ends of a relation are three fifths of a type's nodes, drawn with
    weights 1 / sqrt(rank), for hubs as real graphs have."""
    rng = np.random.default_rng(seed)
    counts = {t: int(n / thin) for t, n in NODES.items()}
    first = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    nodes = tuple(Node(f"{t.slug}{i}", t, "") for t, n in counts.items() for i in range(n))
    order = {t: rng.permutation(n) for t, n in counts.items()}

    def ends(node_type: NodeType, n: int) -> np.ndarray:
        most = max(int(0.6 * counts[node_type]), 2)
        weights = 1.0 / np.sqrt(np.arange(1, most + 1))
        return first[node_type] + order[node_type][rng.choice(most, n, p=weights / weights.sum())]

    relations, head, tail, kind = [], [], [], []
    for name, a, b, n in EDGES:
        pairs = np.stack([ends(a, int(n / thin)), ends(b, int(n / thin))], axis=1)
        pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
        both = [(Relation(name, a, b), pairs)]
        if a == b:
            both = [(Relation(name, a, b), np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0))]
        else:
            both.append((Relation(name, b, a), pairs[:, ::-1]))
        for relation, edges in both:
            head.append(edges[:, 0]), tail.append(edges[:, 1]), kind.append(np.full(len(edges), len(relations)))
            relations.append(relation)
    columns = [np.concatenate(c) for c in (head, kind, tail)]
    graph = KnowledgeGraph(
        "synthetic", nodes, tuple(relations), columns[0].astype(np.int32), columns[1].astype(np.int16), columns[2].astype(np.int32),
        np.zeros(len(columns[0]), np.int16), ("made at random",),
    )  # fmt: skip
    tables = {t.value: rng.standard_normal((counts[t], WIDTHS[t]), dtype=np.float32) for t in counts}
    return Data(graph, {t: x / np.linalg.norm(x, axis=1, keepdims=True) for t, x in tables.items()})


def training_set(data: Data, device: torch.device) -> tuple[TrainingSet, dict[str, int], dict[str, int]]:
    node_types = {t: i for i, t in enumerate(sorted(data.tables))}
    relation_types = {n: i for i, n in enumerate(sorted({r.name for r in data.graph.relations}))}
    none = {t: np.zeros(0, np.int64) for t in data.tables}
    return TrainingSet(data.graph, data.tables, none, none, node_types, relation_types, device), node_types, relation_types


class PerRow:
    """The loop: triples one by one, as a collator over table rows works."""

    def __init__(self, data: Data, training: TrainingSet, network: OfficialNetwork, seed: int) -> None:
        graph, self.network, self.rng = data.graph, network, np.random.default_rng(seed)
        self.embedding = {int(p): data.tables[t.value][i] for t, at in graph.by_type.items() for i, p in enumerate(at)}
        self.graph, self.ids = graph, dict(zip(training.relations, training.ids, strict=True))
        self.training = training

    def triples(self, n: int) -> list[tuple[int, int, tuple[int, int, int], list[int]]]:
        """n random triples, each with 50 false tails drawn beforehand; not timed."""
        graph, out = self.graph, []
        for e in self.rng.choice(graph.n_edges, n, replace=False):
            relation = graph.relations[graph.relation[e]]
            tails = self.training.positions[relation.tail_type]
            heads = np.array([int(graph.head[e])])
            false, _ = self.training.false_tails(heads, relation.tail_type, PRESAMPLED, self.rng)
            out.append((int(graph.head[e]), int(graph.tail[e]), self.ids[relation], tails[false[0]].tolist()))
        return out

    def assemble(self, rows) -> dict[str, list]:
        """Head ids, and for heads, true and false tails: (type id, places in the batch, stacked embeddings)."""
        batch = defaultdict(list)
        for head, tail, ids, false in rows:
            drawn = self.rng.choice(false, NEGATIVES, replace=False)
            batch["head"].append(torch.tensor(self.embedding[head]))
            batch["tail"].append(torch.tensor(self.embedding[tail]))
            batch["false"].append(torch.stack([torch.tensor(self.embedding[int(i)]) for i in drawn]))
            batch["ids"].append(ids)
        head_type, _, tail_type = torch.tensor(batch["ids"]).T
        for name, types in (("head", head_type), ("tail", tail_type), ("false", tail_type)):
            where = {kind: torch.nonzero(types == kind)[:, 0].tolist() for kind in torch.unique(types).tolist()}
            batch[name] = [(kind, places, torch.stack([batch[name][i] for i in places])) for kind, places in where.items()]
        return batch

    def project(self, groups: list[tuple[int, list[int], torch.Tensor]]) -> torch.Tensor:
        projected = torch.cat([self.network.proj_layer[str(kind)](stacked) for kind, _, stacked in groups])
        return projected[torch.argsort(torch.tensor([i for _, places, _ in groups for i in places]))]

    def loss(self, batch) -> torch.Tensor:
        query = self.network(self.project(batch["head"]), *torch.tensor(batch["ids"]).T)
        tails = torch.cat([self.project(batch["tail"])[:, None], self.project(batch["false"])], dim=1)
        logits = nn.functional.cosine_similarity(query[:, None], tails, dim=2) / TEMPERATURE
        return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def assemble(training: TrainingSet, batch: np.ndarray, rng: np.random.Generator) -> None:
    """What our step gathers before it computes: the queries' heads, the drawn tails, and their embeddings."""
    kinds, starts = np.unique(training.relation[batch], return_index=True)
    for kind, rows in zip(kinds, np.split(training.head[batch], starts[1:]), strict=True):
        training.vectors(training.relations[kind].head_type, rows)
    for block in training.blocks(batch, NEGATIVES, rng):
        training.vectors(block.tail_type, block.candidates)


def step(loss: torch.Tensor, optimiser: torch.optim.Optimizer, network: nn.Module) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a network of width 96 and 2 layers instead of 768 and 6")
    parser.add_argument("--batch", type=int, default=1024, help="triples a batch; the authors' script takes 1024 a device")
    parser.add_argument("--steps", type=int, default=40, help="batches of ours that are timed")
    parser.add_argument("--loop-steps", type=int, default=3, help="batches of the loop that are timed")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    hidden, layers = (96, 2) if given.small else (768, 6)
    data = synthetic()
    training, node_types, relation_types = training_set(data, torch.device("cpu"))
    dims = {i: data.tables[t].shape[1] for t, i in node_types.items()}
    network = OfficialNetwork(len(node_types), len(relation_types), dims, hidden, layers).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    rows, objective, rng = PerRow(data, training, network, 1), Objective(network, training, NEGATIVES, False), np.random.default_rng(2)
    batches = training.batches(given.batch, 0.0, rng)
    batches = [batches[i] for i in rng.choice(len(batches), min(given.steps + 1, len(batches)), replace=False)]
    sizes = [int(training.count[b].sum()) for b in batches]
    print(
        f"{len(data.graph.nodes):,} nodes, {data.graph.n_edges:,} triples, {training.count.sum() / len(training.head):.1f} a query; "
        f"network of {sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters; batches of {given.batch:,} triples, "
        f"{NEGATIVES} false tails each; {torch.get_num_threads()} threads"
    )

    samples = [rows.triples(given.batch) for _ in range(given.loop_steps + 1)]
    network.train()
    step(rows.loss(rows.assemble(samples[0][:64])), optimiser, network)  # warm-up
    step(objective(batches[0], rng) / sizes[0], optimiser, network)
    start = time.perf_counter()
    assembled = [rows.assemble(sample) for sample in samples[1:]]
    loop_data = time.perf_counter() - start
    for batch in assembled:
        step(rows.loss(batch), optimiser, network)
    loop = time.perf_counter() - start
    start = time.perf_counter()
    for batch in batches[1:]:
        assemble(training, batch, rng)
    our_data = time.perf_counter() - start
    start = time.perf_counter()
    for batch, size in zip(batches[1:], sizes[1:], strict=True):
        step(objective(batch, rng) / size, optimiser, network)
    ours = time.perf_counter() - start
    for what, a, b in (("(a) batch assembly", our_data, loop_data), ("(b) full step", ours, loop)):
        mine, theirs = sum(sizes[1:]) / a, given.loop_steps * given.batch / b
        print(f"{what}: ours {mine:,.0f} triples/s, per-row loop {theirs:,.0f} triples/s, ratio {mine / theirs:.1f}")


if __name__ == "__main__":
    main()
