"""Question answering without a language model: every arm by kind of question, beside what needs no evidence, in one run.

`python benchmarks/questions.py [--home DIR] [--questions FILE] [--out DIR] [--arms A,B] [--seed N]` (default: the starter home and
../shared/qa/questions.jsonl; says so and stops where that file is not there). The arms are those of evaluate qa, whose records and report
go to --out, if it is given; a run that was broken off goes on there. Beside them:

- popular: of the targets of the drug that is asked about, the one that most drugs have; of the options of a choice, the one with
  most edges in the graph;
- first by name: the same, by the alphabet; of the options, the first;
- wording: what a statement says, True unless it is negated; always True: that.

All are scored alike, on questions that the graph can answer: the first prediction is right, and the answer does not abstain. Intervals
are bootstrap intervals of 95 %. The weights of the ranking of targets and the order of evidence were set with questions for development;
on those, the figures are better than on others.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biobridge_rag.assembly import Engine, open_engine
from biobridge_rag.config import Settings
from biobridge_rag.evaluation.qa import DEFAULT_ARMS, asking, check_arms, evaluate_qa, home_sha256
from biobridge_rag.evaluation.qa_matching import node_aliases
from biobridge_rag.evaluation.qa_records import read_records
from biobridge_rag.evaluation.qa_scores import summarise
from biobridge_rag.evaluation.questions import Question, read_questions
from biobridge_rag.graph.incidence import linked
from biobridge_rag.qa.propositions import read_claim
from biobridge_rag.types import NodeType

QUESTIONS = Path(__file__).resolve().parents[2] / "shared" / "qa" / "questions.jsonl"
BASELINES = ("popular", "first by name", "wording", "always True")
NAMES = {"open": "mechanism (open)", "choice": "choice", "true_false": "true or false"}
BASES = {"evidence": "", "a prediction alone": "rests on a prediction alone", "a guess": "is only a guess"}  # and what the answer says
PUBLISHED = (
    ("open", "GPT-4o-mini alone", 0.51, "BTE-RAG, DrugMechDB"),
    ("open", "GPT-4o-mini with BTE-RAG", 0.76, "BTE-RAG, DrugMechDB"),
    ("open", "GPT-4o with BTE-RAG", 0.79, "BTE-RAG, DrugMechDB"),
    ("choice", "GPT-3.5 with KG-RAG", 0.79, "KG-RAG, choice"),
    ("true_false", "GPT-3.5 with KG-RAG", 0.92, "KG-RAG, true or false"),
)
Record = Mapping[str, Any]


def baselines(engine: Engine, question: Question) -> Iterator[tuple[str, str]]:
    """(baseline, its answer) of those that fit the question; an empty answer where there is nothing to choose from."""
    graph = engine.graph
    if question.kind == "open":
        links = engine.linker.mentions(question.question)
        drug = next((link.node for link in links if link.node.type is NodeType.DRUG), None)
        at = graph.position(drug.type, drug.id) if drug else None
        targets = sorted(linked(graph, at, "target", NodeType.PROTEIN) if at is not None else (), key=lambda p: graph.nodes[p].name)
        count = {p: len(linked(graph, p, "target", NodeType.DRUG)) for p in targets}
        best = max(targets, key=lambda p: count[p], default=None)  # of equal ones the first by name
        yield "popular", graph.nodes[best].name if best is not None else ""
        yield "first by name", graph.nodes[targets[0]].name if targets else ""
    elif question.kind == "choice":
        yield "popular", max(question.options, key=lambda option: _degree(engine, option))
        yield "first by name", min(question.options)
    else:
        claim = read_claim(question.question)
        yield "wording", str(claim is None or not claim.negated)
        yield "always True", "True"


def _degree(engine: Engine, name: str) -> int:
    """The most edges of any node of that name; -1 where there is none."""
    nodes = [node for t in engine.graph.by_type if (node := engine.linker.named(name, t.value)) is not None]
    places = [engine.graph.position(node.type, node.id) for node in nodes]
    return max((len(engine.graph.edges_from(p)) + len(engine.graph.edges_to(p)) for p in places if p is not None), default=-1)


def baseline_records(engine: Engine, questions: Sequence[Question]) -> list[Record]:
    """As the records of an arm that always answers, and shows and cites nothing."""
    return [
        {
            "id": q.id, "arm": name, "kind": q.kind, "answers": list(q.answers), "answerable": q.answerable, "abstained": False,
            "seconds": 0.0, "prediction": [answer] if answer else [], "text": "", "unsupported": [], "citations": [],
        }
        for q in questions
        for name, answer in baselines(engine, q)
    ]  # fmt: skip


def table(summary: Mapping[str, Any], kind: str, of: str) -> Iterator[str]:
    """One line an arm or baseline that answers this kind; ratio: the accuracy of the arm `of` divided by this one's."""
    blocks = {name: arm["by_kind"][kind] for name, arm in summary["arms"].items() if kind in arm["by_kind"]}
    ours = blocks[of].get("answerable", {}).get("accuracy")
    for name, block in blocks.items():
        can, cannot = block.get("answerable", {}), block.get("unanswerable", {})
        accuracy, interval = can.get("accuracy"), can.get("ci")
        ratio = "" if name == of or ours is None or not accuracy else f"{ours / accuracy:.2f}"
        cells = [
            NAMES[kind], name, str(can.get("n_scored", 0)), _share(accuracy), f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "",
            ratio, _share(can.get("abstained")), str(cannot.get("n", 0)), _share(cannot.get("abstained")),
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def basis_of(record: Record) -> str:
    """What the answer to a statement says that it rests on."""
    return next((basis for basis, words in BASES.items() if words and words in record["text"]), "evidence")


def _of_arm(block: Mapping[str, Any]) -> str:
    return f"{block['n_scored']} | {_share(block['accuracy'])} | {block['ci'][0]:.2f} to {block['ci'][1]:.2f}"


def print_report(records: Sequence[Record], arms: Sequence[str], seed: int, aliases: Any) -> None:
    records = [r for r in records if "error" not in r]
    of = "full" if "full" in arms else arms[-1]
    names = [*arms, *BASELINES]
    summary = summarise(records, names, seed, aliases)
    print(f"\n| kind | arm | answerable | accuracy | 95 % | {of} / this | abstained | unanswerable | abstained there |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in summary["arms"][of]["by_kind"]:
        print("\n".join(table(summary, kind, of)))
    print(f"\n| {of}, true or false, decided by | n | accuracy | 95 % |\n| --- | --- | --- | --- |")
    said = [r for r in records if r["arm"] == of and r["kind"] == "true_false" and r.get("answerable") is not False]
    for basis in BASES:
        mine = [r for r in said if basis_of(r) == basis]
        if mine:
            print(f"| {basis} | {_of_arm(summarise(mine, [of], seed, aliases)['arms'][of])} |")
    can = [r for r in records if r.get("answerable") is not False]
    print(f"\n| {of} less | over | n | accuracy | 95 % | p |\n| --- | --- | --- | --- | --- | --- |")
    for row in summarise(can, names, seed, aliases)["paired"]:
        if of in (row["arm"], row["other"]) and row["over"] in ("all", *NAMES):
            sign, other = (1, row["other"]) if row["arm"] == of else (-1, row["arm"])
            low, high = sorted(sign * v for v in row["ci"])
            difference = f"{sign * row['accuracy_difference']:+.3f} | {low:+.3f} to {high:+.3f} | {row['p']:.4f}"
            print(f"| {other} | {NAMES.get(row['over'], row['over'])} | {row['n']} | {difference} |")
    print("\n| published | figure | this, arm " + of + " | ratio |\n| --- | --- | --- | --- |")
    for kind, who, figure, where in PUBLISHED:
        ours = summary["arms"][of]["by_kind"].get(kind, {}).get("answerable", {}).get("accuracy")
        if ours is not None:
            print(f"| {who} ({where}) | {figure:.2f} | {ours:.3f} | {ours / figure:.2f} |")
    print("Published figures are as their papers give them. They are of all questions of their sets, in part others than these; here those")
    print("count that the graph can answer. They show the order of magnitude and are no comparison on equal terms.")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--arms", default=",".join(DEFAULT_ARMS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not given.questions.exists():
        print(f"{given.questions} is not there: nothing measured.")
        return
    arms, found = check_arms(given.arms.split(",")), read_questions(given.questions)
    engine = open_engine(Settings(**({"home": given.home} if given.home else {})))
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        out = given.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        summary = evaluate_qa(
            asking(engine), found, arms, out, home=home_sha256(engine.home.manifest), graph=engine.graph, seed=given.seed,
            note=lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
        errors = summary["run"]["errors"]
        print(f"{len(found.questions)} questions of {given.questions.name}, graph {engine.home.manifest.graph_name}", end="")
        print(f", {engine.graph.n_edges:,} edges; failed: {sum(errors.values())}")
        records = [*read_records(out), *baseline_records(engine, found.questions)]
        print_report(records, arms, given.seed, node_aliases(engine.graph))


if __name__ == "__main__":
    main()
