"""Time of a question without a language model: the answer, and the retrieval in it, against its Chroma queries, bare and in one run.

`python benchmarks/question_time.py [--home DIR] [--questions N] [--batch FILE]` (default: the starter home, built where it is missing)

Questions of several forms are asked of nodes drawn by a seed, each question once. What Chroma was asked for it is then asked again, of
the same collections and vectors; by then these are in memory, which favours Chroma. Aims: a p50 below 60 ms for a question that names
one node, and at most twice the Chroma queries. --batch: a file of questions as evaluate qa reads it, asked in the arm "full" by one
thread and by two; the aim is 700 questions in 3 minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.assembly import Engine, open_engine
from biobridge_rag.config import Settings
from biobridge_rag.evaluation.qa import asking
from biobridge_rag.evaluation.qa_run import ask_all
from biobridge_rag.evaluation.questions import read_questions
from biobridge_rag.types import NodeType, Relation

_TARGET = Relation("target", NodeType.DRUG, NodeType.PROTEIN)
_GENES = Relation("associated with", NodeType.DISEASE, NodeType.PROTEIN)
FORMS = {  # what is asked; the relation that the nodes drawn have; whether one of its tails is named too
    "drugs of a protein": ("Which drugs target {0}?", _TARGET.inverse, False),
    "targets of a drug": ("What are the targets of {0}?", _TARGET, False),
    "genes of a disease": ("Which genes are associated with {0}?", _GENES, False),
    "mechanism": ("What is the mechanism of action of {0}?", _TARGET, False),
    "yes or no, two nodes": ("Does {0} target {1}?", _TARGET, True),
}
AIM_MS, AIM_RATIO, AIM_BATCH = 60.0, 2.0, (700, 180.0)
Search = tuple[Any, ...]  # the arguments of NodeIndex.search


def asked(engine: Engine, form: str, n: int, rng: np.random.Generator) -> Iterator[str]:
    """n questions of a form; nodes and tails are drawn among those that the relation links."""
    text, relation, with_tail = FORMS[form]
    view = engine.retriever.scorer.view(relation)
    for row in rng.choice(view.heads, min(n, len(view.heads)), replace=False):
        names = [engine.retriever.node(NodeType(relation.head_type), int(row)).name]
        if with_tail:
            tail = rng.integers(view.edges.shape[1]) if rng.random() < 0.5 else rng.choice(view.edges[row].indices)
            names.append(engine.retriever.node(NodeType(relation.tail_type), int(tail)).name)
        yield text.format(*names)


def timed(engine: Engine, questions: list[str]) -> np.ndarray:
    """(n, 4): ms of the answer, of retrieval in it, of the Chroma queries that it made, asked again, and their number."""
    index, retriever, made, within, out = engine.home.index, engine.retriever, list[Search](), list[float](), []
    search, retrieve = index.search, retriever.retrieve

    def noted(*given: Any) -> Any:
        made.append(given)
        return search(*given)

    def clocked(*given: Any) -> Any:
        start = time.perf_counter()
        found = retrieve(*given)
        within.append(time.perf_counter() - start)
        return found

    index.search, retriever.retrieve = noted, clocked  # type: ignore[method-assign]
    for question in questions:
        made.clear()
        within.clear()
        start = time.perf_counter()
        engine.ask(question, llm="none")
        middle = time.perf_counter()
        for given in made:
            search(*given)
        out.append((1000 * (middle - start), 1000 * sum(within), 1000 * (time.perf_counter() - middle), len(made)))
    index.search, retriever.retrieve = search, retrieve  # type: ignore[method-assign]
    return np.array(out)


def row(name: str, times: np.ndarray) -> str:
    """p50 and p99 of each, and the ratios of the p50 to Chroma's."""
    p50, p99 = np.percentile(times[:, :3], [50, 99], axis=0)
    each = " | ".join(f"{a:.1f} | {b:.1f}" for a, b in zip(p50, p99, strict=True))
    ratios = " | ".join(f"{p50[k] / p50[2]:.2f}" if p50[2] > 0.1 else "" for k in (0, 1))
    return f"| {name} | {len(times)} | {each} | {times[:, 3].mean():.1f} | {ratios} |"


def batch(engine: Engine, file: Path) -> None:
    found = read_questions(file)
    most, aim = AIM_BATCH
    for threads in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run = ask_all(found.questions, ["full"], asking(engine), Path(folder), {"arms": ["full"]}, concurrency=threads)
            seconds = time.perf_counter() - start
        failed = sum("error" in record for record in run.records)
        scaled = seconds / max(len(run.records), 1) * most
        print(
            f"{len(run.records)} questions, {threads} thread{'s' * (threads > 1)}: {seconds:.1f} s, {failed} failed; {most} take "
            f"{scaled:.0f} s, {scaled / aim:.2f} of the aim"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--questions", type=int, default=100, help="of each form")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=Path)
    given = parser.parse_args()
    engine = open_engine(Settings(**({"home": given.home} if given.home else {})))
    rng = np.random.default_rng(given.seed)
    start = time.perf_counter()
    for form in FORMS:  # indexes of names and words, and the matrices of relations, are made at first use
        for question in asked(engine, form, 3, rng):
            engine.ask(question, llm="none")
    print(f"graph {engine.home.manifest.graph_name}: {len(engine.graph.nodes):,} nodes, {engine.graph.n_edges:,} edges; ", end="")
    print(f"first questions {time.perf_counter() - start:.1f} s")
    print(
        "\n| question | n | answer p50 ms | p99 | retrieval p50 | p99 | Chroma p50 | p99 | queries | answer / Chroma | retrieval / Chroma |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    single = []
    for form, (_, _, with_tail) in FORMS.items():
        times = timed(engine, list(asked(engine, form, given.questions, rng)))
        print(row(form, times))
        if not with_tail:
            single.append(times)
    every = np.concatenate(single)
    print(row("all with one node", every))
    answer, retrieval, chroma = np.percentile(every[:, :3], 50, axis=0)
    print(f"\np50 {answer:.1f} ms, {answer / AIM_MS:.2f} of the aim ({AIM_MS:.0f}); retrieval in it {retrieval:.1f} ms")
    print(f"{answer / chroma:.2f} and {retrieval / chroma:.2f} times the bare Chroma queries (aim: at most {AIM_RATIO:.0f})")
    if given.batch:
        batch(engine, given.batch)
    engine.close()


if __name__ == "__main__":
    main()
