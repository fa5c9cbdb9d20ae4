"""Trains the default bridge: a closed-form start, refined by InfoNCE on leave-one-out predictions.

Knows: the graph's edges, embedding tables, torch. Does not know: encoders, the store, evaluation.

1. Coordinates. Every node of a type gets a unit vector: its frozen embedding's principal components (whitened) plus a random
   code, so that likeness carries over and near twins stay apart (Johnson & Lindenstrauss: random codes are nearly orthogonal).
2. Closed form. For each relation, kernel ridge regression from heads to the coordinates of their tails, decorrelated.
3. InfoNCE. A low-rank map, a shift and the weight of the projected head are trained for each relation against all tails of
   the type. Their inputs are the exact leave-one-out predictions of step 2, so what is optimised is the ranking for heads
   that the regression has not seen. The refinement is kept where it ranks better on heads held out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from biobridge_rag.bridge.attention import powered
from biobridge_rag.bridge.loss import info_nce
from biobridge_rag.bridge.model import POWER, KernelBridge, RelationWeights, kernel, unit
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.ranks import reciprocal_ranks
from biobridge_rag.types import Indices, KnowledgeGraph, Progress, Relation, Vectors

MAX_HEADS, SMALL = 8192, 2000
MAX_PAIRS = 12_000  # nodes of a type up to which all pairs are compared: 12,000 x 12,000 halves take 288 MB
_BATCH = 256
_LEAST_STEPS = 20
_COMPONENTS = 256
_LEAST_GAMMA = 0.01  # a smaller weight of the projected head changes nothing but the time of a query


@dataclass(frozen=True)
class TrainingOptions:
    """hidden: width of the bridge space (None: 256 below 2,000 nodes, else 1024); epochs: InfoNCE passes over the heads."""

    hidden: int | None = None
    epochs: int = 2
    seed: int = 0
    ridge: float = 1.0
    temperature: float = 0.05
    learning_rate: float = 3e-4
    rank: int = 64


@dataclass(frozen=True)
class LeftOut:
    """Honest predictions for training heads: rows (h,) in the head type's table, transforms (h, hidden), each made without
    that head's own edges."""

    rows: Indices
    transforms: Vectors


def coordinates(x: Vectors, hidden: int, rng: np.random.Generator) -> Vectors:
    """(n, d) embeddings -> (n, hidden) unit vectors: at most 256 whitened principal components (randomised: Halko et al. 2011, arXiv
    0909.4061) plus a random code."""
    import torch

    centred = np.asarray(x, dtype=np.float32) - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    n, d = centred.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        left, values, _ = torch.svd_lowrank(torch.from_numpy(centred), q=min(hidden, _COMPONENTS, n, d), niter=3)
    keep = values.numpy() > 3e-3 * max(float(values.max()), 1e-12)
    whitened = unit(np.asarray(left.numpy()[:, keep], dtype=np.float32))
    code = rng.standard_normal((n, hidden)).astype(np.float32) / np.sqrt(hidden)
    code[:, : whitened.shape[1]] += whitened
    return unit(code)


@contextmanager
def _one_thread(small: bool) -> Iterator[None]:
    """One thread for small matrices: faster than many, on a busy machine by far, and the same bits whatever the cores."""
    if not small:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def train_default(
    graph: KnowledgeGraph,
    tables: Mapping[str, Vectors],
    options: TrainingOptions,
    progress: Progress,
) -> tuple[KernelBridge, dict[Relation, LeftOut]]:
    """Trains on every relation of the graph. tables: node type -> (n_t, d_t) unit embeddings in the order of the graph.

    Returns the bridge and, for each relation, the honest predictions that fusion and calibration are learned from.
    """
    with _one_thread(len(graph.nodes) < SMALL):
        return _train(graph, tables, options, progress)


def _train(
    graph: KnowledgeGraph,
    tables: Mapping[str, Vectors],
    options: TrainingOptions,
    progress: Progress,
) -> tuple[KernelBridge, dict[Relation, LeftOut]]:
    if not graph.n_edges:
        raise InputError("The graph has no edges, so no bridge can be trained.", "Check the counts of skipped rows.")
    hidden = options.hidden or (256 if len(graph.nodes) < SMALL else 1024)
    anchors = {t: np.asarray(x, dtype=np.float32) for t, x in sorted(tables.items())}
    node_values, projections, cosines = {}, {}, {}
    for i, (node_type, x) in enumerate(anchors.items()):
        progress("projecting node types", i, len(anchors))
        rng = np.random.default_rng([options.seed, i])
        target = coordinates(x, hidden, rng)
        cosines[node_type] = unit(x) @ unit(x).T if len(x) <= MAX_PAIRS else None
        values, projected = _project_type(x, target, cosines[node_type])
        node_values[node_type], projections[node_type] = values, projected
    decorrelate = {t: _inverse_gram(z) for t, z in projections.items()}
    relations, left_out = {}, {}
    todo = [r for r in graph.relations if len(graph.edges(r)[0])]
    for i, relation in enumerate(todo):
        progress("training relations", i, len(todo))
        like = cosines[relation.head_type]
        found = _train_relation(graph, relation, anchors, like, projections, decorrelate[relation.tail_type], options, i)
        relations[relation], left_out[relation] = found
    progress("training relations", len(todo), len(todo))
    return KernelBridge(anchors, node_values, relations, options.ridge), left_out


def _kernel_of(x: Vectors, like: Vectors | None, rows: Indices) -> Vectors:
    """The kernel between `rows`, read off the cosines (n, n) where they are there."""
    return kernel(x[rows], x[rows]) if like is None else powered(like[np.ix_(rows, rows)], POWER)


def _project_type(x: Vectors, target: Vectors, like: Vectors | None) -> tuple[Vectors, Vectors]:
    """Values U with phi(x) U close to `target` (ridge 0.1), and the unit projections they give. like: cosines (n, n) or None."""
    n = len(x)
    rows = np.arange(n) if n <= 2 * MAX_HEADS else np.sort(np.random.default_rng(n).choice(n, 2 * MAX_HEADS, replace=False))
    gram = _kernel_of(x, like, rows)
    gram[np.diag_indices_from(gram)] += 0.1
    values = np.zeros_like(target)
    values[rows] = linalg.solve(gram, target[rows], assume_a="pos", overwrite_a=True, check_finite=False)
    blocks = (slice(i, i + 2048) for i in range(0, n, 2048))
    projected = np.concatenate([unit((kernel(x[b], x) if like is None else powered(like[b], POWER)) @ values) for b in blocks])
    return values, projected


def _inverse_gram(z: Vectors) -> Vectors:
    gram = z.T @ z
    gram[np.diag_indices_from(gram)] += 1.0
    return inverse_of(gram)


def inverse_of(gram: Vectors) -> Vectors:
    """Inverse of a symmetric positive-definite float32 matrix by Cholesky, in half the time of a general inverse. Overwrites it. Raises
    InputError for numbers that are not finite."""
    factor, failed = linalg.lapack.spotrf(gram.T, lower=1, overwrite_a=1)
    inverse, failed_too = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise InputError("The graph's embeddings give a matrix that cannot be inverted.", "Check them for values that are not finite.")
    lower = np.tril(inverse)
    return np.asarray(lower + np.tril(lower, -1).T, dtype=np.float32)


def _train_relation(
    graph: KnowledgeGraph,
    relation: Relation,
    anchors: Mapping[str, Vectors],
    like: Vectors | None,
    projections: Mapping[str, Vectors],
    decorrelate: Vectors,
    options: TrainingOptions,
    index: int,
) -> tuple[RelationWeights, LeftOut]:
    x, tails = anchors[relation.head_type], projections[relation.tail_type]
    edges = incidence(graph, relation)
    rows = np.flatnonzero(np.diff(edges.indptr))
    rng = np.random.default_rng([options.seed, 1000 + index])
    if len(rows) > MAX_HEADS:
        rows = np.sort(rng.choice(rows, MAX_HEADS, replace=False))
    target = (edges[rows] @ tails) @ decorrelate
    gram = _kernel_of(x, like, rows)
    gram[np.diag_indices_from(gram)] += options.ridge
    inverse = inverse_of(gram)
    leverage = np.diag(inverse).copy()
    values = inverse @ target
    honest = target - values / leverage[:, None]
    scale = 1.0 / max(float(np.linalg.norm(honest, axis=1).mean()), 1e-12)
    values, honest = values * scale, honest * scale
    heads_projected = projections[relation.head_type][rows]
    refined = _refine(honest, heads_projected, tails, edges[rows], options, int(rng.integers(2**31)))
    weights = RelationWeights(rows, np.asarray(values @ refined.map, np.float32), refined.shift, refined.gamma, leverage)
    return weights, LeftOut(rows, honest)


@dataclass(frozen=True)
class _Refinement:
    map: Vectors
    shift: Vectors
    gamma: float


def _refine(
    honest: Vectors, projected: Vectors, tails: Vectors, edges: sparse.csr_matrix, options: TrainingOptions, seed: int
) -> _Refinement:
    """InfoNCE on leave-one-out predictions. Trained on half of the heads first, and kept, then trained on all, only where it ranks
    the tails of the other half better than the closed form does."""
    hidden = tails.shape[1]
    closed = _Refinement(np.eye(hidden, dtype=np.float32), np.zeros(hidden, np.float32), 0.0)
    n = len(honest)
    if n < 10 or options.epochs < 1:
        return closed
    half = np.random.default_rng(seed).permutation(n) % 2 == 0
    matrix, shift, gamma = _fit(honest[half], projected[half], tails, edges[half], options, seed)
    refined = honest[~half] @ matrix + shift + gamma * projected[~half]
    if _mean_reciprocal_rank(refined, tails, edges[~half]) <= _mean_reciprocal_rank(honest[~half], tails, edges[~half]):
        return closed
    return _Refinement(*_fit(honest, projected, tails, edges, options, seed + 1))


def _fit(
    x: Vectors, projected: Vectors, tails: Vectors, edges: sparse.csr_matrix, options: TrainingOptions, seed: int
) -> tuple[Vectors, Vectors, float]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    hidden = tails.shape[1]
    inputs, heads, candidates = torch.from_numpy(x), torch.from_numpy(projected), torch.from_numpy(tails)
    down = (torch.randn(hidden, options.rank, generator=generator) * 0.01).requires_grad_()
    up = torch.zeros(options.rank, hidden, requires_grad=True)
    shift = torch.zeros(hidden, requires_grad=True)
    gamma = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([down, up, shift, gamma], lr=options.learning_rate)
    n = len(x)
    steps = max(options.epochs * -(-n // _BATCH), _LEAST_STEPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.zeros(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) == 0:
            order = torch.randperm(n, generator=generator)
        batch, order = order[:_BATCH].numpy(), order[_BATCH:]
        keep = torch.rand(len(batch), hidden, generator=generator) >= 0.1
        h = inputs[batch] * keep / 0.9
        query = torch.nn.functional.normalize(h + (h @ down) @ up + shift + gamma * heads[batch], dim=1)
        block = edges[batch].tocoo()
        rows, columns = torch.from_numpy(block.row.astype(np.int64)), torch.from_numpy(block.col.astype(np.int64))
        loss = info_nce(query @ candidates.T / options.temperature, rows, columns)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        matrix = torch.eye(hidden) + down @ up
    weight = float(gamma.detach())
    return matrix.numpy(), shift.detach().numpy(), weight if abs(weight) >= _LEAST_GAMMA else 0.0


def _mean_reciprocal_rank(queries: Vectors, tails: Vectors, edges: sparse.csr_matrix) -> float:
    """Filtered, over all tails; the mean over edges."""
    blocks = (slice(i, i + 512) for i in range(0, len(queries), 512))
    return float(np.concatenate([reciprocal_ranks(unit(queries[b]) @ tails.T, edges[b]) for b in blocks]).mean())
