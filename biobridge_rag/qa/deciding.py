"""Decides statements (true or false) and choices by the evidence: which side it is on, how sure that is, and what it rests on.

Knows: claims, the graph's edges, passages of descriptions, hits of a retrieve function that it is given. Does not know: how questions are
linked, how answers are worded around a decision, language models.

What a decision rests on, strongest first: an edge or an identifier of the graph; a term's ancestors, its name or a passage of a
description; a prediction of the bridge; nothing. A statement that nothing speaks for or against is decided only where a side must
be taken, and then it says so: what is named together is more often linked than not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.graph.incidence import linked
from biobridge_rag.qa.propositions import ANY, IDENTIFIER, IS_A, Claim
from biobridge_rag.qa.statements import Statement, about, known, passage, path, predicted
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.retrieval.passages import linking, passages_linking
from biobridge_rag.retrieval.spelling import loose_key, words_of
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Query, Relation, Retrieval, RetrievedNode, Triple

_P, _D, _S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
_ENDS: dict[str, tuple[tuple[NodeType, ...], tuple[NodeType, ...]]] = {
    "associated with": ((_S, _P), (_P, _S)),
    "indication": ((_D,), (_S,)),
    "contraindication": ((_D,), (_S,)),
    "target": ((_D, _P), (_P, _D)),
    "enzyme": ((_D, _P), (_P, _D)),
    "transporter": ((_D,), (_P,)),
    "ppi": ((_P,), (_P,)),
    "interacts with": ((_P,), tuple(t for t in NodeType if t not in (_P, _D, _S))),
    IS_A: ((_S, *NodeType), (_S, *NodeType)),
    IDENTIFIER: (tuple(NodeType), ()),
}
# How far each basis is trusted, by judgement: an order, calibrated on nothing; a prediction states its own.
SURE = {"edge": 0.97, "identifier": 0.97, "name": 0.9, "passage": 0.9, "path": 0.8, "guess": 0.6}
MIN_TOP, MAX_TOP = 20, 1000
LIKELY_RANK = 0.1  # a prediction among this share of all tails speaks for a link
MIN_CHOICE = 0.5
_HOPS = 3
_PARENT = "parent-child"
_LOOSE = ("associated with", "interacts with", "ppi")
"""What is said of any two things that are linked, as well as of the types that these relations go between."""
Retrieve = Callable[[Query, Relation, int], Retrieval]


@dataclass(frozen=True)
class Verdict:
    """Whether a statement holds; probability: how far the basis is trusted, in [0.5, 1]; basis: edge | identifier | name | passage | path |
    predicted | guess; statements: the evidence; missing: what the graph has no node for."""

    holds: bool
    probability: float
    basis: str
    statements: tuple[Statement, ...] = ()
    said: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """One option of a choice: its words, its node or None, a score (1 for each entity that an edge links it to, less for weaker
    evidence), and the evidence."""

    text: str
    node: Node | None
    score: float
    statements: tuple[Statement, ...] = ()


@dataclass
class Decider:
    """Decides over one graph. `retrieve` gives hits of a query along a relation; passages: whether descriptions count as evidence;
    edges: whether the graph's edges and predictions do."""

    graph: KnowledgeGraph
    linker: NodeLinker
    retrieve: Retrieve
    passages: bool = True
    edges: bool = True
    notices: list[str] = field(default_factory=list)

    def verdict(self, claim: Claim) -> Verdict:
        """The verdict on a claim, by the strongest evidence that there is."""
        heads, tails = _ENDS.get(claim.relation, (tuple(NodeType), tuple(NodeType)))
        if claim.relation == IDENTIFIER:
            return self._identifier(claim, self._node(claim.subject, heads))
        a, b = self._pair(claim, heads, tails)
        missing = tuple(text for text, node in ((claim.subject, a), (claim.object, b)) if node is None)
        if a is not None and b is not None and claim.relation in _LOOSE and not any(r.name == claim.relation for r in self._between(a, b)):
            claim = replace(claim, relation=ANY)
        for holds, basis, probability, statements, said in self._evidence(claim, a, b):
            return Verdict(holds != claim.negated, probability, basis, tuple(statements), said, missing)
        return Verdict(not claim.negated, SURE["guess"], "guess", (), "", missing)

    def _evidence(self, claim: Claim, a: Node | None, b: Node | None) -> Iterator[tuple[bool, str, float, list[Statement], str]]:
        """(linked, basis, probability, statements, words) of each kind of evidence, strongest first."""
        if a is not None and b is not None and self.edges:
            edges = [
                t
                for t in self._edges(a, b)
                if claim.relation in (ANY, t.relation.name) or (claim.relation, t.relation.name) == (IS_A, _PARENT)
            ]
            if edges:
                yield True, "edge", SURE["edge"], [known(t) for t in edges], ""
        if claim.relation == IS_A:
            yield from self._is_a(claim, a, b)
        if self.passages:
            yield from self._passages(claim, a, b)
        if self.edges and a is not None and b is not None:
            if claim.relation not in (IS_A, "indication", "contraindication"):
                yield from self._nearby(claim, a, b)
            yield from self._predicted(claim, a, b)

    def _is_a(self, claim: Claim, a: Node | None, b: Node | None) -> Iterator[tuple[bool, str, float, list[Statement], str]]:
        """A term is what its name ends in ("alveolar rhabdomyosarcoma" a rhabdomyosarcoma), and what its ancestors are."""
        name, kind = words_of(claim.subject), words_of(claim.object)
        core = [w for w in name if w not in ("type", "group") and not re.fullmatch(r"[0-9]+[a-z]?|[a-z]", w)]
        if kind and len(name) > len(kind) and core[-len(kind) :] == kind:
            yield True, "name", SURE["name"], [], f"its name says so: {claim.subject}"
        if a is not None and b is not None and self.edges:
            chain = self._chain(a, b)
            if chain:
                edges = [self._edges(x, y)[0] for x, y in itertools.pairwise(chain)]
                yield True, "path", SURE["path"], [path(edges)], ""
        if a is not None and self.passages and a.description:
            said = set(loose_key(words_of(a.description)).split())
            wanted = set(loose_key([w for w in kind if w not in ("a", "an", "disease", "disorder")]).split())
            if wanted and wanted <= said:
                passages = passages_linking(a, [claim.object]) or passages_linking(a, kind)
                text = passages[0].text if passages else a.description[:300]
                yield True, "passage", SURE["passage"], [passage(a, text)], ""

    def _passages(self, claim: Claim, a: Node | None, b: Node | None) -> Iterator[tuple[bool, str, float, list[Statement], str]]:
        found = linking(a, b) if a and b else []
        if a is not None and b is None:
            found = passages_linking(a, [claim.object])
        if b is not None and a is None:
            found = passages_linking(b, [claim.subject])
        if found:
            statements = [passage(p.node, p.text) for p in found[:2]]
            yield True, "passage", SURE["passage"], statements, ""

    def _nearby(self, claim: Claim, a: Node, b: Node) -> Iterator[tuple[bool, str, float, list[Statement], str]]:
        """An edge from a parent or child term of the disease."""
        for disease, other in ((a, b), (b, a)):
            if disease.type is not _S:
                continue
            at = self._at(disease)
            for position in sorted(linked(self.graph, at, _PARENT, _S)):
                near = self.graph.nodes[position]
                edges = [t for t in self._edges(near, other) if t.relation.name == claim.relation]
                if edges:
                    hop = next(t for t in self._edges(disease, near) if t.relation.name == _PARENT)
                    yield True, "path", SURE["path"], [path([hop, edges[0]])], ""
                    return

    def _predicted(self, claim: Claim, a: Node, b: Node) -> Iterator[tuple[bool, str, float, list[Statement], str]]:
        """Where the bridge ranks one among all tails of the other: high speaks for a link, low against one."""
        relation = next(
            (r for r in self.graph.relations if r.name == claim.relation and (r.head_type, r.tail_type) == (a.type.value, b.type.value)),
            None,
        )
        if relation is None:
            return
        n_tails = len(self.graph.by_type[b.type])
        top = min(MAX_TOP, max(MIN_TOP, int(LIKELY_RANK * n_tails)))
        hits = self._hits(a, relation, top)
        if hits is None:
            return
        hit = next((h for h in hits if h.node.id == b.id), None)
        if hit is None:
            said = f"the graph has no edge and the model does not rank {b.name} among the {top:,} likeliest of {n_tails:,} for {a.name}"
            yield False, "predicted", SURE["guess"], [about(a), about(b)], said
        else:
            statement = predicted(a.name, a.type, relation.name, hit)
            yield True, "predicted", max(hit.probability, SURE["guess"]), [statement], ""

    def _identifier(self, claim: Claim, a: Node | None) -> Verdict:
        stated = _identifier(claim.object)
        owner = next(
            (n for t in NodeType if (p := self.graph.position(t, claim.object.upper())) is not None for n in [self.graph.nodes[p]]), None
        )
        schemes = {_scheme(a.id), *(_scheme(s) for s in a.synonyms)} if a is not None else set()
        if a is not None and self.edges and (_scheme(claim.object) in schemes or owner not in (None, a)):
            holds = stated in {_identifier(a.id), *(_identifier(s) for s in a.synonyms)}
            return Verdict(holds != claim.negated, SURE["identifier"], "identifier", (about(a),), f"the graph has it as {a.id}")
        if a is None and owner is not None and self.edges:
            said = f"{claim.object} is {owner.name} in the graph"
            return Verdict(claim.negated, SURE["identifier"], "identifier", (about(owner),), said, (claim.subject,))
        return Verdict(not claim.negated, SURE["guess"], "guess", (), "", () if a is not None else (claim.subject,))

    def options(self, texts: Sequence[str], entities: Sequence[Node], names: frozenset[str], wanted: Sequence[NodeType]) -> list[Option]:
        """The options, best first (as given where equal), by what links them to the entities along relations of these names."""
        out = []
        for text in dict.fromkeys(texts):
            node = self._node(text, tuple(wanted) or tuple(NodeType))
            score, statements = 0.0, list[Statement]()
            for entity in entities if node is not None else ():
                assert node is not None
                worth, found = self._worth(entity, node, names)
                score += worth
                statements += found
            out.append(Option(text, node, score, tuple(statements)))
        return sorted(out, key=lambda option: -option.score)

    def _worth(self, entity: Node, node: Node, names: frozenset[str]) -> tuple[float, list[Statement]]:
        """How strongly an entity is linked to an option's node, in [0, 1], and the evidence."""
        edges = [t for t in self._edges(entity, node) if not names or t.relation.name in names] if self.edges else []
        if edges:
            return 1.0, [known(t) for t in edges]
        names = names or frozenset(r.name for r in self._between(entity, node))
        for name in sorted(names):
            claim = Claim(entity.name, name, node.name, False)
            if self.passages:
                for _, _, _, statements, _ in self._passages(claim, entity, node):
                    return 0.8, statements
            if self.edges:
                for _, _, _, statements, _ in self._nearby(claim, entity, node):
                    return 0.6, statements
                for holds, _, _, statements, _ in self._predicted(claim, entity, node):
                    if holds:
                        return 0.1 + 0.4 * statements[0].probability, statements
        return 0.0, []

    def _hits(self, node: Node, relation: Relation, top: int) -> Sequence[RetrievedNode] | None:
        """None where they cannot be had; a notice says why."""
        query = Query(node.type, node.name, node.values[0] if node.values else "", node)
        try:
            return self.retrieve(query, relation, top).hits
        except BiobridgeError as error:
            self.notices.append(f"No predictions for {node.name}: {error.message}")
            return None

    def _pair(self, claim: Claim, heads: tuple[NodeType, ...], tails: tuple[NodeType, ...]) -> tuple[Node | None, Node | None]:
        """The nodes of subject and object: of the types that the relation goes between, in either order."""
        a = self._node(claim.subject, heads)
        if a is not None and a.type in heads and len(heads) == len(tails) == 2:
            tails = (tails[heads.index(a.type)],)
        b = self._node(claim.object, tails)
        if a is None and b is None:
            a, b = self._node(claim.subject, tails), self._node(claim.object, heads)
        every = tuple(NodeType)
        return a or self._node(claim.subject, every), b or self._node(claim.object, every)

    def _node(self, text: str, types: Sequence[NodeType]) -> Node | None:
        """The node that the whole text names, of the first of these types that has one."""
        for node_type in dict.fromkeys(types):
            node = self.linker.named(text, node_type.value)
            if node is not None:
                return node
        return None

    def _edges(self, a: Node, b: Node) -> list[Triple]:
        at, other = self._at(a), self._at(b)
        edges = [self.graph.triple(int(e)) for e in self.graph.edges_from(at) if self.graph.tail[e] == other]
        return edges or [self.graph.triple(int(e)) for e in self.graph.edges_from(other) if self.graph.tail[e] == at]

    def _between(self, a: Node, b: Node) -> list[Relation]:
        return [r for r in self.graph.relations if (r.head_type, r.tail_type) == (a.type.value, b.type.value)]

    def _chain(self, a: Node, b: Node) -> list[Node]:
        """Terms from a to b by parent-child edges, at most _HOPS of them; empty where there is none."""
        start, goal = self._at(a), self._at(b)
        came, border = {start: start}, [start]
        for _ in range(_HOPS):
            border = [
                t for s in border for t in sorted(linked(self.graph, s, _PARENT, a.type)) if came.setdefault(t, s) == s and t != start
            ]
            if goal in came:
                chain = [goal]
                while chain[-1] != start:
                    chain.append(came[chain[-1]])
                return [self.graph.nodes[p] for p in reversed(chain)]
        return []

    def _at(self, node: Node) -> int:
        at = self.graph.position(node.type, node.id)
        assert at is not None, "nodes come from the graph"
        return at


def _scheme(text: str) -> str:
    """What an identifier is one of: "DOID" of "DOID:50466"; of others the pattern of letters and digits, "AA0" of "DB00317"."""
    prefix, colon, _ = text.upper().rpartition(":")
    return prefix if colon else re.sub(r"[0-9]+", "0", re.sub(r"[A-Z]", "A", text.upper()))


def _identifier(text: str) -> str:
    """An identifier as it is compared: "DOID:0050466" and "doid:50466" are the same."""
    prefix, _, number = text.upper().rpartition(":")
    return f"{prefix}:{number.lstrip('0')}"
