"""How far the stated probabilities hold, on heads that nothing was fitted on.

Knows: parts of evidence, fusion, unseen nodes. Does not know: how they were trained, files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.retrieval.fusion import DEFAULT, Fusion
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import Indices, NodeType, Relation

if TYPE_CHECKING:
    from biobridge_rag.evaluation.ranking import Encode
    from biobridge_rag.graph.primekg import UnseenNodes

TOP = 20
_BINS = 10
_BLOCK = 64


def expected_calibration_error(probability: NDArray[np.float64], true: NDArray[np.bool_], bins: int = _BINS) -> dict[str, Any]:
    """{"ece", "brier", "n", "bins": [{"predicted", "observed", "n"}]}. ece: the mean distance between stated probability and share
    that was true, over bins of equal width, weighted by how many fall in each (Guo et al. 2017, arXiv 1706.04599, eq. 3); brier:
    the mean squared error (Brier 1950). Both in [0, 1], lower is better. probability, true: (n,)."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    n = np.bincount(place, minlength=bins)
    predicted = np.bincount(place, weights=probability, minlength=bins) / np.maximum(n, 1)
    observed = np.bincount(place, weights=true, minlength=bins) / np.maximum(n, 1)
    rows = zip(predicted.tolist(), observed.tolist(), n.tolist(), strict=True)
    return {
        "ece": round(float((n * np.abs(predicted - observed)).sum() / max(n.sum(), 1)), 6),
        "brier": round(float(((probability - true) ** 2).mean()), 6) if len(true) else 0.0,
        "n": int(n.sum()),
        "bins": [{"predicted": round(p, 4), "observed": round(o, 4), "n": k} for p, o, k in rows if k],
    }


def assess_calibration(
    scorer: TailScorer, fusions: Mapping[Relation, Fusion], unseen: UnseenNodes, encode: Encode, rows: Indices | None = None
) -> dict[str, Any]:
    """The probabilities of the best 20 tails of every tested head, as an answer shows them, against what is true; over all
    relations, and "relations" for each alone. Edges that the graph does not know count as false. rows: as in ranking.rank."""
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
    for relation, (heads, tails) in sorted(unseen.edges.items()):
        if not scorer.view(relation).edges.nnz:
            continue
        fusion, distinct = fusions.get(relation, DEFAULT), np.unique(heads)
        truth = set(zip(heads.tolist(), tails.tolist(), strict=True))
        chances: list[float] = []
        hits: list[bool] = []
        for part in (distinct[i : i + _BLOCK] for i in range(0, len(distinct), _BLOCK)):
            values = [unseen.nodes[i].values for i in part]
            asked = Heads(encode(NodeType(relation.head_type), part.tolist()), None if rows is None else rows[part], values)
            parts = scorer.parts(asked, relation)
            scores = fusion.score(parts)
            probability = fusion.probability(scores, parts)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
            chances += np.take_along_axis(probability, best, axis=1).ravel().tolist()
            hits += [(int(head), int(tail)) in truth for head, row in zip(part, best, strict=True) for tail in row]
        found[relation.key] = np.asarray(chances, np.float64), np.asarray(hits, bool)
    if not found:
        return {}
    over = expected_calibration_error(np.concatenate([p for p, _ in found.values()]), np.concatenate([t for _, t in found.values()]))
    alone = {key: expected_calibration_error(*pair) for key, pair in found.items()}
    return over | {"relations": {key: {"ece": row["ece"], "brier": row["brier"], "n": row["n"]} for key, row in alone.items()}}
