"""Zero-shot transfer: scores for relations and node types without a single training edge, and what chance and leaks would give.

Knows: the graph's edges, embedding tables. Does not know: the protocol's loop, trained bridges, the store.

    composed   head -> B -> tail, over all node types B that trained relations reach from the head and that reach the tail
    parallel   the other trained relations between the same two types, in place of the one asked for
    sibling    for a type of texts without an edge: it borrows the edges of the other types of texts, whose encoder it shares. A head
               asks as if it were a node of theirs; as a tail it is reached from theirs by likeness of the texts
    degree     log(1 + how often the tail occurs in the other relations): the popularity that remains
    frozen     cosine of the frozen embeddings, where head and tail share an encoder
    fused      composed, parallel and sibling, standardised and summed; the sum standardised, plus degree standardised

A step from known nodes is the kernel regression that the default bridge rests on (bridge.model): W = k(x, X) (K + ridge I)^-1 over
the heads X of a trained relation, k = relu(cos)^3. A head that is a node of the graph is predicted without its own edges, by the exact
leave-one-out solution W_i = -A_i / A_ii with A = (K + ridge I)^-1 and W_ii = 0 (Golub, Heath & Wahba 1979). A further step multiplies
by the edges. All edges are damped by the degrees of their two ends in their relation, as in the degree-weighted path count of
Himmelstein & Baranzini 2015 (PLOS Comput. Biol. 11, e1004259): to the power -1/2, at the last end to the power -`damping`.
Everything is linear in W, so that a path counts by how alike the head is to the nodes that it starts from.

The relation asked for and its inverse are never read, whatever the graph holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, sparse

from biobridge_rag.bridge.model import kernel
from biobridge_rag.bridge.training import MAX_HEADS
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation.metrics import HITS, named
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.types import Indices, KnowledgeGraph, Modality, NodeType, Relation, Vectors

if TYPE_CHECKING:
    from biobridge_rag.graph.primekg import UnseenNodes
    from biobridge_rag.retrieval.likeness import Heads

_BLOCK = 2048  # rows of a kernel matrix that is used once
_KEPT = 2**30  # bytes of factorised kernel matrices that are kept for the next block of heads


@dataclass(frozen=True)
class _Asked:
    """A batch of heads of one relation: x (n, d), rows (n,) in the graph or None, and the relations that must not be read."""

    x: Vectors
    rows: Indices | None
    relation: Relation

    @property
    def barred(self) -> tuple[Relation, Relation]:
        return self.relation, self.relation.inverse


class TransferScorer:
    """Scores relations of which training saw no edge; see the head of the file for the methods.

    tables: type -> (n_t, d_t) unit rows in the order of graph.by_type. ridge: of the kernel regression, above 0; damping: in [0, 1], how
    much a tail's degree counts against it at the end of a path; most: heads of a relation that the regression reads, drawn by `seed`
    where there are more. Raises InputError for a table of another length and a number out of range.
    """

    methods = ("fused", "composed", "parallel", "sibling", "degree", "frozen")

    def __init__(
        self, graph: KnowledgeGraph, tables: Mapping[NodeType, Vectors], *,
        ridge: float = 1.0, damping: float = 0.25, most: int = MAX_HEADS, seed: int = 0,
    ) -> None:  # fmt: skip
        for node_type, positions in graph.by_type.items():
            if len(tables.get(node_type, ())) != len(positions):
                raise InputError(f"The table of {node_type.value} embeddings does not have one row for each of {len(positions)} nodes.")
        if ridge <= 0.0 or not 0.0 <= damping <= 1.0 or most < 1:
            raise InputError("Transfer needs a ridge above 0, a damping from 0 to 1, and at least one head to learn from.")
        self.graph, self.tables = graph, tables
        self.ridge, self.damping, self.most, self.seed = ridge, damping, most, seed
        self._trained = [r for r in graph.relations if len(graph.edge_numbers(r))]
        self._factors: OrderedDict[Relation, tuple[Indices, tuple[Vectors, bool]]] = OrderedDict()

    def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
        """Method -> (n, n_tails) float32, higher is better, for the methods that apply. `frozen` is in [-1, 1], `degree` 0 or more;
        the others have no scale that could be compared between heads."""
        rows = None if heads.rows is None else np.asarray(heads.rows, dtype=np.int64)
        asked = _Asked(np.asarray(heads.x, dtype=np.float32), rows, relation)
        head, tail = NodeType(relation.head_type), NodeType(relation.tail_type)
        found = {
            "composed": self._composed(asked, head, tail, self.damping),
            "parallel": self._direct(asked, head, tail, self.damping),
            "sibling": self._sibling(asked, head, tail),
        }
        out = {method: scores for method, scores in found.items() if scores is not None}
        degree = self._degree(asked)
        fused = standardised(sum(map(standardised, out.values()), np.zeros((len(asked.x), len(degree)), np.float32)))
        if degree.any():
            out["degree"] = np.broadcast_to(degree, fused.shape)
            fused = fused + standardised(out["degree"])
        if out:
            out["fused"] = fused
        if head.modality == tail.modality and self.tables[tail].shape[1] == asked.x.shape[1]:
            out["frozen"] = asked.x @ np.asarray(self.tables[tail], dtype=np.float32).T
        return out

    def _between(self, asked: _Asked, head: NodeType, tail: NodeType) -> list[Relation]:
        return [r for r in self._trained if (r.head_type, r.tail_type) == (head, tail) and r not in asked.barred]

    def _direct(self, asked: _Asked, head: NodeType, tail: NodeType, power: float) -> Vectors | None:
        """(n, n_tail): one step, by the sum of the trained relations from `head` to `tail`; None where there is none."""
        steps = [self._attention(asked, r) @ self._damped(r, power) for r in self._between(asked, head, tail)]
        return np.asarray(sum(steps[1:], steps[0]), dtype=np.float32) if steps else None

    def _composed(self, asked: _Asked, head: NodeType, tail: NodeType, power: float) -> Vectors | None:
        """(n, n_tail): two steps, by the sum over all types between; None where there is no path."""
        out: Vectors | None = None
        for middle in self.graph.by_type:
            onward = self._between(asked, middle, tail)
            reached = self._direct(asked, head, middle, 0.5) if onward else None
            if reached is not None:
                step = reached @ sum(self._damped(r, power) for r in onward)
                out = step if out is None else out + step
        return out

    def _sibling(self, asked: _Asked, head: NodeType, tail: NodeType) -> Vectors | None:
        """(n, n_tail), by the other types of texts, in one step where a relation leads there and in two where none does."""
        out: Vectors | None = None
        if self._bare(asked, head) == self._bare(asked, tail):
            return out
        bare = head if self._bare(asked, head) else tail
        for other in self.graph.by_type:
            if bare.modality != Modality.TEXT or other == bare or other.modality != Modality.TEXT:
                continue
            if self.tables[other].shape[1] != self.tables[bare].shape[1]:
                continue
            if bare == head:
                lent = _Asked(asked.x, None, asked.relation)
                step = self._reached(lent, other, tail)
            else:
                step = self._reached(asked, head, other)
                step = None if step is None else self._alike(step, other, tail)
            if step is not None:
                out = step if out is None else out + step
        return out

    def _alike(self, scores: Vectors, node_type: NodeType, tail: NodeType) -> Vectors:
        """(n, n_type) scores carried to the tails by k(texts, tails), whose columns are divided by the root of their length, or
        tails that are like many texts would always win. A block of rows at a time: all pairs may not fit."""
        table, texts = self.tables[node_type], self.tables[tail]
        out, square = np.zeros((len(scores), len(texts)), np.float32), np.zeros(len(texts), np.float32)
        for at in range(0, len(table), _BLOCK):
            alike = kernel(table[at : at + _BLOCK], texts)
            out += scores[:, at : at + _BLOCK] @ alike
            square += (alike**2).sum(axis=0)
        return np.asarray(out / np.maximum(square, 1e-12) ** 0.25, dtype=np.float32)

    def _reached(self, asked: _Asked, head: NodeType, tail: NodeType) -> Vectors | None:
        direct = self._direct(asked, head, tail, self.damping)
        return self._composed(asked, head, tail, self.damping) if direct is None else direct

    def _bare(self, asked: _Asked, node_type: NodeType) -> bool:
        """No edge of the type may be read."""
        return not any(node_type in (r.head_type, r.tail_type) for r in self._trained if r not in asked.barred)

    def _attention(self, asked: _Asked, relation: Relation) -> Vectors:
        """W (n, n_heads) of the module's head over all rows of the head type; zero where a row has no edge of the relation."""
        known, factor = self._factor(relation)
        table = self.tables[NodeType(relation.head_type)]
        right = kernel(table[known], asked.x)
        own = np.full(len(asked.x), -1)
        if asked.rows is not None:
            at = np.minimum(np.searchsorted(known, asked.rows), len(known) - 1)
            own = np.where(known[at] == asked.rows, at, -1)
        inside = np.flatnonzero(own >= 0)
        right[:, inside] = 0.0
        right[own[inside], inside] = 1.0  # the solution is then the row A_i
        weights = linalg.cho_solve(factor, right, overwrite_b=True, check_finite=False).T
        weights[inside] /= -weights[inside, own[inside]][:, None]
        weights[inside, own[inside]] = 0.0
        out = np.zeros((len(asked.x), len(table)), dtype=np.float32)
        out[:, known] = weights
        return out

    def _factor(self, relation: Relation) -> tuple[Indices, tuple[Vectors, bool]]:
        """The rows (h,) that have an edge of the relation, sorted, and the Cholesky factor of K + ridge I among them."""
        if relation in self._factors:
            self._factors.move_to_end(relation)
            return self._factors[relation]
        rows = np.unique(self.graph.edges(relation)[0])
        if len(rows) > self.most:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, self.most, replace=False))
        x = self.tables[NodeType(relation.head_type)][rows]
        gram = kernel(x, x)
        gram[np.diag_indices_from(gram)] += self.ridge
        self._factors[relation] = rows, linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
        while len(self._factors) > 1 and sum(factor[0].nbytes for _, factor in self._factors.values()) > _KEPT:
            self._factors.popitem(last=False)
        return self._factors[relation]

    def _damped(self, relation: Relation, power: float) -> sparse.csr_matrix:
        """(n_heads, n_tails) edges over the root of the head's degree and the tail's degree to `power`."""
        edges = incidence(self.graph, relation)
        head, tail = (np.maximum(np.asarray(edges.sum(axis=a)).ravel(), 1.0) for a in (1, 0))
        return sparse.csr_matrix(sparse.diags(head**-0.5) @ edges @ sparse.diags(tail**-power), dtype=np.float32)

    def _degree(self, asked: _Asked) -> Vectors:
        """(n_tails,) log(1 + edges of the other relations that end there)."""
        tail = NodeType(asked.relation.tail_type)
        count = np.zeros(len(self.graph.by_type[tail]), dtype=np.float32)
        for relation in self._trained:
            if relation.tail_type == tail and relation not in asked.barred:
                np.add.at(count, self.graph.edges(relation)[1], 1.0)
        return np.log1p(count)


def standardised(scores: Vectors) -> Vectors:
    """(n, m) with mean 0 and variance 1 in each row; a row of equal scores becomes 0."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(np.where(spread > 1e-12, centred / np.maximum(spread, 1e-12), 0.0), dtype=np.float32)


@dataclass(frozen=True)
class InverseScorer:
    """Looks the answer up: 1 where the training graph states the inverse edge, else 0, plus less than 1 for the tail's popularity in the
    relation. Worth nothing on an honest split; on one that keeps the inverse edges it shows what they give away."""

    graph: KnowledgeGraph
    methods: tuple[str, ...] = ("inverse",)

    def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
        """(n, n_tails) in [0, 2). Empty where the heads are no nodes of the graph, or it has no edge of the inverse relation."""
        if heads.rows is None or not len(self.graph.edge_numbers(relation.inverse)):
            return {}
        stated = incidence(self.graph, relation.inverse).T.tocsr()[heads.rows].toarray()
        count = np.asarray(incidence(self.graph, relation).sum(axis=0), dtype=np.float32).ravel()
        return {self.methods[0]: stated + count / (1.0 + count.max())}


def random_expectation(graph: KnowledgeGraph, unseen: UnseenNodes, rows: Indices | None = None) -> dict[str, dict[str, float]]:
    """Relation key -> the metrics that a random order of the tails has on average, over the triples that `ranking.rank` ranks.

    Exact: with m candidates left after the filter each rank from 1 to m is as likely as the others, so the mean reciprocal rank is
    H_m / m with the harmonic number H_m, and hits@k is min(k, m) / m. rows: as for `rank`; a head is then no candidate of its own.
    """
    out = {}
    for relation, (heads, tails) in sorted(unseen.edges.items()):
        if not len(heads):
            continue
        n_tails = len(graph.by_type[NodeType(relation.tail_type)])
        pairs = np.unique(np.asarray(heads, dtype=np.int64) * n_tails + tails)
        head, count = np.unique(pairs // n_tails, return_counts=True)
        left = n_tails - count + 1
        if rows is not None and relation.head_type == relation.tail_type:
            left = left - ~np.isin(head * n_tails + rows[head], pairs)
        harmonic = np.cumsum(1.0 / np.arange(1, n_tails + 1))
        each = np.column_stack([harmonic[left - 1] / left, *(np.minimum(k, left) / left for k in HITS)])
        out[relation.key] = named(np.average(each, axis=0, weights=count))
    return out
