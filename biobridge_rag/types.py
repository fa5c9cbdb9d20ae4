"""The nouns of the project: frozen values that the layers hand to each other.

Knows: node types, modalities, nodes, relations, the knowledge graph, embedding tables, retrieval and answer records.
Does not know: files, models, chroma, torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]
Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, and how much there is


class Modality(StrEnum):
    """What an encoder reads: an amino-acid sequence, a SMILES, or English text."""

    PROTEIN = "protein"
    MOLECULE = "molecule"
    TEXT = "text"


class NodeType(StrEnum):
    """The node types of PrimeKG that BioBridge embeds, spelled as PrimeKG spells them."""

    PROTEIN = "gene/protein"
    DRUG = "drug"
    DISEASE = "disease"
    BIOLOGICAL_PROCESS = "biological_process"
    MOLECULAR_FUNCTION = "molecular_function"
    CELLULAR_COMPONENT = "cellular_component"

    @property
    def modality(self) -> Modality:
        return {NodeType.PROTEIN: Modality.PROTEIN, NodeType.DRUG: Modality.MOLECULE}.get(self, Modality.TEXT)

    @property
    def slug(self) -> str:
        """The type as a Chroma collection or file name may spell it."""
        return self.value.replace("/", "-")

    @property
    def label(self) -> str:
        """The type as a reader calls it."""
        return {NodeType.PROTEIN: "protein"}.get(self, self.value.replace("_", " "))


GO_TYPES = (NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION, NodeType.CELLULAR_COMPONENT)


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the graph. `values` is what its encoder reads (several texts are averaged); ids are unique in a type."""

    id: str
    type: NodeType
    name: str
    description: str = ""
    source: str = ""
    url: str = ""
    values: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """A directed relation between two node types; its inverse has the types swapped."""

    name: str
    head_type: str
    tail_type: str

    @property
    def inverse(self) -> Relation:
        return Relation(self.name, self.tail_type, self.head_type)

    @property
    def key(self) -> str:
        return f"{self.head_type}|{self.name}|{self.tail_type}"

    def __str__(self) -> str:
        return f"{self.head_type} -{self.name}-> {self.tail_type}"


@dataclass(frozen=True, slots=True)
class Triple:
    """One edge, with the source that states it."""

    head: Node
    relation: Relation
    tail: Node
    source: str = ""


@dataclass(frozen=True)
class KnowledgeGraph:
    """Nodes and typed edges, both directions of every edge present; edges are columns, so millions fit in memory.

    head, tail: (m,) int32 positions in `nodes`; relation: (m,) int16 positions in `relations`; source: (m,) int16
    positions in `sources`. `skipped` counts what the loader could not use, by reason.
    """

    name: str
    nodes: tuple[Node, ...]
    relations: tuple[Relation, ...]
    head: NDArray[np.int32]
    relation: NDArray[np.int16]
    tail: NDArray[np.int32]
    source: NDArray[np.int16]
    sources: tuple[str, ...]
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def n_edges(self) -> int:
        return len(self.head)

    @cached_property
    def _position(self) -> dict[tuple[str, str], int]:
        return {(node.type.value, node.id): i for i, node in enumerate(self.nodes)}

    def position(self, node_type: str, node_id: str) -> int | None:
        """Where a node stands in `nodes`, or None."""
        return self._position.get((str(node_type), node_id))

    @cached_property
    def by_type(self) -> dict[NodeType, NDArray[np.int64]]:
        """Positions of the nodes of each type, in the order of `nodes`."""
        groups: dict[NodeType, list[int]] = {t: [] for t in NodeType}
        for i, node in enumerate(self.nodes):
            groups[node.type].append(i)
        return {t: np.asarray(g, dtype=np.int64) for t, g in groups.items() if g}

    @cached_property
    def rank_in_type(self) -> NDArray[np.int64]:
        """(n,) the row of each node in the tables of its own type."""
        out = np.zeros(len(self.nodes), dtype=np.int64)
        for positions in self.by_type.values():
            out[positions] = np.arange(len(positions))
        return out

    @cached_property
    def _by_relation(self) -> dict[Relation, NDArray[np.int64]]:
        order = np.argsort(self.relation, kind="stable")
        bounds = np.searchsorted(self.relation[order], np.arange(len(self.relations) + 1))
        return {r: order[bounds[i] : bounds[i + 1]] for i, r in enumerate(self.relations)}

    def edges(self, relation: Relation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Edges of one relation as rows in the head type's and the tail type's tables, each (m,)."""
        at = self._by_relation.get(relation)
        if at is None or not len(at):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return self.rank_in_type[self.head[at]], self.rank_in_type[self.tail[at]]

    def edge_numbers(self, relation: Relation) -> NDArray[np.int64]:
        """Positions of the relation's edges in the edge columns, in the order of `edges`."""
        return self._by_relation.get(relation, np.zeros(0, np.int64))

    @cached_property
    def _by_head(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.head, kind="stable")
        return order, np.searchsorted(self.head[order], np.arange(len(self.nodes) + 1))

    @cached_property
    def _by_tail(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.tail, kind="stable")
        return order, np.searchsorted(self.tail[order], np.arange(len(self.nodes) + 1))

    def edges_from(self, position: int) -> NDArray[np.int64]:
        """Positions in the edge columns of the edges whose head is the node at `position`."""
        order, bounds = self._by_head
        return order[bounds[position] : bounds[position + 1]]

    def edges_to(self, position: int) -> NDArray[np.int64]:
        """The same for edges whose tail it is."""
        order, bounds = self._by_tail
        return order[bounds[position] : bounds[position + 1]]

    def triples_of(self, position: int) -> list[Triple]:
        """All edges whose head is the node at `position`."""
        return [self.triple(int(e)) for e in self.edges_from(position)]

    def triple(self, edge: int) -> Triple:
        return Triple(
            self.nodes[self.head[edge]],
            self.relations[self.relation[edge]],
            self.nodes[self.tail[edge]],
            self.sources[self.source[edge]],
        )

    @cached_property
    def sha256(self) -> str:
        """A hash of everything that training and retrieval read."""
        h = hashlib.sha256()
        for node in self.nodes:
            h.update("\x1f".join((node.id, node.type.value, node.name, *node.values)).encode())
            h.update(b"\x1e")
        h.update("\x1e".join(r.key for r in self.relations).encode())
        for column in (self.head, self.relation, self.tail):
            h.update(np.ascontiguousarray(column).tobytes())
        return h.hexdigest()

    def without_heads(self, held: Iterable[int]) -> KnowledgeGraph:
        """The same graph with the given nodes cut off from every edge (both directions); positions stay."""
        gone = np.zeros(len(self.nodes), dtype=bool)
        gone[list(held)] = True
        keep = ~(gone[self.head] | gone[self.tail])
        return KnowledgeGraph(
            self.name, self.nodes, self.relations, self.head[keep], self.relation[keep], self.tail[keep],
            self.source[keep], self.sources, dict(self.skipped),
        )  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Heads held out of a graph: positions in `nodes`, by node type, and how they were drawn.

    fraction: the share of heads asked for; relation, node_type: what is out of training where that is a relation or a type;
    thresholds: the cosine at and above which two nodes were taken as near twins; leaky: the inverse of a test edge may be in training.
    """

    name: str
    seed: int
    held: dict[NodeType, NDArray[np.int64]]
    fraction: float = 0.0
    relation: Relation | None = None
    node_type: NodeType | None = None
    thresholds: dict[NodeType, float] = field(default_factory=dict)
    leaky: bool = False

    @property
    def all_held(self) -> NDArray[np.int64]:
        return np.sort(np.concatenate([*self.held.values(), np.zeros(0, np.int64)]))


@dataclass(frozen=True)
class EmbeddingTable:
    """Frozen encoder output: `vectors` (n, dim) float32, row i belongs to `node_ids[i]`."""

    node_ids: tuple[str, ...]
    vectors: Vectors
    encoder_id: str


@runtime_checkable
class Encoder(Protocol):
    """A frozen model: values in, unit-length vectors (n, dim) float32 out. `id` changes whenever the output would."""

    modality: Modality

    @property
    def id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode(self, values: Sequence[str]) -> Vectors: ...


@runtime_checkable
class ChoosyEncoder(Encoder, Protocol):
    """An encoder that cannot use every value of its modality. `unusable`: place in `values` -> the reason, one sentence."""

    def unusable(self, values: Sequence[str]) -> dict[int, str]: ...


class Aligner(Protocol):
    """Compares values with those of a graph's nodes. `similarities`: n values -> (n, n_t) float32 in [0, 1]; `table`: (n_t, n_t) float16
    of the nodes among each other; `kept`: of some of the nodes only;
    `identities`: the share of identical residues in the best alignment of a value with each of these nodes, and its length, or None."""

    def similarities(self, sequences: Sequence[str]) -> Vectors: ...

    def table(self, progress: Progress) -> NDArray[np.float16]: ...

    def kept(self, rows: Indices) -> Aligner: ...

    def identities(self, sequence: str, rows: Sequence[int]) -> list[tuple[float, int] | None]: ...


@runtime_checkable
class AligningEncoder(Encoder, Protocol):
    """An encoder that has more to say of how alike two values are than the cosine of their vectors."""

    def aligner(self, values: Sequence[str]) -> Aligner: ...


class Bridge(Protocol):
    """Carries frozen embeddings into a shared space. Scores are cosines of `transform` and `project` output."""

    hidden_dim: int

    def project(self, x: Vectors, node_type: str) -> Vectors: ...

    def transform(self, x: Vectors, relation: Relation) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Query:
    """What the user brought: free text, a value to encode, or a node of the graph (then `node` is set)."""

    type: NodeType
    name: str
    value: str = ""
    node: Node | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One reason for a hit. kind: edge | bridge | analogue | prior. `score` in [0, 1], higher is stronger."""

    kind: str
    text: str
    score: float
    node_id: str = ""
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "score": round(self.score, 4), "node_id": self.node_id, "source": self.source}


@dataclass(frozen=True, slots=True)
class RetrievedNode:
    """A hit: rank from 1, fused score (higher is better), calibrated probability in [0, 1], known = an edge says so."""

    node: Node
    rank: int
    score: float
    probability: float
    known: bool
    evidence: tuple[Evidence, ...] = ()
    parts: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        smiles = self.node.values[0] if self.node.type is NodeType.DRUG and self.node.values else None
        return {
            "rank": self.rank,
            "id": self.node.id,
            "name": self.node.name,
            "type": self.node.type.value,
            "score": round(self.score, 6),
            "probability": round(self.probability, 4),
            "known": self.known,
            "smiles": smiles,
            "url": self.node.url,
            "parts": {k: round(v, 6) for k, v in self.parts.items()},
            "evidence": [e.to_dict() for e in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The hits of one query along one relation; `notes` say what the user should know (e.g. how the query was read).
    likeness: how near the query's closest analogue is, a percentile in [0, 100] among the graph's own nodes with the relation;
    outside: whether that is so low that the query lies outside of what the graph knows."""

    query: Query
    relation: Relation
    hits: tuple[RetrievedNode, ...]
    notes: tuple[str, ...] = ()
    likeness: float | None = None
    outside: bool = False

    def to_dict(self) -> dict[str, Any]:
        node = self.query.node
        return {
            "query": {
                "type": self.query.type.value,
                "name": self.query.name,
                "node_id": node.id if node else None,
                "in_graph": node is not None,
                "note": self.query.note,
            },
            "relation": self.relation.name,
            "tail_type": self.relation.tail_type,
            "notes": list(self.notes),
            "likeness_percentile": None if self.likeness is None else round(self.likeness, 1),
            "out_of_distribution": self.outside,
            "hits": [hit.to_dict() for hit in self.hits],
        }


@dataclass(frozen=True, slots=True)
class Citation:
    """A key of the form [n] in an answer, the node it stands for, and the edges stated of it."""

    key: str
    node_id: str
    name: str
    url: str
    edges: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, "node_id": self.node_id, "name": self.name, "url": self.url, "edges": list(self.edges)}


@dataclass(frozen=True, slots=True)
class Usage:
    """What language models were asked for one answer: tokens as their server counts them (0 where it does not say), US dollars (None
    where the price is not known), seconds of waiting, calls, and how many of those a cache answered."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0
    calls: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        cost = None if self.cost is None and other.cost is None else (self.cost or 0.0) + (other.cost or 0.0)
        return Usage(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens, cost,
            self.seconds + other.seconds, self.calls + other.calls, self.cached + other.cached,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens, "cost": self.cost,
            "seconds": round(self.seconds, 3), "calls": self.calls, "cached": self.cached,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its citations; `unsupported` lists sentences that cite nothing that supports them; `prompt` is all that
    was sent to a language model, empty where none was asked.

    kind: open | choice | true_false; `prediction`: the short answers to that, best first: names of nodes, or options as they were given;
    `shown`: all evidence that the answer could cite, in its order; `removed`: citations of evidence that does not exist, taken out."""

    question: str
    text: str
    abstained: bool
    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...]
    retrieved: tuple[Retrieval, ...]
    model: str
    prompt_sha256: str
    notice: str = ""
    prompt: str = ""
    kind: str = "open"
    prediction: tuple[str, ...] = ()
    shown: tuple[Citation, ...] = ()
    removed: int = 0
    usage: Usage = Usage()

    def to_dict(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "kind": self.kind,
            "text": self.text,
            "prediction": list(self.prediction),
            "abstained": self.abstained,
            "citations": [c.to_dict() for c in self.citations],
            "unsupported": list(self.unsupported),
            "retrieved": [r.to_dict() for r in self.retrieved],
            "model": self.model,
            "prompt_sha256": self.prompt_sha256,
            "notice": self.notice,
            "prompt": self.prompt,
            "shown": [c.to_dict() for c in self.shown],
            "removed": self.removed,
            "usage": self.usage.to_dict(),
        }
