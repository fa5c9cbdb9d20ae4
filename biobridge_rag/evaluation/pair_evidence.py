"""What the edges of others say of a pair of a query and an other, and how it is weighed; pairs.py says by what rules.

Knows: graphs, similarities between nodes, kernels. Does not know: files, encoders, what the pairs are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from biobridge_rag.bridge.attention import powered
from biobridge_rag.bridge.model import POWER
from biobridge_rag.bridge.training import inverse_of
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.retrieval.analogues import K, votes
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.types import GO_TYPES, Indices, KnowledgeGraph, NodeType, Progress, Relation, Vectors

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

METHODS = ("fused", "bridge", "analogues", "popularity")
FOLDS, MIN_HEADS = 5, 20
_NEGATIVES = 3  # negatives drawn for a positive; they weigh as much as the positives together
_NEAR = 15  # nearest others whose known queries a pair is compared with
_PULL = 100.0  # ridge on the fused weights, in pairs
_BLOCK = 128


def of_nodes(likeness: Likeness, rows: Indices) -> Vectors:
    """Similarities of nodes of the graph with all nodes of their type, (n, n_t)."""
    return likeness.of(Heads(np.asarray(likeness.table[rows], dtype=np.float32), rows))


class Side:
    """One direction: queries of the relation's head type against others of its tail type."""

    def __init__(self, graph: KnowledgeGraph, likeness: Mapping[NodeType, Likeness], relation: Relation, twins: Indices, seed: int) -> None:
        self.edges = incidence(graph, relation)
        self.queries, self.others = likeness[NodeType(relation.head_type)], likeness[NodeType(relation.tail_type)]
        self.profiles = _profiles(graph, relation)
        self.heads = np.flatnonzero(np.diff(self.edges.indptr))
        if len(self.heads) < MIN_HEADS:
            raise InputError(f"The relation {relation} has {len(self.heads)} heads; pairs need {MIN_HEADS} or more to learn from.")
        self.seed = seed
        rng = np.random.default_rng([seed, 0])
        self.fold = rng.permutation(int(twins.max()) + 1)[twins] % FOLDS  # twins leave together
        if len(np.unique(self.fold[self.heads])) < 2:
            raise InputError(f"The heads of the relation {relation} cannot be parted: almost all of them are the same.")

    def score(
        self, x: Vectors, rows: Indices, y: Vectors, columns: Indices, query: Indices, other: Indices, progress: Progress
    ) -> tuple[dict[str, Floats], dict[str, int]]:
        """Method -> (n,) scores of the pairs (query, other), and from how many positives the weights were learned.

        x (a, n_heads), y (b, n_tails): similarities of the queries and the others with the graph's nodes; rows (a,), columns (b,): their
        places among those or -1. A query of the graph is read in the fold that left it out, and weighed by weights learned from the
        other folds."""
        methods = {m: np.zeros(len(query)) for m in METHODS}
        where = np.where(rows >= 0, self.fold[np.maximum(rows, 0)], FOLDS)[query]
        universe = np.unique(self.edges.indices).astype(np.int64)
        parts: dict[int, tuple[tuple[Vectors, Mask], tuple[Vectors, Mask]]] = {}
        tested = []
        for k in range(FOLDS + 1):
            progress("reading evidence", k, FOLDS + 1)
            at = np.flatnonzero(where == k)
            evidence = Evidence(self, np.flatnonzero(self.fold != k)) if k < FOLDS or len(at) else None
            mine = self.heads[self.fold[self.heads] == k]
            if len(mine) and evidence is not None:
                i, j, truth = self._sample(mine, universe, k)
                whole = (of_nodes(self.queries, mine), of_nodes(self.others, universe), universe, i, j)
                seen, cold, _ = evidence.read(*whole)
                parts[k] = (seen[~cold], truth[~cold]), (evidence.read(*whole, hide=True)[0], truth)
            if len(at) and evidence is not None:
                asked, q = np.unique(query[at], return_inverse=True)
                wanted, o = np.unique(other[at], return_inverse=True)
                block, cold, plain = evidence.read(x[asked], y[wanted], columns[wanted], q, o)
                tested.append((k, at, block, cold))
                for name, values in plain.items():
                    methods[name][at] = values
        progress("reading evidence", FOLDS + 1, FOLDS + 1)
        for k, at, block, cold in tested:
            for group, inside in enumerate((~cold, cold)):
                if inside.any():
                    features, truth = (np.concatenate([p[group][i] for f, p in parts.items() if f != k]) for i in range(2))
                    methods["fused"][at[inside]] = Odds.learn(features, truth)(block[inside])
        return methods, {name: sum(int(p[group][1].sum()) for p in parts.values()) for group, name in enumerate(("seen", "cold"))}

    def _sample(self, heads: Indices, universe: Indices, k: int) -> tuple[Indices, Indices, Mask]:
        """Pairs as positions in `heads` and `universe`: every edge, and negatives drawn evenly from all pairs that are none."""
        block = self.edges[heads][:, universe].tocoo()
        m = len(universe)
        positive = np.sort(block.row.astype(np.int64) * m + block.col)
        rng = np.random.default_rng([self.seed, 1, k])
        drawn = np.unique(rng.integers(len(heads) * m, size=_NEGATIVES * len(positive)))
        negative = np.setdiff1d(drawn, positive)
        both = np.concatenate([positive, negative])
        return both // m, both % m, np.arange(len(both)) < len(positive)


def _profiles(graph: KnowledgeGraph, relation: Relation) -> list[sparse.csr_matrix]:
    """What else the heads are linked to: (n_heads, n_terms) 0/1, one for the GO terms and one for each further type."""
    groups: dict[str, list[sparse.csr_matrix]] = {}
    for r in graph.relations:
        if r.head_type == relation.head_type and r.tail_type not in (relation.head_type, relation.tail_type) and len(graph.edge_numbers(r)):
            groups.setdefault("GO" if r.tail_type in GO_TYPES else r.tail_type, []).append(incidence(graph, r))
    return [sparse.hstack(groups[name], format="csr", dtype=np.float32) for name in sorted(groups)]


class Evidence:
    """What can be read of pairs from the edges of the queries `kept` (rows of the table) alone."""

    def __init__(self, side: Side, kept: Indices) -> None:
        self.side = side
        self.heads = kept[np.diff(side.edges.indptr)[kept] > 0]
        self.edges = side.edges[self.heads]
        self.counts = np.asarray(self.edges.sum(axis=0), dtype=np.float64).ravel()
        self.known = np.flatnonzero(self.counts)  # others with an edge left
        self.dense = self.edges[:, self.known].toarray()
        self.degrees = np.log1p(np.diff(self.edges.indptr)).astype(np.float32)
        self.solve = _inverse(powered(side.queries.among(self.heads), POWER))
        self.solve_other = _inverse(powered(side.others.among(self.known), POWER))
        by_other = self.edges[:, self.known].tocsc()
        self.starts, self.holders = by_other.indptr[:-1], by_other.indices
        self.profiles = [_Profile(side, matrix, kept, self.heads) for matrix in side.profiles]

    def read(
        self, x: Vectors, y: Vectors, columns: Indices, q: Indices, o: Indices, hide: bool = False
    ) -> tuple[Vectors, Mask, dict[str, Vectors]]:
        """Of the pairs (q, o), positions in the queries and the others: features (n, f), whether the other is cold (n,), and the scores
        of the plain methods, each (n,).

        x (a, n_heads), y (b, n_tails): similarities of queries and others with the graph's nodes; columns (b,): the others' places
        among those or -1; hide: every other is read as if it were new, its own edges left out."""
        others = _Others.of(self, y, columns, hide)
        order = np.argsort(q, kind="stable")
        features: Vectors | None = None
        plain = {m: np.zeros(len(q), dtype=np.float32) for m in METHODS if m != "fused"}
        for start in range(0, len(x), _BLOCK):
            at = order[np.searchsorted(q[order], start) : np.searchsorted(q[order], start + _BLOCK)]
            i, j = q[at] - start, o[at]
            block, scores = self._block(x[start : start + _BLOCK], others)
            chosen = np.stack([np.broadcast_to(f, (len(x[start : start + _BLOCK]), len(y)))[i, j] for f in block], axis=1)
            if features is None:
                features = np.zeros((len(q), chosen.shape[1]), dtype=np.float32)
            features[at] = chosen
            for name, values in scores.items():
                plain[name][at] = np.broadcast_to(values, (len(x[start : start + _BLOCK]), len(y)))[i, j]
        assert features is not None
        return features, others.cold[o], plain

    def _block(self, x: Vectors, others: _Others) -> tuple[list[Vectors], dict[str, Vectors]]:
        """Features and plain scores of all pairs of x (n, n_heads) and the others (m), each broadcastable to (n, m)."""
        similar = np.maximum(x[:, self.heads], 0.0)
        attention = powered(similar, POWER) @ self.solve
        first = attention @ self.dense
        own, smooth = others.own(first), first @ others.smooth.T
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        vote = votes(np.take_along_axis(similar, nearest, axis=1), nearest, self.edges, 6)[:, self.known]
        closest = np.maximum.reduceat(similar[:, self.holders], self.starts, axis=1)  # the nearest query that holds the other
        through = np.zeros_like(smooth)
        for index, likeness in zip(others.near.T, others.near_similar.T, strict=True):
            np.maximum(through, closest[:, index] * likeness, out=through)
        features = [
            _log(own), _root(own), _log(smooth), _root(smooth), others.own(closest), _log(others.own(closest)), through,
            _log(others.own(vote)), others.popularity, others.expected, others.nearest, _log(similar.max(axis=1, keepdims=True)),
            (attention @ self.degrees)[:, None],
        ]  # fmt: skip
        for profile in self.profiles:
            second, near = profile.attention(x)
            second = second @ self.dense
            features += [_log(others.own(second)), _log(second @ others.smooth.T), _log(near)]
        analogous = np.where(others.cold, vote @ others.vote.T, others.own(vote))
        return features, {"bridge": own + smooth, "analogues": analogous, "popularity": others.popularity}


def _inverse(gram: Vectors) -> Vectors:
    """(K + I)^-1 of a kernel matrix, with the bridge's ridge of 1."""
    gram[np.diag_indices_from(gram)] += 1.0
    return inverse_of(np.asarray(gram, dtype=np.float32))


def _log(x: Vectors) -> Vectors:
    return np.asarray(np.log(np.maximum(x, 0.0) + 0.01), dtype=np.float32)


def _root(x: Vectors) -> Vectors:
    return np.asarray(np.sqrt(np.maximum(x, 0.0)), dtype=np.float32)


@dataclass(frozen=True)
class _Others:
    """The others of a block of pairs, m of them, and how they relate to the k others with an edge left.

    place (m,) among those k or -1; cold (m,) those with -1; smooth (m, k) ridge weights, leave-one-out for one of the k; vote
    (m, k) shares of the 40 nearest; near, near_similar (m, 15) the nearest, itself left out; popularity (m,) log (1 + edges);
    expected (m,) that of its like; nearest (m,) the highest similarity."""

    place: Indices
    cold: Mask
    smooth: Vectors
    vote: Vectors
    near: Indices
    near_similar: Vectors
    popularity: Vectors
    expected: Vectors
    nearest: Vectors

    @classmethod
    def of(cls, evidence: Evidence, y: Vectors, columns: Indices, hide: bool = False) -> _Others:
        known = evidence.known
        places = np.full(len(evidence.counts), -1, dtype=np.int64)
        places[known] = np.arange(len(known))
        place = np.where(columns >= 0, places[np.maximum(columns, 0)], -1)
        seen, new = np.flatnonzero(place >= 0), place < 0
        similar = np.maximum(y[:, known], 0.0)
        similar[seen, place[seen]] = 0.0
        smooth = np.zeros_like(similar)
        inverse = evidence.solve_other
        smooth[new] = powered(similar[new], POWER) @ inverse
        smooth[seen] = -inverse[place[seen]] / np.diag(inverse)[place[seen], None]
        smooth[seen, place[seen]] = 0.0
        place = np.full_like(place, -1) if hide else place
        cold = place < 0
        order = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(similar, order, axis=1)
        vote = np.zeros_like(similar)
        np.put_along_axis(vote, order, best**6 / np.maximum((best**6).sum(axis=1, keepdims=True), 1e-12), axis=1)
        counts = np.log1p(evidence.counts[known]).astype(np.float32)
        popularity = np.where(cold, 0.0, counts[np.maximum(place, 0)]).astype(np.float32)
        return cls(place, cold, smooth, vote, order[:, :_NEAR], best[:, :_NEAR], popularity, smooth @ counts, best[:, 0])

    def own(self, values: Vectors) -> Vectors:
        """(n, k) values of the others with an edge left -> (n, m), 0 for the cold ones."""
        return np.where(self.cold, np.float32(0.0), values[:, np.maximum(self.place, 0)])


class _Profile:
    """Queries seen through what else they are linked to: the query's analogues vote for its links (similarity cubed), rare links
    weigh more (inverse document frequency), and kernel ridge regression on the squared cosines of such profiles gives the edges."""

    def __init__(self, side: Side, matrix: sparse.csr_matrix, kept: Indices, heads: Indices) -> None:
        rows = kept[np.diff(matrix.indptr)[kept] > 0]
        linked = matrix[rows]
        counts = np.asarray(linked.sum(axis=0)).ravel()
        weights = sparse.diags_array(np.where(counts > 0, np.log((len(rows) + 1) / (counts + 1)), 0.0).astype(np.float32))
        self.rows, self.linked = rows, (linked @ weights).tocsr()
        held = (matrix[heads] @ weights).tocsr()
        length = np.sqrt(np.asarray(held.multiply(held).sum(axis=1)).ravel())
        self.held = (sparse.diags_array((1.0 / np.maximum(length, 1e-9)).astype(np.float32)) @ held).tocsr()
        self.solve = _inverse((self.held @ self.held.T).toarray() ** 2)

    def attention(self, x: Vectors) -> tuple[Vectors, Vectors]:
        """x (n, n_heads) similarities -> weights (n, heads) and the similarity (n, 1) of the nearest query that has any such link."""
        if not len(self.rows):
            return np.zeros((len(x), len(self.solve)), dtype=np.float32), np.zeros((len(x), 1), dtype=np.float32)
        similar = np.maximum(x[:, self.rows], 0.0)
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(similar, nearest, axis=1)
        profile = votes(best, nearest, self.linked, 3)
        profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-9)
        cosine = np.maximum((self.held @ profile.T).T, 0.0)
        return np.asarray(cosine**2 @ self.solve, dtype=np.float32), best[:, :1]


@dataclass(frozen=True)
class Odds:
    """Ridge logistic regression on features and their products, both classes of equal weight: (n, f) -> (n,) log odds."""

    first: tuple[Floats, Floats]
    second: tuple[Floats, Floats]
    weights: Floats

    @classmethod
    def learn(cls, features: Vectors, truth: Mask) -> Odds:
        """Even odds for everything where a class is missing."""
        f = features.shape[1]
        n = f + f * (f + 1) // 2
        n_positive, n_negative = int(truth.sum()), int((~truth).sum())
        if not n_positive or not n_negative:
            return cls((np.zeros(f), np.ones(f)), (np.zeros(n), np.ones(n)), np.zeros(n + 1))
        first = _scale(features)
        expanded = _expand(_standard(features, first))
        second = _scale(expanded)
        z = np.column_stack([_standard(expanded, second), np.ones(len(truth))])
        share = np.where(truth, 1.0, n_positive / n_negative)

        def objective(w: Floats) -> tuple[float, Floats]:
            odds = z @ w
            pull = np.append(_PULL * w[:-1], 0.0)
            error = share * (1.0 / (1.0 + np.exp(-odds)) - truth)
            loss = share @ (np.logaddexp(0.0, odds) - truth * odds) + 0.5 * float(pull @ w)
            return float(loss), error @ z + pull

        found = minimize(objective, np.zeros(n + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
        return cls(first, second, np.asarray(found.x))

    def __call__(self, features: Vectors) -> Floats:
        z = _standard(_expand(_standard(features, self.first)), self.second)
        return np.asarray(z @ self.weights[:-1] + self.weights[-1])


def _scale(x: NDArray[Any]) -> tuple[Floats, Floats]:
    deviation = x.std(axis=0, dtype=np.float64)
    return x.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-6, deviation, 1.0)


def _standard(x: NDArray[Any], scale: tuple[Floats, Floats]) -> Floats:
    return np.clip((x - scale[0]) / scale[1], -6.0, 6.0)


def _expand(x: Floats) -> Floats:
    left, right = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, left] * x[:, right]], axis=1)
