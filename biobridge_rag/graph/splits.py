"""Splits of a graph for evaluation: what training must not have seen, from the mildest to the strictest question.

Knows: graphs, clusters of near twins. Does not know: models, metrics, encoders.

inductive          proteins, drugs and diseases leave the graph with all their edges, in both directions
inductive-cluster  the same, with all their near twins: likeness in sequence, scaffold or wording finds nothing in training
paper              heads of each type lose their edges as head; the inverse edges stay in training, as in the code of BioBridge's
                   authors (Wang et al. 2024, arXiv 2310.03320): leaky, since each inverse edge states its test edge
relation           one relation has no edge in training, in neither direction
modality           one node type has no edge in training, in neither direction
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.errors import DiskFullError, FileError, InputError, LeakageError
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Relation, Split, Vectors

if TYPE_CHECKING:
    from biobridge_rag.graph.primekg import UnseenNodes

HELD_TYPES = (NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE)
MIN_HEADS, MOST_HEADS = 20, 1000
FORMAT = 1
_STAY = ("paper", "relation", "modality")


@dataclass(frozen=True)
class HeldOut:
    """A training graph, and the held-out nodes with their test edges into it.

    rows: None where the held-out nodes left the graph; else (n,) the row of each of `unseen.nodes` in the graph's tables of
    its type, for they are nodes of the training graph that only lack edges. In every split, all true tails of a test
    head that are candidates are among its own test edges, so these are all that a filtered rank has to leave out.
    """

    graph: KnowledgeGraph
    unseen: UnseenNodes
    rows: Indices | None = None

    @property
    def in_graph(self) -> bool:
        return self.rows is not None


@dataclass(frozen=True)
class _Wish:
    """What `draw` was asked for."""

    fraction: float
    seed: int
    tables: Mapping[NodeType, Vectors] | None
    what: str | None
    thresholds: Mapping[NodeType, float] | None
    most: int


def draw(
    name: str, graph: KnowledgeGraph, fraction: float, seed: int, tables: Mapping[NodeType, Vectors] | None = None, what: str | None = None,
    *, thresholds: Mapping[NodeType, float] | None = None, most: int = MOST_HEADS,
) -> Split:  # fmt: skip
    """Draws the split `name` of SPLITS; the same arguments give the same split.

    fraction: share of heads in (0, 0.5], for the first three splits; tables: type -> (n_t, d_t) unit embeddings of the whole
    graph in its order, for inductive-cluster; thresholds: type -> cosine of near twins in (0, 1], in place of the default, for the
    same; what: for relation the key "head type|name|tail type" (None: drawn among those between two types with 20 or more heads),
    for modality the node type (None: disease); most: heads of each type that these two test, drawn where there are more.
    Raises InputError for a name, share, key, type or table that does not fit.
    """
    if name not in SPLITS:
        raise InputError(f"There is no split {name!r}.", f"Valid names: {', '.join(SPLITS)}.")
    if what is not None and name not in ("relation", "modality"):
        raise InputError(f"The split {name!r} takes no relation or node type, but {what!r} was given.")
    if thresholds is not None and name != "inductive-cluster":
        raise InputError(f"The split {name!r} takes no cosine of near twins.")
    if most < 1:
        raise InputError(f"At least one head must be tested, not {most}.")
    _check_share(fraction)
    return SPLITS[name](graph, _Wish(fraction, seed, tables, what, thresholds, most))


def draw_inductive(graph: KnowledgeGraph, fraction: float, seed: int) -> Split:
    """Draws `fraction` of the proteins, drugs and diseases that have an edge. Raises InputError outside 0 to 0.5."""
    _check_share(fraction)
    return Split("inductive", seed, _draw_heads(graph, HELD_TYPES, fraction, seed), fraction)


def _check_share(fraction: float) -> None:
    if not 0.0 < fraction <= 0.5:
        raise InputError(f"The share of heads to hold out must be above 0 and at most 0.5, not {fraction}.")


def _linked(graph: KnowledgeGraph, node_type: NodeType) -> Indices:
    """Positions of the nodes of a type that are the head of an edge."""
    positions = graph.by_type.get(node_type, np.zeros(0, np.int64))
    used = np.zeros(len(graph.nodes), dtype=bool)
    used[graph.head] = True
    return positions[used[positions]]


def _draw_heads(graph: KnowledgeGraph, types: tuple[NodeType, ...], fraction: float, seed: int) -> dict[NodeType, Indices]:
    rng = np.random.default_rng(seed)
    having = {t: p for t in types if len(p := _linked(graph, t))}
    return {t: np.sort(rng.choice(p, max(1, round(fraction * len(p))), replace=False)) for t, p in having.items()}


def _draw_paper(graph: KnowledgeGraph, wish: _Wish) -> Split:
    return Split("paper", wish.seed, _draw_heads(graph, tuple(NodeType), wish.fraction, wish.seed), wish.fraction, leaky=True)


def _draw_clusters(graph: KnowledgeGraph, wish: _Wish) -> Split:
    from biobridge_rag.graph.clusters import THRESHOLDS, draw_clusters

    limits = {**THRESHOLDS, **(wish.thresholds or {})}
    if set(limits) != set(HELD_TYPES):
        raise InputError("Near twins are looked for among proteins, drugs and diseases alone.")
    linked = {t: p for t in HELD_TYPES if len(p := _linked(graph, t))}
    held = draw_clusters(graph, linked, wish.tables or {}, limits, wish.fraction, wish.seed)
    return Split("inductive-cluster", wish.seed, held, wish.fraction, thresholds={t: limits[t] for t in held})


def _sample(rng: np.random.Generator, rows: Indices, most: int) -> Indices:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _draw_relation(graph: KnowledgeGraph, wish: _Wish) -> Split:
    heads = {r: graph.by_type[NodeType(r.head_type)][np.unique(graph.edges(r)[0])] for r in graph.relations if len(graph.edges(r)[0])}
    rng = np.random.default_rng(wish.seed)
    if wish.what is None:
        large = sorted(r for r, h in heads.items() if r.head_type != r.tail_type and len(h) >= MIN_HEADS)
        pairs = [r for r in large if r.inverse not in large or r < r.inverse]
        if not pairs:
            raise InputError(f"No relation between two node types has {MIN_HEADS} or more heads.", "Name the relation to hold out.")
        relation = pairs[int(rng.integers(len(pairs)))]
    else:
        found = {r.key: r for r in sorted(heads)}
        if wish.what not in found:
            raise InputError(f"The graph has no relation {wish.what!r}.", f"Valid keys: {', '.join(found)}.")
        relation = found[wish.what]
    both = {NodeType(r.head_type): heads[r] for r in (relation, relation.inverse) if r in heads}
    return Split("relation", wish.seed, {t: _sample(rng, p, wish.most) for t, p in both.items()}, relation=relation)


def _draw_modality(graph: KnowledgeGraph, wish: _Wish) -> Split:
    cross = [r for r in graph.relations if r.head_type != r.tail_type and len(graph.edges(r)[0])]
    valid = sorted({r.head_type for r in cross})
    what = NodeType.DISEASE.value if wish.what is None else wish.what
    if what not in valid:
        raise InputError(f"The graph has no node type {what!r} with edges to other types.", f"Valid names: {', '.join(valid)}.")
    rng = np.random.default_rng(wish.seed)
    held = {}
    for node_type in NodeType:
        touching = [r for r in cross if r.head_type == node_type and what in (r.head_type, r.tail_type)]
        if touching:
            rows = np.unique(np.concatenate([graph.edges(r)[0] for r in touching]))
            held[node_type] = _sample(rng, graph.by_type[node_type][rows], wish.most)
    return Split("modality", wish.seed, held, node_type=NodeType(what))


SPLITS: dict[str, Callable[[KnowledgeGraph, _Wish], Split]] = {
    "inductive": lambda graph, wish: draw_inductive(graph, wish.fraction, wish.seed),
    "inductive-cluster": _draw_clusters,
    "paper": _draw_paper,
    "relation": _draw_relation,
    "modality": _draw_modality,
}


def hold_out(graph: KnowledgeGraph, split: Split) -> HeldOut:
    """Takes the split's nodes or edges out of the graph; the module's head says which. Any other split, such as a fold, is
    taken as inductive. Edges that are neither in training nor tested, other than inverses, are counted in `unseen.skipped`.
    `check_leakage` proves the outcome."""
    from biobridge_rag.graph.primekg import UnseenNodes

    held = np.zeros(len(graph.nodes), dtype=bool)
    held[split.all_held] = True
    out, tested, skipped = _edges_out(graph, split, held)
    left = held if split.name not in _STAY else np.zeros_like(held)
    new_position = np.cumsum(~left) - 1
    train = KnowledgeGraph(
        f"{graph.name}-{split.name}-{split.seed}",
        tuple(node for node, gone in zip(graph.nodes, left, strict=True) if not gone),
        graph.relations,
        new_position[graph.head[~out]].astype(np.int32),
        graph.relation[~out],
        new_position[graph.tail[~out]].astype(np.int32),
        graph.source[~out],
        graph.sources,
    )
    place = np.cumsum(held) - 1
    edges: dict[Relation, tuple[Indices, Indices]] = {}
    numbers = np.flatnonzero(tested)
    for i, relation in enumerate(graph.relations):
        at = numbers[graph.relation[numbers] == i]
        if len(at):
            pairs = np.unique(place[graph.head[at]] * len(graph.nodes) + train.rank_in_type[new_position[graph.tail[at]]])
            edges[relation] = (pairs // len(graph.nodes), pairs % len(graph.nodes))
    nodes = tuple(graph.nodes[i] for i in split.all_held)
    rows = graph.rank_in_type[split.all_held] if split.name in _STAY else None
    return HeldOut(train, UnseenNodes(nodes, edges, {why: n for why, n in skipped.items() if n}), rows)


def _edges_out(graph: KnowledgeGraph, split: Split, held: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], dict[str, int]]:
    """Masks (m,) of the edges that leave training and of those that are tested, and counts of what is neither, by reason."""
    head, tail = held[graph.head], held[graph.tail]
    if split.name not in _STAY:
        return head | tail, head & ~tail, {"edge between two held-out nodes": int((head & tail).sum())}
    if split.name == "paper":
        return head, head, {}
    touched = np.array([_touches(split, r) for r in graph.relations], dtype=bool)[graph.relation]
    within = np.array([split.node_type is not None and r.head_type == r.tail_type for r in graph.relations], dtype=bool)[graph.relation]
    tested = touched & ~within & head
    return touched, tested, {
        "edge between two nodes of the held-out type": int((touched & within).sum()),
        "edge of a head that was not drawn for the test": int((touched & ~within & ~head).sum()),
    }  # fmt: skip


def _touches(split: Split, relation: Relation) -> bool:
    if split.relation is not None:
        return relation in (split.relation, split.relation.inverse)
    return split.node_type in (relation.head_type, relation.tail_type)


def check_leakage(graph: KnowledgeGraph, split: Split, held_out: HeldOut, tables: Mapping[NodeType, Vectors] | None = None) -> int:
    """Proves on the edges themselves that training holds nothing that the split keeps for the test; `graph` is the whole graph.

    Raises LeakageError naming the first leak: a test edge or (but for `paper`) its inverse in training; for the inductive
    splits, a held-out node in training; for inductive-cluster, a near twin of one too (tables: of the whole graph, as for `draw`);
    for paper, an edge of a held-out head; for relation and modality, an edge of that relation or type; for all, an edge that
    the graph lacks.
    Returns how many test edges have their inverse in training: 0 but for `paper`, where the report should state it.
    Other relations between the same two nodes are no leak by these definitions, and are not looked for.
    """
    train, unseen = held_out.graph, held_out.unseen
    at, tested_nodes = _positions(graph, train.nodes, split), _positions(graph, unseen.nodes, split)
    head, tail = at[train.head], at[train.tail]
    held = np.zeros(len(graph.nodes), dtype=bool)
    held[split.all_held] = held[tested_nodes] = True
    if split.name not in _STAY:
        for p in at[held[at]][:1]:
            raise _leak(split, f"the held-out node {_shown(graph, p)} is in training")
    if split.name == "inductive-cluster":
        _check_twins(graph, split, held, at, tables)
    if split.name == "paper":
        out, what = held[head], "an edge of a held-out head"
    else:
        both = (split.relation, split.relation.inverse) if split.relation else ()
        of_type = np.array([node.type == split.node_type for node in graph.nodes], dtype=bool)
        out = np.array([r in both for r in train.relations], dtype=bool)[train.relation] | of_type[head] | of_type[tail]
        what = "an edge of what is held out"
    for e in np.flatnonzero(out)[:1]:
        raise _leak(split, f"{what} is in training: {_shown_edge(graph, head[e], train.relations[train.relation[e]], tail[e])}")
    n, n_inverse = len(graph.nodes), 0
    keys = {r: head[e] * n + tail[e] for r in train.relations if len(e := train.edge_numbers(r))}
    for relation, key in keys.items():
        stated = graph.edge_numbers(relation)
        for made_up in key[~np.isin(key, graph.head[stated].astype(np.int64) * n + graph.tail[stated])][:1]:
            raise _leak(split, f"an edge of training is not in the graph: {_shown_edge(graph, made_up // n, relation, made_up % n)}")
    for relation, (heads, tails) in unseen.edges.items():
        h, t = tested_nodes[heads], at[train.by_type[NodeType(relation.tail_type)][tails]]
        same = np.isin(h * n + t, keys.get(relation, []))
        inverse = np.isin(t * n + h, keys.get(relation.inverse, []))
        n_inverse += int(inverse.sum())
        for e in np.flatnonzero(same if split.leaky else same | inverse)[:1]:
            what = "test edge" if same[e] else "inverse of a test edge"
            raise _leak(split, f"the {what} is in training: {_shown_edge(graph, h[e], relation, t[e])}")
    return n_inverse


def _check_twins(
    graph: KnowledgeGraph, split: Split, held: NDArray[np.bool_], at: Indices, tables: Mapping[NodeType, Vectors] | None
) -> None:
    from biobridge_rag.graph.clusters import THRESHOLDS, first_twin, of_type

    kept = np.zeros(len(graph.nodes), dtype=bool)
    kept[at] = True
    for node_type in split.held:
        positions, threshold = graph.by_type[node_type], split.thresholds.get(node_type, THRESHOLDS[node_type])
        nodes, x = of_type(graph, node_type, tables)
        twin = first_twin(nodes, x, np.flatnonzero(held[positions]), np.flatnonzero(kept[positions]), threshold)
        if twin:
            i, j = (_shown(graph, positions[row]) for row in twin[:2])
            raise _leak(split, f"{j} in training and the held-out {i} share {twin[2]}")


def _positions(graph: KnowledgeGraph, nodes: tuple[Node, ...], split: Split) -> Indices:
    places = [graph.position(node.type, node.id) for node in nodes]
    if None in places:
        node = nodes[places.index(None)]
        raise _leak(split, f"{node.id} ({node.type.label}) is not in the graph that was split")
    return np.array(places, dtype=np.int64)


def _shown(graph: KnowledgeGraph, position: int) -> str:
    return f"{graph.nodes[position].id} ({graph.nodes[position].type.label})"


def _shown_edge(graph: KnowledgeGraph, head: int, relation: Relation, tail: int) -> str:
    return f"{_shown(graph, head)} -{relation.name}-> {_shown(graph, tail)}"


def _leak(split: Split, what: str) -> LeakageError:
    return LeakageError(f"The split {split.name!r} leaks: {what}.", "No figure measured on it says what it seems to say.")


def save_split(split: Split, graph: KnowledgeGraph, path: Path) -> None:
    """Writes the split of `graph` as JSON: its hash, how the split was drawn, and the ids of the held-out nodes by type.
    Raises DiskFullError where it cannot be written."""
    document = {
        "format": FORMAT,
        "graph": graph.name,
        "graph_sha256": graph.sha256,
        "name": split.name,
        "seed": split.seed,
        "fraction": split.fraction,
        "relation": split.relation and [split.relation.name, split.relation.head_type, split.relation.tail_type],
        "node_type": split.node_type,
        "thresholds": split.thresholds,
        "leaky": split.leaky,
        "held": {t: [graph.nodes[i].id for i in positions] for t, positions in split.held.items()},
    }
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DiskFullError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_split(path: Path, graph: KnowledgeGraph) -> Split:
    """The split that `save_split` wrote. Raises FileError where the file cannot be read, InputError where it was drawn from another
    graph or names a node that `graph` does not have."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise FileError(f"The split {path} has format {data['format']}; this version reads format {FORMAT}.")
        if data["graph_sha256"] != graph.sha256:
            raise InputError(f"The split {path} was drawn from another graph ({data['graph']}) than this one ({graph.name}).")
        if data["name"] not in SPLITS:
            raise InputError(f"The split {path} is of an unknown kind, {data['name']!r}.", f"Valid names: {', '.join(SPLITS)}.")
        held = {}
        for node_type, ids in data["held"].items():
            places = [graph.position(node_type, i) for i in ids]
            if None in places:
                raise InputError(f"The split {path} names {ids[places.index(None)]} ({node_type}), which the graph does not have.")
            held[NodeType(node_type)] = np.unique(np.array(places, dtype=np.int64))
        return Split(
            str(data["name"]),
            int(data["seed"]),
            held,
            float(data["fraction"]),
            data["relation"] and Relation(*map(str, data["relation"])),
            data["node_type"] and NodeType(data["node_type"]),
            {NodeType(t): float(cosine) for t, cosine in data["thresholds"].items()},
            bool(data["leaky"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"The split {path} cannot be read ({type(error).__name__}).", "Draw it again.") from error
