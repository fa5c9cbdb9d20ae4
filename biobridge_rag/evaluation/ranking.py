"""The ranking protocol: held-out heads, all tails of the type as candidates, filtered, mean rank on ties.

Knows: scorers, held-out nodes with their edges, the training graph's sizes. Does not know: how methods were trained, files,
settings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.evaluation.comparison import PerHead, compare
from biobridge_rag.evaluation.metrics import METRICS, gains, mean_of, named
from biobridge_rag.graph.ranks import block_ranks
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Progress, Relation, Vectors

if TYPE_CHECKING:
    from biobridge_rag.graph.primekg import UnseenNodes

Encode = Callable[[NodeType, list[int]], Vectors]
MIN_HEADS = 20
OURS = ("fused", "bridge")
PROTOCOL = "unseen heads; all seen tails of the type; filtered; mean rank on ties; mean over triples"
IN_GRAPH = "held-out edges of heads in the graph; all other nodes of the tail's type; filtered; mean rank on ties; mean over triples"
BUDGET = 256 * 2**20  # bytes of scores that one block of heads may take, all methods together
_ENCODED = 512  # heads handed to the encoder at once


class Scorer(Protocol):
    """What is compared: one or more methods, each with a score for every tail of a relation's tail type."""

    @property
    def methods(self) -> tuple[str, ...]: ...

    def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
        """Method -> (n, n_tails) scores of all tails in the order of graph.by_type, higher is better, free of NaN. A method that
        cannot score the relation is left out."""
        ...


@dataclass(frozen=True)
class _Task:
    """The queries of one relation: heads (n,) distinct positions among the unseen nodes, starts (n + 1,) where each one's true
    tails begin in `tails` (m,)."""

    relation: Relation
    heads: Indices
    starts: Indices
    tails: Indices
    n_tails: int


def rank(
    scorers: Sequence[Scorer],
    graph: KnowledgeGraph,
    unseen: UnseenNodes,
    encode: Encode,
    *,
    split: str,
    progress: Progress,
    rows: Indices | None = None,
    untrained: bool = False,
    leaky: bool = False,
    notes: Sequence[str] = (),
    ours: Sequence[str] = OURS,
    resamples: int = 1000,
    seed: int = 0,
    budget: int = BUDGET,
) -> dict[str, Any]:
    """The report of `evaluate retrieval`: every method of every scorer on the same heads, candidates and filter.

    graph: what training saw; unseen: the tested nodes and their edges, all of which filter each other; encode(node type, positions
    in unseen.nodes) -> (n, d) unit frozen vectors, called once a node. rows: (n_unseen,) each tested node's row in the graph's
    table of its type, where they are nodes of the graph; then a head is no candidate of its own, unless an edge says so. untrained:
    also rank relations of which the graph has no edge, which are counted as skipped otherwise. budget: bytes of scores at a time
    (float32, all methods together; one head at least), which alone bounds the number of heads in a block.

    The macro mean is over relations between different node types with 20 or more heads (over all where none has as many), the
    micro mean over all ranked triples; a method that misses one of their relations is left out of the mean, and `missing` lists
    what each method could not score. Intervals and tests: see comparison; `ours` are set against the best of the other methods.

    Raises InputError for two methods of one name or a bad number, BiobridgeError where scores hold NaN or have another shape.
    """
    methods = [m for scorer in scorers for m in scorer.methods]
    if not methods or len(set(methods)) < len(methods):
        raise InputError("Every method that is ranked needs a name of its own.", f"Given: {', '.join(methods) or 'none'}.")
    if resamples < 1 or budget < 1:
        raise InputError(f"The resamples ({resamples}) and the memory for scores ({budget}) must be 1 or more.")
    skipped = dict(unseen.skipped)
    tasks = []
    for relation, (heads, tails) in sorted(unseen.edges.items()):
        if not len(heads):
            continue
        if not untrained and not len(graph.edge_numbers(relation)):
            skipped[f"edge of a relation that training never saw: {relation}"] = len(heads)
            continue
        tasks.append(_task(relation, heads, tails, len(graph.by_type[NodeType(relation.tail_type)])))
    vectors = _Encoded(tasks, encode, progress)
    reported, tables, missing = [], [], {m: list[str]() for m in methods}
    for i, task in enumerate(tasks):
        progress("ranking relations", i, len(tasks))
        table = _rank_relation(scorers, task, vectors, unseen.nodes, rows, max(1, budget // (4 * len(methods) * task.n_tails)))
        if table is None:
            skipped[f"edge of a relation that no method can score: {task.relation}"] = len(task.tails)
            continue
        for m in methods:
            if m not in table.methods:
                missing[m].append(task.relation.key)
        found = compare([table], ours, resamples, [seed, zlib.crc32(task.relation.key.encode())])
        reported.append(_row(task, table) | found)
        tables.append(table)
    progress("ranking relations", len(tasks), len(tasks))
    large = [i for i, r in enumerate(reported) if r["n_heads"] >= MIN_HEADS and r["head_type"] != r["tail_type"]]
    large = large or list(range(len(reported)))
    whole = [m for m in methods if all(m in tables[i].methods for i in large)]
    every = [m for m in methods if all(m in t.methods for t in tables)] if tables else []
    over = compare([tables[i].only(whole) for i in large], ours, resamples, seed) if large and whole else {}
    return {
        "protocol": PROTOCOL if rows is None else IN_GRAPH,
        "split": split,
        "n_unseen": len(unseen.nodes),
        "relations": reported,
        "macro_over": [f"{r['head_type']}|{r['relation']}|{r['tail_type']}" for r in (reported[i] for i in large)],
        "macro": {m: mean_of([reported[i]["methods"][m] for i in large]) for m in whole},
        "skipped": skipped,
        "micro": _micro(tables, every),
        "macro_ci": over.get("ci", {}),
        "macro_best_baseline": over.get("best_baseline"),
        "macro_against_best_baseline": over.get("against_best_baseline", {}),
        "missing": {m: keys for m, keys in missing.items() if keys},
        "leaky": leaky,
        "notes": list(notes),
    }


def _task(relation: Relation, heads: Indices, tails: Indices, n_tails: int) -> _Task:
    pairs = np.unique(np.asarray(heads, dtype=np.int64) * n_tails + tails)
    distinct, starts = np.unique(pairs // n_tails, return_index=True)
    return _Task(relation, distinct, np.append(starts, len(pairs)), pairs % n_tails, n_tails)


class _Encoded:
    """The frozen vectors of the tested heads, each encoded once although it may be the head of many relations."""

    def __init__(self, tasks: Sequence[_Task], encode: Encode, progress: Progress) -> None:
        types = sorted({t.relation.head_type for t in tasks})
        self._at = {k: np.unique(np.concatenate([t.heads for t in tasks if t.relation.head_type == k])) for k in types}
        self._vectors: dict[str, Vectors] = {}
        total, done = sum(map(len, self._at.values())), 0
        for name, positions in self._at.items():
            parts = []
            for at in range(0, len(positions), _ENCODED):
                progress("encoding heads", done, total)
                part = [int(p) for p in positions[at : at + _ENCODED]]
                parts.append(np.asarray(encode(NodeType(name), part), dtype=np.float32))
                done += len(part)
            self._vectors[name] = np.concatenate(parts)

    def of(self, node_type: str, positions: Indices) -> Vectors:
        return self._vectors[node_type][np.searchsorted(self._at[node_type], positions)]


def _rank_relation(
    scorers: Sequence[Scorer], task: _Task, vectors: _Encoded, nodes: Sequence[Node], rows: Indices | None, block: int
) -> PerHead | None:
    """What each head adds to the metrics of each method that scores the relation; None where no method does."""
    relation = task.relation
    same = rows is not None and relation.head_type == relation.tail_type
    scored: tuple[str, ...] | None = None
    sums = []
    for at in range(0, len(task.heads), block):
        part = task.heads[at : at + block]
        own = None if rows is None else rows[part]
        heads = Heads(vectors.of(relation.head_type, part), own, [nodes[i].values for i in part])
        starts = task.starts[at : at + len(part) + 1]
        tails = task.tails[starts[0] : starts[-1]]
        starts = starts - starts[0]
        known = None
        if same and own is not None:
            starts, tails, known = _with_itself(starts, tails, own)
        names: list[str] = []
        for scorer in scorers:
            given = scorer.score(heads, relation)
            _check(given, scorer.methods, relation, (len(part), task.n_tails))
            for method in (m for m in scorer.methods if m in given):
                gained = gains(block_ranks(given[method], starts, tails))
                sums.append(np.add.reduceat(gained if known is None else gained * known[:, None], starts[:-1], axis=0))
                names.append(method)
        if scored is not None and scored != tuple(names):
            raise BiobridgeError(f"The methods that score {relation} change between blocks of heads.")
        scored = tuple(names)
        if not scored:
            return None
    assert scored is not None
    n = len(scored)
    stacked = np.concatenate([np.stack(sums[i : i + n], axis=1) for i in range(0, len(sums), n)])
    return PerHead(relation.head_type, task.heads, np.diff(task.starts).astype(np.float64), stacked, scored)


def _with_itself(starts: Indices, tails: Indices, own: Indices) -> tuple[Indices, Indices, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Each head added to what is filtered for it, so that it is no candidate: starts, tails and which of them are tested."""
    width = int(max(tails.max(), own.max())) + 1
    head = np.repeat(np.arange(len(own)), np.diff(starts))
    tested = head * width + tails
    pairs = np.union1d(tested, np.arange(len(own)) * width + own)
    return np.searchsorted(pairs, np.arange(len(own) + 1) * width), pairs % width, np.isin(pairs, tested)


def _check(given: Mapping[str, Vectors], methods: Sequence[str], relation: Relation, shape: tuple[int, int]) -> None:
    """NaN is never ranked: it compares with nothing, and would take the best rank or the worst by accident."""
    for method, scores in given.items():
        if method not in methods:
            raise BiobridgeError(f"A scorer of {', '.join(methods)} gave scores of {method!r} for {relation}.")
        if scores.shape != shape:
            raise BiobridgeError(f"The scores of {method} for {relation} have the shape {scores.shape}, not {shape}.")
        if np.isnan(scores.min()):
            help = "Check the embeddings and weights that it reads."
            raise BiobridgeError(f"The scores of {method} for {relation} hold NaN and cannot be ranked.", help)


def _row(task: _Task, table: PerHead) -> dict[str, Any]:
    return {
        "head_type": task.relation.head_type,
        "relation": task.relation.name,
        "tail_type": task.relation.tail_type,
        "n_heads": len(task.heads),
        "n_triples": len(task.tails),
        "n_candidates": task.n_tails,
        "methods": {m: named(values) for m, values in zip(table.methods, table.means, strict=True)},
    }


def _micro(tables: Sequence[PerHead], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    if not tables or not methods:
        return {}
    sums = np.sum([t.only(methods).sums.sum(axis=0) for t in tables], axis=0)
    means = sums / sum(t.triples.sum() for t in tables)
    return {m: named(values) for m, values in zip(methods, means.reshape(-1, len(METRICS)), strict=True)}
