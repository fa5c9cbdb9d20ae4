"""Evaluation of retrieval from a graph to a report: draws the split, trains without what is held out, ranks every method.

Knows: graphs, encoders, building, evaluation. Does not know: settings, the command line, the page.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.building import train_parts
from biobridge_rag.embedding import compare, embed
from biobridge_rag.encoders.cache import KeptEncoder, Rows, encode_groups, load_centre
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation.baselines import OURS, SIMPLE, KernelRidge, RetrieverScorer, check_baselines
from biobridge_rag.evaluation.calibration import assess_calibration
from biobridge_rag.evaluation.kge import KGE
from biobridge_rag.evaluation.learned import LEARNED
from biobridge_rag.evaluation.ranking import Encode, Scorer, rank
from biobridge_rag.evaluation.transfer import InverseScorer, TransferScorer, random_expectation
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.graph.splits import check_leakage, draw, hold_out, load_split, save_split
from biobridge_rag.retrieval.fusion import Fusion
from biobridge_rag.retrieval.likeness import Likeness
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import Encoder, Indices, KnowledgeGraph, Modality, NodeType, Progress, Relation, Split, Vectors

BASELINES = (*SIMPLE, *LEARNED, *KGE, "inverse")
_UNTRAINED = ("relation", "modality")
_TRANSFERRED = ("fused", "composed", "parallel", "sibling")


@dataclass(frozen=True)
class Training:
    """How bridges are trained for an evaluation; as the options of `build`."""

    kind: str = "default"
    epochs: int = 2
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Trained:
    """What is evaluated: a training graph, its tables, and the retriever's parts learned from it; no scorer on splits whose relations
    the retriever cannot score."""

    graph: KnowledgeGraph
    tables: Mapping[NodeType, Vectors]
    likeness: Mapping[NodeType, Likeness]
    scorer: TailScorer | None
    fusions: Mapping[Relation, Fusion]


def assess(
    trained: Trained,
    unseen: UnseenNodes,
    encode: Encode,
    baselines: Sequence[str],
    training: Training,
    progress: Progress,
    *,
    split: str,
    rows: Indices | None = None,
    leaky: bool = False,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The report of ranking.rank with the retriever and these baselines, trained on the same graph, and its "calibration";
    "baselines" says what the trained ones chose. On the splits `relation` and `modality` nothing was trained on what is asked:
    there the transfer scorers are ranked, beside "random", what a random order would reach. unseen, encode, rows: as in ranking.rank."""
    names = check_baselines(list(dict.fromkeys(baselines)), BASELINES)
    scorer = None if split in _UNTRAINED else trained.scorer
    scorers: list[Scorer] = []
    chosen: dict[str, Any] = {}
    if scorer is None:
        scorers.append(TransferScorer(trained.graph, trained.tables))
    else:
        own = (*OURS, *(name for name in ("analogues", "popularity") if name in names))
        scorers.append(RetrieverScorer(scorer, trained.fusions, own))
        if "kernel-ridge" in names:
            scorers.append(KernelRidge(trained.graph, trained.likeness, training.seed))
        if "inverse" in names and rows is not None:
            scorers.append(InverseScorer(trained.graph))
    for name in names:
        if name in LEARNED:
            from biobridge_rag.evaluation.learned import train_learned

            tables = dict(trained.tables)
            learned = train_learned(name, trained.graph, tables, seed=training.seed, device=training.device, progress=progress)
            scorers.append(learned)
            chosen[name] = learned.report
        elif name in KGE and rows is not None:
            from biobridge_rag.evaluation.kge import train_kge

            embedded = train_kge(name, trained.graph, seed=training.seed, device=training.device, progress=progress)
            scorers.append(embedded)
            chosen[name] = embedded.report
    left = [name for name in names if rows is None and (name in KGE or name == "inverse")]
    more = [f"Left out, as the tested heads have no training edge at all: {', '.join(left)}."] if left else []
    if useless := [name for name in names if scorer is None and name in (*SIMPLE, "inverse")]:
        more.append(f"Left out, as training has no edge of what is asked: {', '.join(useless)}.")
    report = rank(
        scorers, trained.graph, unseen, encode, split=split, progress=progress, rows=rows, untrained=scorer is None, leaky=leaky,
        notes=[*notes, *more], seed=training.seed, ours=_TRANSFERRED if scorer is None else OURS,
    )  # fmt: skip
    report["baselines"] = chosen
    if scorer is None:
        report["random"] = random_expectation(trained.graph, unseen, rows)
    else:
        report["calibration"] = assess_calibration(scorer, trained.fusions, unseen, encode, rows)
    return report


def assess_split(
    graph: KnowledgeGraph,
    encoders: Mapping[Modality, Encoder],
    name: str,
    what: str | None,
    fraction: float,
    baselines: Sequence[str],
    training: Training,
    progress: Progress,
    saved: Path | None = None,
    cache: Path | None = None,
    made: Mapping[Modality, Rows] | None = None,
) -> dict[str, Any]:
    """Holds heads out of the graph as the split `name` says, trains on the rest and assesses on them. what: the relation or node
    type that the splits `relation` and `modality` hold out; saved: a file that the split is read from, or written to where it is
    not there; cache, made: as cache and rows in embedding.embed. The report also has the ids of the "encoders" by modality. Raises
    LeakageError where a held-out edge or near twin stayed, InputError for bad names and shares and for a file with another split."""
    check_baselines(list(baselines), BASELINES)
    if not 0.0 < fraction <= 0.5:
        raise InputError(f"The share of heads to hold out must be above 0 and at most 0.5, not {fraction}.")
    with tempfile.TemporaryDirectory() as scratch:
        tables = {t: np.asarray(x) for t, x in embed(graph, Path(scratch), encoders, progress, cache, made).items()}
        if saved is not None and saved.exists():
            split = load_split(saved, graph)
            out = split.relation.key if split.relation else split.node_type
            if split.name != name or (what is not None and what != out):
                raise InputError(
                    f"The file {saved} holds the split {' of '.join(filter(None, (split.name, out)))}, which is not the one asked for.",
                    "Ask for that split, or name another file.",
                )
        else:
            split = draw(name, graph, fraction, training.seed, tables, what)
            if saved is not None:
                save_split(split, graph, saved)
        held = hold_out(graph, split)
        leaked = check_leakage(graph, split, held, tables)
        likeness = compare(graph, Path(scratch), tables, encoders, progress)
        if held.rows is None:
            likeness = _without(graph, likeness, split)
        kept = {t: like.table for t, like in likeness.items()}
        scorer, fusions = None, {}
        if name not in _UNTRAINED:
            folder = Path(scratch) / "bridge"
            parts = train_parts(
                held.graph, kept, likeness, training.kind, training.epochs, training.seed, training.device, progress, folder
            )
            scorer, fusions = TailScorer(held.graph, kept, parts.projections, parts.bridge, likeness), parts.fusions

        def encode(node_type: NodeType, positions: list[int]) -> Vectors:
            if held.rows is not None:
                return np.asarray(kept[node_type][held.rows[positions]], dtype=np.float32)
            centre = load_centre(Path(scratch) / "embeddings", node_type.slug)
            encoder = encoders[node_type.modality] if cache is None else KeptEncoder(encoders[node_type.modality], cache)
            return encode_groups(encoder, [held.unseen.nodes[i].values for i in positions], centre)

        notes = []
        if leaked:
            notes.append(
                f"Leaky: of {leaked:,} tested edges the inverse stays in training, so a look-up of it answers them. `fused` does so, as "
                "answers do: what the graph states in either direction comes first. `bridge` is the prediction without it."
            )
        report = assess(
            Trained(held.graph, kept, likeness, scorer, fusions), held.unseen, encode, baselines, training, progress,
            split=split.name, rows=held.rows, leaky=split.leaky, notes=notes,
        )  # fmt: skip
        used = {t.modality for t in graph.by_type}
        return report | {
            "encoders": {m.value: encoder.id for m, encoder in sorted(encoders.items()) if m in used},
            "history": history_of(Path(scratch) / "bridge"),
        }


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The epochs that a bridge's training recorded in `folder`: loss, validation MRR; empty where it records none."""
    record = folder / "training" / "training.json"
    return list(json.loads(record.read_text())["epochs"]) if record.exists() else []


def _without(graph: KnowledgeGraph, likeness: Mapping[NodeType, Likeness], split: Split) -> dict[NodeType, Likeness]:
    """Without the nodes that the split took out of the graph."""
    none: Indices = np.zeros(0, np.int64)
    return {t: like.kept(np.flatnonzero(~np.isin(graph.by_type[t], split.held.get(t, none)))) for t, like in likeness.items()}
