"""Search in the texts of nodes: names, synonyms and descriptions, by their words (BM25) and by their meaning (vectors), fused.

Knows: the texts of a graph, bm25s, and a vector search that it is handed. Does not know: edges, homes, which encoder made vectors.

The two rankings are fused by reciprocal ranks (Cormack, Clarke, Büttcher, SIGIR 2009): a node's score is the sum of 1 / (60 + rank).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.retrieval.linking import MAX_QUESTION
from biobridge_rag.retrieval.passages import Names, Passage, best_sentences, names_of, passages_linking, spelled, tokens_of
from biobridge_rag.store.index import FROZEN, NodeIndex
from biobridge_rag.types import KnowledgeGraph, Modality, Node, NodeType, Vectors

K_RRF = 60
NAMES = 0.5  # the share of the names in the score by words; more finds named nodes better, and less those that are described
POOL = 100  # how deep each ranking is read
_STOP_WORDS = """
a about after all also am an and any are as at be been between both but by can could did do does for from give had has have how i if in into
is it its may me might most must my no nor not of on one or other our out over she should show so some such than that the their them then
there these they this those through to under up us was we were what when where which while who whom whose why will with would yes you your
"""
# What questions say around the names that they ask about; they are looked for only where there is nothing else.
_ASKING_WORDS = """
associate associated association disease drug effect find gene impact important involve involved known linked list main mechanism
mechanistic name play please protein related relation role significant target tell treat treated treating treatment
"""
_STOP = frozenset(_STOP_WORDS.split())
_ASKING = frozenset(_ASKING_WORDS.split())
Nearest = Callable[[NodeType, str, int], list[tuple[str, float]]]
Encode = Callable[[NodeType, Sequence[tuple[str, ...]]], Vectors]


@dataclass(frozen=True, slots=True)
class TextHit:
    """A node whose text fits. score: in (0, 1], 1 where it is first in both rankings; snippet: the sentences of its description
    that fit best, at most 400 characters, or nothing; how: its ranks, as "words 1, meaning 3"."""

    node: Node
    score: float
    snippet: str
    how: str


def nearest_in(index: NodeIndex, encode: Encode) -> Nearest:
    """The vector search of a home: `encode` as Home.encode, on the frozen vectors of `index`. Gives ids and cosines, best first."""

    def nearest(node_type: NodeType, text: str, k: int) -> list[tuple[str, float]]:
        ids, cosines = index.search(node_type, FROZEN, encode(node_type, [(text,)]), k)
        return list(zip(ids[0], cosines[0].tolist(), strict=True))

    return nearest


class TextSearch:
    """Text search over a graph's nodes. The index of words is made at first use, within seconds, and kept; safe to share between
    threads. Node types whose vectors are not of text (proteins, drugs), and all without `nearest`, are ranked by words alone."""

    def __init__(self, graph: KnowledgeGraph, nearest: Nearest | None = None) -> None:
        self.graph, self.nearest = graph, nearest
        self._lock = threading.Lock()
        self._words: Any = None
        self._prose: tuple[str, list[int], list[int]] | None = None
        self._type = np.array([list(NodeType).index(n.type) for n in graph.nodes], dtype=np.int8)

    def search(self, text: str, k: int = 10, types: Collection[NodeType] | None = None) -> list[TextHit]:
        """The k nodes whose texts fit best, best first, of the given types or all; equal ones in the graph's order. The first 4,000
        characters are read; a text without words finds nothing. Raises what the vector search raises."""
        text = text[:MAX_QUESTION]
        wanted = [t for t in NodeType if t in self.graph.by_type and (types is None or t in types)]
        tokens = query_tokens(text)
        if k < 1 or not tokens or not wanted:
            return []
        depth = max(POOL, 2 * k)
        words, meaning = self.by_words(tokens, depth, wanted), self.by_meaning(text, depth, wanted)
        scores: dict[int, float] = {}
        for at, rank in words.items():
            # Where a type has no vectors of text, or was not searched by meaning, its words say both.
            both = self.nearest is None or self.graph.nodes[at].type.modality is not Modality.TEXT
            scores[at] = (2 if both else 1) / (K_RRF + rank)
        for at, rank in meaning.items():
            scores[at] = scores.get(at, 0.0) + 1 / (K_RRF + rank)
        best = sorted(scores, key=lambda at: (-scores[at], at))[:k]
        weights = self._weights(tokens)
        return [
            TextHit(self.graph.nodes[at], scores[at] * (K_RRF + 1) / 2, self._snippet(at, weights), _how(words.get(at), meaning.get(at)))
            for at in best
        ]

    def by_words(self, tokens: list[str], depth: int, types: Collection[NodeType]) -> dict[int, int]:
        """Positions and ranks (from 1) of the nodes that BM25 finds."""
        names, texts = self._bm25()
        scores = np.asarray(NAMES * names.get_scores(tokens) + (1 - NAMES) * texts.get_scores(tokens), dtype=np.float32)
        rows = np.flatnonzero((scores > 0) & np.isin(self._type, [list(NodeType).index(t) for t in types]))
        if len(rows) > depth:  # all those as good as the last one, so that the order below decides
            rows = rows[scores[rows] >= np.partition(scores[rows], -depth)[-depth]]
        order = rows[np.lexsort((rows, -scores[rows]))][:depth]
        return {int(at): rank for rank, at in enumerate(order, 1)}

    def by_meaning(self, text: str, depth: int, types: Collection[NodeType]) -> dict[int, int]:
        """Positions and ranks (from 1) of the nodes of text types whose vectors are nearest."""
        found: list[tuple[float, int]] = []
        for node_type in types:
            if self.nearest is None or node_type.modality is not Modality.TEXT:
                continue
            rows = self.nearest(node_type, text, min(depth, len(self.graph.by_type[node_type])))
            places = ((self.graph.position(node_type, id), cosine) for id, cosine in rows)
            found += [(-cosine, at) for at, cosine in places if at is not None]
        return {at: rank for rank, (_, at) in enumerate(sorted(found)[:depth], 1)}

    def mentioned_in(self, node: Node, limit: int = 20) -> list[Passage]:
        """Other nodes whose descriptions name this one as whole words, in the graph's order, each with the first such sentence."""
        joined, starts, at_node = self._descriptions()
        names, out = Names(names_of(node)), []
        forms = [form for _, form in names.forms] + [spelled(name) for name, _ in names.capitals]
        rows: set[int] = set()
        for form in forms:
            place = joined.find(form)
            while place >= 0:
                row = bisect_right(starts, place) - 1
                rows.add(row)
                place = joined.find(form, starts[row + 1])
        for row in sorted(rows):
            other = self.graph.nodes[at_node[row]]
            if (other.type, other.id) != (node.type, node.id):
                out += passages_linking(other, names_of(node), 1)
            if len(out) >= limit:
                break
        return out

    def _bm25(self) -> tuple[Any, Any]:
        """BM25 over the names alone, which long descriptions do not drown, and over all the text."""
        with self._lock:
            if self._words is None:
                import bm25s

                vocabulary: dict[str, int] = {"": 0}  # in every text, so that none is empty
                names, texts = [], []
                for node in self.graph.nodes:
                    called, said = (
                        [vocabulary.setdefault(w, len(vocabulary)) for w in tokens_of(text) if w not in _STOP]
                        for text in ("\n".join(names_of(node)), node.description)
                    )
                    names.append([0, *called])
                    texts.append([0, *called, *said])
                indexes = bm25s.BM25(method="lucene"), bm25s.BM25(method="lucene")
                for index, rows in zip(indexes, (names, texts), strict=True):
                    index.index((rows, vocabulary), show_progress=False)
                self._words = indexes
            return self._words

    def _descriptions(self) -> tuple[str, list[int], list[int]]:
        """All descriptions as `spelled`, one after another; where each starts; and whose it is."""
        with self._lock:
            if self._prose is None:
                at_node = [at for at, node in enumerate(self.graph.nodes) if node.description]
                texts = [spelled(self.graph.nodes[at].description) + "\n" for at in at_node]
                self._prose = "".join(texts), [0, *accumulate(map(len, texts))], at_node
            return self._prose

    def _weights(self, tokens: list[str]) -> dict[str, float]:
        """How rare each word is: ln(1 + nodes / nodes that hold it)."""
        index = self._bm25()[1]
        starts: NDArray[Any] = index.scores["indptr"]
        n = len(self.graph.nodes)
        counts = {t: int(starts[i + 1] - starts[i]) for t in tokens if (i := index.vocab_dict.get(t)) is not None}
        return {t: float(np.log1p(n / max(count, 1))) for t, count in counts.items()}

    def _snippet(self, at: int, weights: dict[str, float]) -> str:
        node = self.graph.nodes[at]
        # What a node is called says nothing of which of its sentences fits.
        own = set(tokens_of(node.name))
        return best_sentences(node.description, lambda s: sum(weights.get(t, 0.0) for t in dict.fromkeys(tokens_of(s)) if t not in own))


def query_tokens(text: str) -> list[str]:
    """The words of a question that are looked for, without stop words, each once."""
    tokens = list(dict.fromkeys(t for t in tokens_of(text) if t not in _STOP))
    return [t for t in tokens if t not in _ASKING] or tokens


def _how(words: int | None, meaning: int | None) -> str:
    return ", ".join(f"{name} {rank}" for name, rank in (("words", words), ("meaning", meaning)) if rank is not None)
