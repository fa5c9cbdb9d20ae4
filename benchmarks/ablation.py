"""What each piece of the retriever adds: the same held-out nodes ranked by the whole and by parts of it, macro MRR and the ratio.

`python benchmarks/ablation.py [--graph DIR] [--seed 0] [--home HOME --unseen DIR] [--report DIR]` (default ../shared/realkg; says so
and stops where it is not there). Cuts nodes out of the graph and builds a home from the rest, as realkg.py does; --home and --unseen
take what it has kept (--keep). One more bridge is trained, without InfoNCE.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from realkg import cut, run

from biobridge_rag.bridge.attention import attend, weigh_edges
from biobridge_rag.bridge.model import POWER, unit
from biobridge_rag.bridge.training import TrainingOptions, train_default
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import encode_groups
from biobridge_rag.evaluation.baselines import KernelRidge, RetrieverScorer
from biobridge_rag.evaluation.ranking import rank
from biobridge_rag.evaluation.report import write_report
from biobridge_rag.graph.primekg import UnseenNodes, load_unseen
from biobridge_rag.homes import Home, open_home
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import Encoder, Modality, NodeType, Relation, Vectors


def say(what: str, done: int, total: int) -> None:
    print(f"\r{what}: {done} of {total}   ", end="\n" if done == total else "", flush=True)


@dataclass(frozen=True)
class Variant:
    """Scores of one way of ranking, under its name."""

    name: str
    run: Callable[[Heads, Relation], Vectors]

    @property
    def methods(self) -> tuple[str, ...]:
        return (self.name,)

    def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
        return {self.name: self.run(heads, relation)}


def attention(home: Home, scorer: TailScorer, likeness: Mapping[NodeType, Likeness]) -> Callable[[Heads, Relation], Vectors]:
    """The bridge's attention by these similarities."""

    def score(heads: Heads, relation: Relation) -> Vectors:
        view, like = scorer.view(relation), likeness[NodeType(relation.head_type)]
        weights = attend(like.of(heads), view.heads, like.among, POWER, home.bridge.ridge)  # type: ignore[attr-defined]
        return weigh_edges(weights, view.edges)

    return score


class Meaning(Likeness):
    """Likeness of texts by MiniLM alone."""

    def __init__(self, groups: list[tuple[str, ...]]) -> None:
        self._encoder = make_encoder(Modality.TEXT, "minilm")
        super().__init__(encode_groups(self._encoder, groups))

    def of(self, heads: Heads) -> Vectors:
        assert heads.values is not None
        return super().of(Heads(encode_groups(self._encoder, list(heads.values))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "realkg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--unseen", type=Path)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    if not given.home and not (given.graph / "nodes.csv.gz").exists():
        print(f"{given.graph} is not there: nothing measured. Give --graph DIR with gzipped tables in PrimeKG's layout.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        path, unseen_at = given.home, given.unseen
        if path is None:
            folder = Path(scratch)
            cut(given.graph, folder, given.seed)
            path, unseen_at = folder / "home", folder / "unseen"
            run("build", "--graph", str(folder / "graph"), "--home", str(path))
        home = open_home(path)
        try:
            compare(home, load_unseen(unseen_at, home.graph), given.report)
        finally:
            home.index.close()


def compare(home: Home, unseen: UnseenNodes, report: Path | None) -> None:
    scorer = TailScorer(home.graph, home.tables, home.projections, home.bridge, home.likeness)
    cosines = {t: Likeness(x) for t, x in home.tables.items()}
    diseases = [home.graph.nodes[i].values for i in home.graph.by_type[NodeType.DISEASE]]
    meaning = cosines | {NodeType.DISEASE: Meaning(diseases)}
    tables = {t.value: np.asarray(x) for t, x in home.tables.items()}
    closed, _ = train_default(home.graph, tables, TrainingOptions(epochs=0), say)
    projected = {t: unit(closed.project(x, t.value)) for t, x in home.tables.items()}
    shared = {t: np.asarray(x, dtype=np.float32) for t, x in home.projections.items()}
    variants = [
        Variant("attention", attention(home, scorer, home.likeness)),
        Variant("... and proteins by k-mers instead of alignment", attention(home, scorer, cosines)),
        Variant("... and texts by MiniLM without n-grams", attention(home, scorer, meaning)),
        Variant(
            "transform (what the store is searched with)",
            lambda h, r: unit(home.bridge.transform(h.x, r)) @ shared[NodeType(r.tail_type)].T,
        ),
        Variant("transform without InfoNCE", lambda h, r: unit(closed.transform(h.x, r)) @ projected[NodeType(r.tail_type)].T),
    ]
    encoders: dict[Modality, Encoder] = {}

    def encode(node_type: NodeType, positions: list[int]) -> Vectors:
        modality = node_type.modality
        if modality not in encoders:
            encoders[modality] = make_encoder(modality, home.manifest.encoder_names[modality.value])
        return encode_groups(encoders[modality], [unseen.nodes[i].values for i in positions])

    fused = RetrieverScorer(scorer, home.fusions, ("fused", "analogues", "popularity"))
    found = rank(
        [fused, *variants, KernelRidge(home.graph, home.likeness)], home.graph, unseen, encode, split="unseen", progress=say,
        ours=("fused", *(v.name for v in variants)),
    )  # fmt: skip
    macro, intervals = found["macro"], found["macro_ci"]
    order = ["fused", *(v.name for v in variants), "kernel-ridge", "analogues", "popularity"]
    print(f"\n| macro MRR of {len(found['macro_over'])} relations | MRR | 95 % interval | against fused |\n| --- | --- | --- | --- |")
    for name in order:
        low, high = intervals[name]["mrr"]
        print(f"| {name} | {macro[name]['mrr']:.3f} | {low:.3f} to {high:.3f} | {macro[name]['mrr'] / macro['fused']['mrr']:.3f} |")
    if report:
        rows = [{"name": name, "mrr": macro[name]["mrr"], "ci": intervals[name]["mrr"]} for name in order]
        write_report(found, report, ablation=rows)


if __name__ == "__main__":
    main()
