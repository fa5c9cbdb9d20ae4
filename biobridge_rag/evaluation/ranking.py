"""The ranking protocol: unseen heads, all seen tails of the type as candidates, filtered, mean rank on ties.

Knows: a scorer and unseen nodes. Does not know: how they were trained, files, settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from biobridge_rag.evaluation.baselines import Scorer
from biobridge_rag.evaluation.metrics import filtered_ranks, mean_of, summarise
from biobridge_rag.types import Indices, NodeType, Relation, Vectors

if TYPE_CHECKING:
    from biobridge_rag.graph.primekg import UnseenNodes

Progress = Callable[[str, int, int], None]
MIN_HEADS = 20
PROTOCOL = "unseen heads; all seen tails of the type; filtered; mean rank on ties; mean over triples"
_BLOCK = 32


def rank_unseen(
    scorer: Scorer,
    unseen: UnseenNodes,
    encode: Callable[[NodeType, list[int]], Vectors],
    methods: list[str],
    split: str,
    progress: Progress,
) -> dict[str, Any]:
    """The report of `evaluate retrieval`. encode(node type, positions in unseen.nodes) -> (n, dim) frozen vectors.

    Relations that the training graph does not hold are counted as skipped. The macro mean is over relations between different
    node types with 20 or more unseen heads (over all relations where none has as many).
    """
    skipped = dict(unseen.skipped)
    rows = []
    todo = sorted(unseen.edges.items())
    for i, (relation, (heads, tails)) in enumerate(todo):
        progress("ranking relations", i, len(todo))
        if not scorer.edges(relation).nnz:
            skipped[f"edge of a relation that training never saw: {relation}"] = len(heads)
            continue
        rows.append(_rank_relation(scorer, relation, heads, tails, encode, methods))
    progress("ranking relations", len(todo), len(todo))
    large = [r for r in rows if r["n_heads"] >= MIN_HEADS and r["head_type"] != r["tail_type"]] or rows
    return {
        "protocol": PROTOCOL,
        "split": split,
        "n_unseen": len(unseen.nodes),
        "relations": rows,
        "macro_over": [f"{r['head_type']}|{r['relation']}|{r['tail_type']}" for r in large],
        "macro": {m: mean_of([r["methods"][m] for r in large]) for m in methods},
        "skipped": skipped,
    }


def _rank_relation(
    scorer: Scorer, relation: Relation, heads: Indices, tails: Indices, encode: Callable[[NodeType, list[int]], Vectors], methods: list[str]
) -> dict[str, Any]:
    order = np.lexsort((tails, heads))
    heads, tails = heads[order], tails[order]
    distinct, starts = np.unique(heads, return_index=True)
    truth = np.split(tails, starts[1:])
    ranks: dict[str, list[float]] = {m: [] for m in methods}
    for at in range(0, len(distinct), _BLOCK):
        part = distinct[at : at + _BLOCK]
        scores = scorer.score(encode(NodeType(relation.head_type), [int(p) for p in part]), relation)
        for k in range(len(part)):
            for method in methods:
                ranks[method].extend(filtered_ranks(scores[method][k], truth[at + k]))
    return {
        "head_type": relation.head_type,
        "relation": relation.name,
        "tail_type": relation.tail_type,
        "n_heads": len(distinct),
        "n_triples": len(heads),
        "n_candidates": scorer.edges(relation).shape[1],
        "methods": {m: summarise(r) for m, r in ranks.items()},
    }
