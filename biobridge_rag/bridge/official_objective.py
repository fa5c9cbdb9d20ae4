"""What the authors' architecture is trained on and judged by: batches of queries, their InfoNCE loss, the validation MRR.

Knows: torch, the graph's edges, embedding tables. Does not know: optimisers, runs, checkpoints.

A query is a head with a relation; all its true tails are triples of it. The network runs once a query, whatever the number of its
triples, and in its last layer for token 0 alone, which is the only one read: the same numbers for less work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import distributed, nn

from biobridge_rag.bridge.loss import info_nce
from biobridge_rag.bridge.official import OfficialNetwork
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.types import Indices, KnowledgeGraph, Relation, Vectors

TEMPERATURE = 0.1
MAX_WATCHED = 256  # validation heads of a relation
_ROUNDS, _MASKED, _BLOCK = 20, -1e9, 64


def carry(
    network: OfficialNetwork, projected: torch.Tensor, head: torch.Tensor, relation: torch.Tensor, tail: torch.Tensor
) -> torch.Tensor:
    """What `network` gives for projected heads (n, hidden) and three id vectors (n,), the last layer run for token 0 alone."""
    x = torch.stack([projected, network.node_type_embed(head), network.relation_type_embed(relation), network.node_type_embed(tail)], dim=1)
    *first, last = network.encoder.layers
    for layer in first:
        x = layer(x)
    token = x[:, :1]
    token = last.norm1(token + last.dropout1(last.self_attn(token, x, x, need_weights=False)[0]))
    wide = last.dropout(last.activation(last.linear1(token)))
    return last.norm2(token + last.dropout2(last.linear2(wide)))[:, 0] + projected


def hold_out(graph: KnowledgeGraph, share: float, rng: np.random.Generator) -> dict[str, Indices]:
    """Rows held out of each type's table, drawn from the nodes that have an edge."""
    linked = np.zeros(len(graph.nodes), dtype=bool)
    linked[graph.head] = linked[graph.tail] = True
    out = {}
    for node_type, positions in sorted(graph.by_type.items()):
        rows = np.flatnonzero(linked[positions])
        out[node_type.value] = np.sort(rng.choice(rows, int(share * len(rows)), replace=False))
    return out


def part_of(held: Mapping[str, Indices], share: float, rng: np.random.Generator) -> dict[str, Indices]:
    """A share of each type's held-out rows, rounded up where that leaves any for the rest."""
    size = {t: min(int(np.ceil(share * len(rows))), max(len(rows) - 1, 0)) for t, rows in held.items()}
    return {t: np.sort(rng.choice(rows, size[t], replace=False)) for t, rows in held.items()}


@dataclass(frozen=True)
class Block:
    """The triples of a batch whose tails are of one type. queries (q,) places in the batch; row (k,) places in `queries`;
    candidates (c,) rows of the type's table; column (k, 1 + n) places in `candidates`, the true tail first, and allowed (k, n),
    or column (k, 1) and allowed None where all candidates but a query's true tails are false ones."""

    tail_type: str
    queries: Indices
    row: Indices
    candidates: Indices
    column: Indices
    allowed: NDArray[np.bool_] | None


class TrainingSet:
    """The queries, each with all its true tails among the nodes not held out, and the watched heads that are never trained on."""

    def __init__(
        self, graph: KnowledgeGraph, tables: Mapping[str, Vectors], held: Mapping[str, Indices], watched: Mapping[str, Indices],
        node_types: Mapping[str, int], relation_types: Mapping[str, int], device: torch.device,
    ) -> None:  # fmt: skip
        self.device, self.type_id = device, node_types
        self.positions = {t.value: positions for t, positions in graph.by_type.items()}
        cut = graph.without_heads(np.concatenate([self.positions[t][rows] for t, rows in held.items()]).tolist())
        self.open = {t: np.setdiff1d(np.arange(len(x)), held.get(t, [])) for t, x in tables.items()}
        self.tables = _place(tables, device)
        self.relations = [r for r in graph.relations if len(cut.edges(r)[0])]
        if not self.relations:
            raise InputError("The graph has too few edges to hold any out, so no bridge can be trained.")
        self.ids = [(node_types[r.head_type], relation_types[r.name], node_types[r.tail_type]) for r in self.relations]
        self.edges = [incidence(cut, r) for r in self.relations]
        counts = [np.diff(e.indptr) for e in self.edges]
        # A query without any false tail teaches nothing.
        rows = [np.flatnonzero((c > 0) & (c < len(self.open[r.tail_type]))) for r, c in zip(self.relations, counts, strict=True)]
        self.head = np.concatenate(rows)
        self.relation = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        self.count = np.concatenate([c[r] for c, r in zip(counts, rows, strict=True)]).astype(np.int64)
        self.width = len(graph.nodes)
        self.known = np.unique(cut.head.astype(np.int64) * self.width + cut.tail)  # linked pairs, by any relation
        self.watched = {i: w for i, r in enumerate(self.relations) if (w := self._watch(graph, r, watched))}

    def _watch(self, graph: KnowledgeGraph, relation: Relation, watched: Mapping[str, Indices]) -> tuple[Indices, sparse.csr_matrix] | None:
        """Watched heads (w,) with an edge to an open tail, evenly spread where there are many, and their edges (w, open tails)."""
        rows = watched.get(relation.head_type, np.zeros(0, np.int64))
        truth = incidence(graph, relation)[rows][:, self.open[relation.tail_type]].tocsr()
        some = np.flatnonzero(np.diff(truth.indptr))
        if not len(some):
            return None
        some = some[np.unique(np.linspace(0, len(some) - 1, MAX_WATCHED).astype(np.int64))]
        return rows[some], truth[some]

    def batches(self, size: int, balance: float, rng: np.random.Generator) -> list[Indices]:
        """The queries of an epoch in random order, cut where `size` triples are full; each batch sorted.

        With `balance` b a relation of m triples gets a share of the epoch that goes with m^(1 - b): its queries come more than once,
        or only some of them.
        """
        queries = np.arange(len(self.head))
        if balance:
            triples = np.bincount(self.relation, self.count, len(self.relations))
            share = np.where(triples > 0, np.maximum(triples, 1.0) ** (1.0 - balance), 0.0)
            copies = share / max(share.sum(), 1.0) * triples.sum() / np.maximum(triples, 1.0)
            queries = np.repeat(queries, np.floor(copies[self.relation] + rng.random(len(queries))).astype(np.int64))
        order = rng.permutation(queries)
        step = (np.cumsum(self.count[order]) - 1) // size
        return [np.sort(b) for b in np.split(order, np.flatnonzero(np.diff(step)) + 1) if len(b)]

    def blocks(self, batch: Indices, negatives: int | None, rng: np.random.Generator) -> list[Block]:
        """The batch's triples by tail type, with the false tails of each."""
        kind = self.relation[batch]
        names = np.array([r.tail_type for r in self.relations])
        out = []
        for node_type in np.unique(names[kind]):
            queries = np.flatnonzero(names[kind] == node_type)
            present = np.unique(kind[queries])
            truth = sparse.vstack([self.edges[r][self.head[batch[kind == r]]] for r in present]).tocsr()
            row, true = np.repeat(np.arange(len(queries)), np.diff(truth.indptr)), truth.indices.astype(np.int64)
            tails = self.open[node_type]
            if negatives is None or negatives >= len(tails):
                out.append(Block(str(node_type), queries, row, tails, np.searchsorted(tails, true)[:, None], None))
                continue
            heads = np.concatenate([self.positions[self.relations[r].head_type][self.head[batch[kind == r]]] for r in present])
            false, allowed = self.false_tails(heads[row], node_type, negatives, rng)
            every = np.concatenate([true[:, None], false], axis=1)
            candidates, column = np.unique(every, return_inverse=True)
            out.append(Block(str(node_type), queries, row, candidates, column.reshape(every.shape), allowed))
        return out

    def false_tails(self, heads: Indices, node_type: str, n: int, rng: np.random.Generator) -> tuple[Indices, NDArray[np.bool_]]:
        """n different tails for each head (a position in the graph), none linked to it by any relation, as the authors draw them:
        rows (k, n), and which of them are such (for a head linked to nearly all, some may not be found)."""
        tails, positions = self.open[node_type], self.positions[node_type]
        drawn = rng.choice(tails, (len(heads), n))
        for left in reversed(range(_ROUNDS)):
            key = heads[:, None] * self.width + positions[drawn]
            good = self.known[np.minimum(np.searchsorted(self.known, key), len(self.known) - 1)] != key
            order = np.argsort(drawn, axis=1, kind="stable")
            ordered = np.take_along_axis(drawn, order, axis=1)
            again = np.zeros_like(good)
            np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
            good &= ~again
            if good.all() or not left:
                break
            drawn[~good] = rng.choice(tails, int((~good).sum()))
        return drawn, good

    def vectors(self, node_type: str, rows: Indices) -> torch.Tensor:
        """Frozen embeddings (n, d) on the device."""
        table = self.tables[node_type]
        return table[torch.from_numpy(rows).to(table.device)].to(self.device, non_blocking=True)


def _place(tables: Mapping[str, Vectors], device: torch.device) -> dict[str, torch.Tensor]:
    """The tables on the device where they take less than half of its free memory, else pinned in the machine's."""
    out = {t: torch.from_numpy(np.array(x, dtype=np.float32)) for t, x in tables.items()}
    if device.type != "cuda":
        return out
    fits = sum(x.nbytes for x in out.values()) < torch.cuda.mem_get_info(device)[0] / 2
    return {t: x.to(device) if fits else x.pin_memory() for t, x in out.items()}


class Objective(nn.Module):
    """The network with what it is trained on. bf16: its products in bfloat16 by autocast; cosines and the loss stay in float32."""

    def __init__(self, network: OfficialNetwork, data: TrainingSet, negatives: int | None, bf16: bool) -> None:
        super().__init__()
        self.network, self.data, self.negatives, self.bf16 = network, data, negatives, bf16

    def queries(self, batch: list[tuple[int, Indices]]) -> torch.Tensor:
        """Unit transforms (n, hidden) of [(relation's place, head rows)], one after the other."""
        data, sizes = self.data, [len(rows) for _, rows in batch]
        with self._precision():
            projected = torch.cat([self._project(data.relations[r].head_type, rows) for r, rows in batch])
            ids = torch.from_numpy(np.repeat([data.ids[r] for r, _ in batch], sizes, axis=0)).to(data.device).T
            return nn.functional.normalize(carry(self.network, projected, *ids).float(), dim=1)

    def tails(self, node_type: str, rows: Indices) -> torch.Tensor:
        """Unit projections (n, hidden)."""
        with self._precision():
            return nn.functional.normalize(self._project(node_type, rows).float(), dim=1)

    def forward(self, batch: Indices, rng: np.random.Generator) -> torch.Tensor:
        """InfoNCE summed over the triples of sorted queries (n,), each true tail against false ones of its type."""
        if not len(batch):
            return self.network.node_type_embed[1].bias.sum() * 0.0
        kinds, starts = np.unique(self.data.relation[batch], return_index=True)
        heads = np.split(self.data.head[batch], starts[1:])
        unit = self.queries(list(zip(kinds.tolist(), heads, strict=True)))
        losses = []
        for block in self.data.blocks(batch, self.negatives, rng):
            queries, row, column = (torch.from_numpy(a).to(unit.device) for a in (block.queries, block.row, block.column))
            candidates = self.tails(block.tail_type, block.candidates)
            if block.allowed is None:
                losses.append(info_nce(unit[queries] @ candidates.T / TEMPERATURE, row, column[:, 0]) * len(row))
                continue
            cosine = torch.einsum("kh,knh->kn", unit[queries[row]], candidates[column])
            mask = nn.functional.pad(torch.from_numpy(~block.allowed).to(unit.device), (1, 0))
            logits = (cosine / TEMPERATURE).masked_fill(mask, _MASKED)
            losses.append((torch.logsumexp(logits, dim=1) - logits[:, 0]).sum())
        return torch.stack(losses).sum()

    def _project(self, node_type: str, rows: Indices) -> torch.Tensor:
        return self.network.proj_layer[str(self.data.type_id[node_type])](self.data.vectors(node_type, rows))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.data.device.type, dtype=torch.bfloat16, enabled=self.bf16)


@torch.no_grad()
def filtered_mrr(objective: Objective, rank: int = 0, world: int = 1) -> float | None:
    """Mean over relations of the mean reciprocal rank of the watched heads' edges, in [0, 1], higher is better; None without any.

    Candidates are all tails not held out; a head's other true tails are left out; a tie takes the mean rank. Every world-th relation
    is ranked by this process, and all processes are told the mean.
    """
    data = objective.data
    if not data.watched:
        return None
    objective.network.eval()
    total = torch.zeros((), dtype=torch.float64, device=data.device)
    candidates: dict[str, torch.Tensor] = {}
    for relation, (rows, truth) in list(data.watched.items())[rank::world]:
        tail_type = data.relations[relation].tail_type
        if tail_type not in candidates:
            candidates[tail_type] = objective.tails(tail_type, data.open[tail_type])
        scores = objective.queries([(relation, rows)]) @ candidates[tail_type].T
        total += _reciprocal_ranks(scores, truth).mean()
    if world > 1:
        distributed.all_reduce(total)
    return float(total) / len(data.watched)


def _reciprocal_ranks(scores: torch.Tensor, truth: sparse.csr_matrix) -> torch.Tensor:
    """scores (n, tails), truth (n, tails) -> 1 / filtered rank of each true pair, float64."""
    row = torch.from_numpy(np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))).to(scores.device)
    mine = scores[row, torch.from_numpy(truth.indices.astype(np.int64)).to(scores.device)]
    others = scores.clone()
    others[row, torch.from_numpy(truth.indices.astype(np.int64)).to(scores.device)] = -torch.inf
    ranks = []
    for r, s in zip(row.split(_BLOCK), mine.split(_BLOCK), strict=True):
        block = others[r]
        ranks.append(1.0 + (block > s[:, None]).sum(1) + (block == s[:, None]).sum(1) / 2.0)
    return 1.0 / torch.cat(ranks).double()
