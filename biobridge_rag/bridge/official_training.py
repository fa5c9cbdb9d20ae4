"""Trains the authors' architecture on a graph by InfoNCE.

Knows: torch, the graph's edges, embedding tables. Does not know: encoders, the store, evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse
from torch import nn

from biobridge_rag.bridge.loss import info_nce
from biobridge_rag.bridge.official import HEADS, OfficialBridge, OfficialNetwork
from biobridge_rag.bridge.training import LeftOut, Progress
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.types import Indices, KnowledgeGraph, Relation, Vectors

TEMPERATURE, LEARNING_RATE, WEIGHT_DECAY, BATCH = 0.1, 1.6e-3, 1e-4, 4096
_WARM_UP, _CLIP = 0.1, 1.0


def train_official(
    graph: KnowledgeGraph,
    tables: Mapping[str, Vectors],
    *,
    epochs: int,
    seed: int,
    device: str,
    progress: Progress,
    hidden: int = 768,
    layers: int = 6,
    heads: int = HEADS,
    batch: int | None = None,
    negatives: int | None = None,
    held_out: float = 0.2,
) -> tuple[OfficialBridge, dict[Relation, LeftOut]]:
    """Trains on the graph's relations by InfoNCE at temperature 0.1. tables: node type -> (n_t, d_t) in the order of the graph.

    batch: triples a step (None: a 20th of them, 32 to 4096); the learning rate is 1.6e-3 at 4096 triples and goes with the root of
    the batch. negatives: false tails a step, drawn beside the batch's true ones (None: all of the type).
    A share `held_out` in [0, 1) of the nodes of each type is kept out of training, as head, tail and negative; the predictions
    returned are of those nodes alone. The one model returned is the one that never saw them: it is not trained again on all
    edges, which would take twice the time and turn the space that the predictions lie in. With 0 it sees all and returns none.
    The same seed gives the same bits on a CPU.
    """
    if not graph.n_edges:
        raise InputError("The graph has no edges, so no bridge can be trained.", "Check the counts of skipped rows.")
    if hidden % heads or layers < 1:
        raise InputError(f"A hidden width of {hidden} with {heads} heads and {layers} layers makes no network.")
    todo = [r for r in graph.relations if len(graph.edges(r)[0])]
    node_types = {t: i for i, t in enumerate(sorted(str(t) for t in tables))}
    relation_types = {name: i for i, name in enumerate(sorted({r.name for r in todo}))}
    rng = np.random.default_rng([seed, 0])
    held = _hold_out(graph, held_out, rng)
    where = torch.device(device)
    forked = [torch.cuda.current_device()] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):
        torch.manual_seed(seed)
        dims = {i: tables[t].shape[1] for t, i in node_types.items()}
        network = OfficialNetwork(len(node_types), len(relation_types), dims, hidden, layers, heads).to(where).train()
        task = _Task(graph, tables, held, network, node_types, relation_types, where)
        size = batch or int(np.clip(task.count.sum() // 20, 32, BATCH))
        plan = [task.batches(size, np.random.default_rng([seed, 1, e])) for e in range(epochs)]
        _optimise(task, plan, size, negatives, rng, progress)
    bridge = OfficialBridge(network, node_types, relation_types, heads)
    left_out = {}
    for r in todo:
        rows = np.intersect1d(np.unique(graph.edges(r)[0]), held[r.head_type])
        left_out[r] = LeftOut(rows, bridge.transform(np.asarray(tables[r.head_type][rows], np.float32), r))
    return bridge, left_out


def _hold_out(graph: KnowledgeGraph, share: float, rng: np.random.Generator) -> dict[str, Indices]:
    """Rows held out of each type's table, drawn from the nodes that have an edge."""
    linked = np.zeros(len(graph.nodes), dtype=bool)
    linked[graph.head] = linked[graph.tail] = True
    out = {}
    for node_type, positions in sorted(graph.by_type.items()):
        rows = np.flatnonzero(linked[positions])
        out[node_type.value] = np.sort(rng.choice(rows, int(share * len(rows)), replace=False))
    return out


class _Task:
    """What is trained on: queries, each a head with a relation and all its true tails among the nodes not held out."""

    def __init__(
        self, graph: KnowledgeGraph, tables: Mapping[str, Vectors], held: Mapping[str, Indices], network: OfficialNetwork,
        node_types: Mapping[str, int], relation_types: Mapping[str, int], device: torch.device,
    ) -> None:  # fmt: skip
        by_type = {t.value: positions for t, positions in graph.by_type.items()}
        cut = graph.without_heads(np.concatenate([by_type[t][rows] for t, rows in held.items()]).tolist())
        self.network, self.device = network, device
        self.tables = {t: torch.from_numpy(np.array(x, dtype=np.float32)).to(device) for t, x in tables.items()}
        self.open = {t: np.setdiff1d(np.arange(len(x)), held.get(t, [])) for t, x in tables.items()}
        self.relations = [r for r in graph.relations if len(cut.edges(r)[0])]
        if not self.relations:
            raise InputError("The graph has too few edges to hold any out, so no bridge can be trained.")
        self.edges = [incidence(cut, r) for r in self.relations]
        self.ids = [(node_types[r.head_type], relation_types[r.name], node_types[r.tail_type]) for r in self.relations]
        self.type_id = node_types
        rows = [np.flatnonzero(np.diff(e.indptr)) for e in self.edges]
        self.head = np.concatenate(rows)
        self.relation = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        self.count = np.concatenate([np.diff(e.indptr)[r] for e, r in zip(self.edges, rows, strict=True)])

    def batches(self, size: int, rng: np.random.Generator) -> list[Indices]:
        """The queries in random order, cut where `size` triples are full."""
        order = rng.permutation(len(self.head))
        step = (np.cumsum(self.count[order]) - 1) // size
        return [np.sort(order[step == k]) for k in np.unique(step)]

    def _project(self, node_type: str, rows: Indices) -> torch.Tensor:
        return self.network.proj_layer[str(self.type_id[node_type])](self.tables[node_type][torch.from_numpy(rows).to(self.device)])

    def loss(self, batch: Indices, negatives: int | None, rng: np.random.Generator) -> torch.Tensor:
        """InfoNCE over the batch's triples, each true tail against false ones of its type."""
        relations, sizes = np.unique(self.relation[batch], return_counts=True)
        heads = np.split(self.head[batch], np.cumsum(sizes)[:-1])
        projected = [self._project(self.relations[r].head_type, h) for r, h in zip(relations, heads, strict=True)]
        ids = torch.from_numpy(np.repeat([self.ids[r] for r in relations], sizes, axis=0)).to(self.device).T
        queries = nn.functional.normalize(self.network(torch.cat(projected), *ids), dim=1)
        total, n = torch.zeros((), device=self.device), 0
        blocks = [self.edges[r][h] for r, h in zip(relations, heads, strict=True)]
        tail_types = [self.relations[r].tail_type for r in relations]
        parts = queries.split(sizes.tolist())
        for node_type in sorted(set(tail_types)):
            here = [i for i, t in enumerate(tail_types) if t == node_type]
            truth = sparse.vstack([blocks[i] for i in here]).tocsr()
            tails = self._candidates(node_type, truth.indices, negatives, rng)
            truth = truth[:, tails].tocoo()
            full = np.bincount(truth.row, minlength=truth.shape[0]) == len(tails)
            keep = ~full[truth.row]  # a query without any false tail teaches nothing, and its gradient is no number
            if not keep.any():
                continue
            candidates = nn.functional.normalize(self._project(node_type, tails), dim=1)
            logits = torch.cat([parts[i] for i in here]) @ candidates.T / TEMPERATURE
            row, column = (torch.from_numpy(a[keep].astype(np.int64)).to(self.device) for a in (truth.row, truth.col))
            total, n = total + info_nce(logits, row, column) * len(row), n + len(row)
        return total / max(n, 1)

    def _candidates(self, node_type: str, true: Indices, negatives: int | None, rng: np.random.Generator) -> Indices:
        tails = self.open[node_type]
        if negatives is None or negatives >= len(tails):
            return tails
        return np.union1d(true, rng.choice(tails, negatives, replace=False))


def _optimise(
    task: _Task, plan: list[list[Indices]], size: int, negatives: int | None, rng: np.random.Generator, progress: Progress
) -> None:
    """AdamW with a linear warm-up over a tenth of the steps, then linear decay; gradients are clipped to length 1."""
    steps = max(sum(len(batches) for batches in plan), 1)
    rate = LEARNING_RATE * min(size / BATCH, 1.0) ** 0.5
    warm = max(int(_WARM_UP * steps), 1)
    optimiser = torch.optim.AdamW(task.network.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min((s + 1) / warm, max(steps - s, 1) / max(steps - warm, 1)))
    for epoch, batches in enumerate(plan):
        progress("training the official bridge, epochs", epoch, len(plan))
        for batch in batches:
            optimiser.zero_grad()
            loss = task.loss(batch, negatives, rng)
            if loss.requires_grad:
                loss.backward()
                nn.utils.clip_grad_norm_(task.network.parameters(), _CLIP)
                optimiser.step()
            schedule.step()
    progress("training the official bridge, epochs", len(plan), len(plan))
