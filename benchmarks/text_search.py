"""Text search: how often a node that a question names is among the first k, by words, by meaning and by both.

`python benchmarks/text_search.py [--graph DIR] [--questions FILE] [--table DIR]` (default ../shared/realkg and
../shared/qa/questions.jsonl; says so and stops where they are not there). A question names a node where it holds one of the node's
names word for word; questions are also asked with one letter of each long word of the name changed. Nodes whose vectors are of text
only are also counted apart, as only they can be found by meaning. --table: the folder embeddings of a home with the default encoder,
which saves making the vectors. The milliseconds by both are without encoding the question, which those by meaning have. At last,
nodes are looked for by six words of their descriptions that no name of theirs holds: what a larger share of the names in the score by
words (texts.NAMES) gains with named nodes, it loses with these.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np

from biobridge_rag.encoders.cache import encode_groups
from biobridge_rag.encoders.text import SpelledTextEncoder
from biobridge_rag.graph.primekg import load_graph
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.retrieval.passages import names_of, tokens_of
from biobridge_rag.retrieval.texts import Nearest, TextSearch, query_tokens
from biobridge_rag.types import KnowledgeGraph, Modality, NodeType

CUTS = (1, 5, 10, 20)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def exact(graph: KnowledgeGraph, folder: Path | None) -> Nearest:
    """The offline text encoder's vectors of all nodes of text types, searched without an index."""
    encoder, tables = SpelledTextEncoder(), {}
    start = time.perf_counter()
    for node_type, positions in graph.by_type.items():
        if node_type.modality is Modality.TEXT:
            kept = sorted(folder.glob(f"{node_type.slug}-*.npy")) if folder else []
            tables[node_type] = np.load(kept[0]) if kept else encode_groups(encoder, [graph.nodes[i].values for i in positions])
    print(f"vectors of {sum(map(len, tables.values())):,} nodes: {time.perf_counter() - start:.0f} s")
    held: dict[str, np.ndarray] = {}

    def nearest(node_type: NodeType, text: str, k: int) -> list[tuple[str, float]]:
        if text not in held:
            held[text] = encode_groups(encoder, [(text,)])[0]
        cosines = tables[node_type] @ held[text]
        return [(graph.nodes[graph.by_type[node_type][i]].id, float(cosines[i])) for i in np.argsort(-cosines, kind="stable")[:k]]

    return nearest


def misspelled(text: str, name: str, rng: random.Random) -> str:
    at = text.find(name)
    letters = list(text)
    for word_at, word in ((m, w) for m, w in _words(name) if len(w) > 5):
        place = at + word_at + rng.randrange(2, len(word) - 1)
        letters[place] = rng.choice([c for c in "aeioulnrst" if c != letters[place]])
    return "".join(letters)


def _words(name: str) -> list[tuple[int, str]]:
    out, at = [], 0
    for word in name.split(" "):
        out.append((at, word))
        at += len(word) + 1
    return out


def described(graph: KnowledgeGraph, n: int, rng: np.random.Generator) -> list[tuple[list[str], int]]:
    """(six words, position) of at most n nodes of each type."""
    out = []
    for positions in graph.by_type.values():
        for at in rng.permutation([i for i in positions if len(graph.nodes[i].description) > 60])[:n].tolist():
            own = {token for name in names_of(graph.nodes[at]) for token in tokens_of(name)}
            words = [w for w in query_tokens(graph.nodes[at].description) if w not in own]
            if len(words) >= 6:
                out.append((rng.permutation(words)[:6].tolist(), at))
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, default=SHARED / "realkg")
    parser.add_argument("--questions", type=Path, default=SHARED / "qa" / "questions.jsonl")
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    if not given.graph.is_dir() or not given.questions.exists():
        print(f"{given.graph} or {given.questions} is not there: nothing measured.")
        return
    graph = load_graph(given.graph)
    questions = [json.loads(line)["question"] for line in given.questions.read_text().splitlines() if line.strip()]
    linker, search = NodeLinker(graph), TextSearch(graph, exact(graph, given.table))
    start = time.perf_counter()
    search.by_words(["cancer"], 1, list(graph.by_type))
    print(f"index of words over {len(graph.nodes):,} nodes: {time.perf_counter() - start:.1f} s")
    pairs = [(q, linked) for q in questions for linked in linker.mentions(q, fuzzy=False)]
    rng = random.Random(0)
    sets = {"as asked": pairs, "misspelled": [(misspelled(q, found.text, rng), found) for q, found in pairs]}
    types = list(graph.by_type)
    lexical = TextSearch(graph)
    lexical.by_words(["cancer"], 1, types)
    print("\n| questions | nodes | n | method | " + " | ".join(f"recall@{k}" for k in CUTS) + " | ms |")
    print("| --- | --- | --- | --- | " + " | ".join("---" for _ in CUTS) + " | --- |")
    for name, asked in sets.items():
        of_text = np.array([found.node.type.modality is Modality.TEXT for _, found in asked])
        for method in ("words", "meaning", "both"):
            places, start = [], time.perf_counter()
            for question, found in asked:
                if method == "meaning":
                    order = [graph.nodes[at] for at in search.by_meaning(question, max(CUTS), types)]
                else:
                    order = [hit.node for hit in (lexical if method == "words" else search).search(question, max(CUTS))]
                places.append(order.index(found.node) + 1 if found.node in order else 10**6)
            ms, ranks = 1000 * (time.perf_counter() - start) / max(len(asked), 1), np.array(places)
            for what, those in (("all", ranks), ("text types", ranks[of_text])):
                recall = " | ".join(f"{np.mean(those <= k):.3f}" for k in CUTS)
                print(f"| {name} | {what} | {len(those)} | {method} | {recall} | {ms:.1f} |")
    found = described(graph, 150, np.random.default_rng(0))
    ranks = np.array([lexical.by_words(words, max(CUTS), types).get(at, 10**6) for words, at in found])
    recall = " | ".join(f"{np.mean(ranks <= k):.3f}" for k in CUTS)
    print(f"| words of descriptions | all | {len(ranks)} | words | {recall} | |")


if __name__ == "__main__":
    main()
