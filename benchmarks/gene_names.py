"""How often the gene that a drug's mechanism goes by is the one of its known targets that its description names best.

`python benchmarks/gene_names.py [--graph DIR] [--questions FILE]` (default ../shared/realkg and ../shared/qa/questions.jsonl; says so
and stops where they are not there). Of DrugMechDB's questions, those whose drug (by the DrugBank id within the question's id) has two
or more targets in the graph, the answer among them. Halves are drawn by the drug's id: half 0 is for tuning, half 1 for the report.
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path

from biobridge_rag.graph.primekg import load_graph
from biobridge_rag.retrieval.gene_names import match_gene
from biobridge_rag.types import NodeType

SHARED = Path(__file__).resolve().parents[2] / "shared"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, default=SHARED / "realkg")
    parser.add_argument("--questions", type=Path, default=SHARED / "qa" / "questions.jsonl")
    given = parser.parse_args()
    if not given.graph.is_dir() or not given.questions.exists():
        print(f"{given.graph} or {given.questions} is not there: nothing measured.")
        return
    graph = load_graph(given.graph)
    targets: dict[int, list[int]] = defaultdict(list)
    drugs: Counter[int] = Counter()
    for code, relation in enumerate(graph.relations):
        if relation.name == "target" and relation.head_type == NodeType.DRUG:
            for head, tail in zip(graph.head[graph.relation == code].tolist(), graph.tail[graph.relation == code].tolist(), strict=True):
                targets[head].append(tail)
                drugs[tail] += 1
    cases: dict[int, list[tuple[int, set[int]]]] = {0: [], 1: []}
    for question in map(json.loads, filter(str.strip, given.questions.read_text().splitlines())):
        found = re.match(r"dmdb-(DB\d+)_", question["id"])
        drug = graph.position(NodeType.DRUG, found[1]) if found else None
        among = targets.get(drug, []) if drug is not None else []
        answers = set(question["answers"])
        right = {at for at in among if answers & {graph.nodes[at].name, *graph.nodes[at].synonyms}}
        if drug is not None and right and len(among) > 1:
            cases[zlib.crc32(graph.nodes[drug].id.encode()) % 2].append((drug, right))
    print("| half | questions | drugs | chance | by name | by number of drugs | by description | among the best | one best: n | right |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for half, rows in cases.items():
        sums: Counter[str] = Counter()
        for drug, right in rows:
            genes = sorted(targets[drug], key=lambda at: graph.nodes[at].name)
            match = {at: match_gene(graph.nodes[drug].description, graph.nodes[at]) for at in genes}
            popular = sorted(genes, key=lambda at: -drugs[at])
            described = sorted(popular, key=lambda at: (-match[at].score, match[at].place))
            best = [at for at in genes if match[at].score == match[described[0]].score]
            sole = len(best) == 1 and match[best[0]].score > 0
            sums += Counter(chance=len(right) / len(genes), name=genes[0] in right, popular=popular[0] in right)  # type: ignore[arg-type]
            sums += Counter(described=described[0] in right, best=bool(right & set(best)), sole=sole, correct=sole and best[0] in right)
        shares = " | ".join(f"{sums[key] / max(len(rows), 1):.3f}" for key in ("chance", "name", "popular", "described", "best"))
        print(f"| {half} | {len(rows)} | {len({drug for drug, _ in rows})} | {shares} | {sums['sole']} | {sums['correct']} |")


if __name__ == "__main__":
    main()
