"""Knowledge-graph embeddings on the `paper` split: each model's filtered MRR beside popularity, and their ratio.

`python benchmarks/kge.py [--graph starter|DIR] [--epochs N] [--models a,b] [--seed N] [--fraction .1] [--dim N] [--batch N]
[--shared-ids] [--device cpu|cuda] [--out FILE]`. DIR holds tables in PrimeKG's layout. Holds out the edges of a share of the heads,
searches and trains every model on the rest, ranks all on the same heads, and prints a Markdown table; --out takes the whole report
as JSON. The split is leaky by its nature: the inverse of a test edge is in training, and these models read it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.evaluation.kge import KGE, KGEScorer, Options, train_kge
from biobridge_rag.evaluation.ranking import rank
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.primekg import load_graph
from biobridge_rag.graph.splits import HeldOut, check_leakage, draw, hold_out
from biobridge_rag.graph.starter import load_starter
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import KnowledgeGraph, Relation, Vectors


@dataclass(frozen=True)
class Popularity:
    """A tail's number of training edges of the relation."""

    graph: KnowledgeGraph
    methods: tuple[str, ...] = ("popularity",)

    def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
        counts = np.asarray(incidence(self.graph, relation).sum(axis=0), dtype=np.float32).ravel()
        return {"popularity": np.broadcast_to(counts, (len(heads.x), len(counts)))}


def say(what: str, done: int, total: int) -> None:
    print(f"\r{what}: {done} of {total}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)


def untrained_heads(scorer: KGEScorer, held: HeldOut) -> int:
    """Distinct tested heads that no training edge touches."""
    assert held.rows is not None
    tested = np.unique(np.concatenate([heads for heads, _ in held.unseen.edges.values()]))
    return sum(scorer.untrained(held.unseen.nodes[i].type, held.rows[[i]]) for i in tested)


def run(given: argparse.Namespace) -> None:
    names = given.models.split(",") if given.models else list(KGE)
    for name in names:
        if name not in KGE:
            raise InputError(f"There is no graph embedding {name!r}.", f"Valid names: {', '.join(KGE)}.")
    options = Options(dim=given.dim, epochs=given.epochs, batch=given.batch, directed=not given.shared_ids)
    graph = load_starter() if given.graph == "starter" else load_graph(Path(given.graph))
    split = draw("paper", graph, given.fraction, given.seed)
    held = hold_out(graph, split)
    inverses = check_leakage(graph, split, held)
    trained, seconds = [], {}
    for name in names:
        start = time.perf_counter()
        trained.append(train_kge(name, held.graph, seed=given.seed, device=given.device, progress=say, options=options))
        seconds[name] = round(time.perf_counter() - start, 1)
    tested = sum(len(heads) for heads, _ in held.unseen.edges.values())
    isolated = untrained_heads(trained[0], held)
    notes = [f"{inverses:,} of {tested:,} test edges have their inverse in training", f"{isolated} tested heads have no training edge"]
    report: dict[str, Any] = rank(
        [Popularity(held.graph), *trained], held.graph, held.unseen, lambda _, at: np.zeros((len(at), 1), np.float32),
        split="paper", rows=held.rows, leaky=True, notes=notes, ours=(), seed=given.seed, progress=say,
    )  # fmt: skip
    report |= {"training": {s.methods[0]: s.report for s in trained}, "seconds": seconds, "options": asdict(options)}
    print(f"{len(graph.nodes):,} nodes, {held.graph.n_edges:,} training edges; {'; '.join(notes)}")
    print(f"macro over {len(report['macro_over'])} relations\n")
    base = report["macro"]["popularity"]["mrr"]
    print("| method | MRR | 95 % interval | Hits@10 | ratio to popularity | chosen | epochs | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for method, got in report["macro"].items():
        low, high = report["macro_ci"][method]["mrr"]
        told = report["training"].get(method)
        chosen = f"{told['setting']['loss']}, {told['setting']['learning_rate']:g}" if told else "-"
        ends = f"{chosen} | {told['epochs'] if told else '-'} | {seconds.get(method, '-')} |"
        print(f"| {method} | {got['mrr']:.3f} | {low:.3f} to {high:.3f} | {got['hits@10']:.3f} | {got['mrr'] / base:.2f} | {ends}")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", default="starter")
    parser.add_argument("--models", help=f"of {', '.join(KGE)} (default: all)")
    parser.add_argument("--epochs", type=int, default=Options.epochs)
    parser.add_argument("--dim", type=int, default=Options.dim)
    parser.add_argument("--batch", type=int, default=Options.batch)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shared-ids", action="store_true", help="one relation id for both directions of a name")
    parser.add_argument("--out", type=Path)
    try:
        run(parser.parse_args())
    except BiobridgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
