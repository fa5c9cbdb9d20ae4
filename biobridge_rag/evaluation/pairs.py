"""Labelled pairs of a protein and a drug, scored by what the graph knows of others, and how well the scores tell 1 from 0.

One side of each pair is the query, whose own edges are never read: the protein, unless only the drug is new to the graph. Left-out
queries of the graph teach what is read for a new one: they leave in five folds, each with all its edges, every edge of a left-out
query is a positive and pairs drawn evenly from queries and others are negatives, as in the data sets that are tested (Huang et al.
2021, MolTrans, arXiv 2004.11424). Evidence: kernel ridge regression over the queries, then over the others, leave-one-out there
(two-step kernel ridge: Stock et al. 2018, arXiv 1803.01575); analogues; popularity; and profiles, the terms and diseases that the
query's analogues carry, matched with those of queries whose edges are known.

An other that has no edge left when a fold leaves is mostly a positive by construction, since each has an edge somewhere. Pairs of
such others teach nothing of others with edges; those without ("cold") get weights of their own, learned from all pairs with the
other's own edges hidden. Positives and negatives weigh the same in both, so that being unknown is never itself evidence for a pair.

Knows: graphs, embeddings, kernels, CSV. Does not know: encoders, homes, trained bridges, the store.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from biobridge_rag.bridge.model import kernel
from biobridge_rag.bridge.training import inverse_of
from biobridge_rag.chemistry import inchikey, mol_or_none, parse_smiles
from biobridge_rag.encoders.sequences import clean_sequence, printable
from biobridge_rag.errors import FileError, InputError, MoleculeError, SequenceError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.retrieval.analogues import K, votes
from biobridge_rag.types import GO_TYPES, Indices, KnowledgeGraph, NodeType, Relation, Vectors

Progress = Callable[[str, int, int], None]
Encode = Callable[[NodeType, list[str]], Vectors]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

METHODS = ("fused", "bridge", "analogues", "popularity")
PROTOCOL = (
    "every pair scored without the edges of its query: the protein, or the drug where it alone is new to the graph; AUROC and average "
    "precision over all pairs together, ties in one step; 95 % bootstrap intervals over proteins"
)
COLUMNS = {"smiles": ("smiles",), "sequence": ("sequence", "target sequence", "target_sequence"), "label": ("label",)}
FOLDS, MIN_HEADS = 5, 20
_NEGATIVES = 3  # negatives drawn for a positive; they weigh as much as the positives together
_NEAR = 15  # nearest others whose known queries a pair is compared with
_PULL = 100.0  # ridge on the fused weights, in pairs
_BLOCK = 128
_RESAMPLES = 1000


@dataclass(frozen=True)
class Pairs:
    """Distinct labelled pairs. smiles: distinct molecules, canonical, largest fragment; sequences: distinct, clean; drug, protein:
    (n,) positions in them; labels: (n,) 0 or 1. `skipped` counts the rows that were left out, by reason."""

    smiles: tuple[str, ...]
    sequences: tuple[str, ...]
    drug: Indices
    protein: Indices
    labels: Indices
    skipped: dict[str, int]


def read_pairs(path: Path) -> Pairs:
    """The pairs of a CSV file, plain or .gz, with the columns smiles, sequence (or "target sequence") and label, in any case.

    Of rows with one molecule and sequence the first is kept. Raises FileError for a file that cannot be read, InputError for a
    missing column, no usable row, or rows of one label only.
    """
    skipped: Counter[str] = Counter()
    molecules, sequences = _Distinct(_canonical), _Distinct(clean_sequence)
    found: dict[tuple[int, int], int] = {}
    for smiles, sequence, label in _rows(Path(path)):
        drug, protein, number = molecules.place(smiles), sequences.place(sequence), _label(label)
        if drug is None:
            skipped["unreadable SMILES"] += 1
        elif protein is None:
            skipped["invalid sequence"] += 1
        elif number is None:
            skipped["label that is not 0 or 1"] += 1
        elif (drug, protein) in found:
            skipped["duplicate" if found[drug, protein] == number else "duplicate with another label"] += 1
        else:
            found[drug, protein] = number
    labels = np.array(list(found.values()), dtype=np.int64)
    if len(set(found.values())) < 2:
        why = "; ".join(f"{n:,} left out: {reason}" for reason, n in skipped.items())
        what = f"only pairs of label {labels[0]}" if len(labels) else "no usable pair"
        raise InputError(f"{path} has {what}{f' ({why})' if why else ''}.", "Both labels, 0 and 1, are needed.")
    keys = np.array(list(found), dtype=np.int64)
    return Pairs(tuple(molecules.values), tuple(sequences.values), keys[:, 0], keys[:, 1], labels, dict(skipped))


def _canonical(smiles: str) -> str:
    return parse_smiles(smiles).smiles


class _Distinct:
    """Numbers values in the order of their first appearance, by what `clean` makes of them; each text is cleaned once."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean, self._seen, self._places = clean, dict[str, int | None](), dict[str, int]()

    def place(self, text: str) -> int | None:
        """The value's number, or None where it cannot be used."""
        if text not in self._seen:
            try:
                self._seen[text] = self._places.setdefault(self._clean(text), len(self._places))
            except (MoleculeError, SequenceError):
                self._seen[text] = None
        return self._seen[text]

    @property
    def values(self) -> list[str]:
        return list(self._places)


def _label(text: str) -> int | None:
    return {"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(text.strip())


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """(smiles, sequence, label) of each row that is not blank, as text; a field that a short row lacks is empty."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip().lower() for name in next(reader, [])]
            if not header:
                raise InputError(f"{path} is empty.", "Give a CSV file with the columns smiles, sequence and label.")
            at = []
            for column, names in COLUMNS.items():
                known = [header.index(name) for name in names if name in header]
                if not known:
                    raise InputError(f"{path} has no column {column}.", f"It has: {printable(', '.join(header)[:200])}.")
                at.append(known[0])
            for row in reader:
                if any(row):
                    smiles, sequence, label = (row[i] if i < len(row) else "" for i in at)
                    yield smiles, sequence, label
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}.", "Give a CSV file in UTF-8, plain or .gz.") from error


def pair_relation(graph: KnowledgeGraph, name: str) -> Relation:
    """The relation of that name from proteins to drugs. Raises InputError that lists the names there are."""
    named = {r.name: r for r in graph.relations if (r.head_type, r.tail_type) == (NodeType.PROTEIN, NodeType.DRUG)}
    if name not in named:
        raise InputError(
            f"The graph has no relation {name!r} between proteins and drugs.", f"It has: {', '.join(sorted(named)) or 'none'}."
        )
    return named[name]


def evaluate_pairs(
    graph: KnowledgeGraph,
    tables: Mapping[NodeType, Vectors],
    encode: Encode,
    pairs: Pairs,
    relation: Relation,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """The report of `evaluate pairs`: AUROC and average precision ("aupr") of METHODS on the pairs, with intervals.

    tables: type -> (n_t, d_t) unit rows in the order of the graph; encode(type, values) -> unit rows of what the graph lacks;
    relation: between proteins and drugs, in either direction. A protein is matched by its exact sequence; a drug by its canonical
    SMILES, else by its InChIKey, else by the InChIKey's first block (same skeleton) where one drug of the graph alone has it.
    `n_known_edges` pairs are edges of the graph; they are scored as all others are, without the query's edges.

    fused: log odds that the edge holds, of all evidence; bridge: the two-step kernel attention; analogues: vote of the 40 nearest
    queries, and for a cold other that of the 40 nearest others; popularity: log (1 + edges) of both sides, the query's taken as none.
    Raises InputError where the relation is not one of proteins and drugs, or has fewer than 20 heads of a type that is to be queried.
    """
    if {relation.head_type, relation.tail_type} != {NodeType.PROTEIN.value, NodeType.DRUG.value}:
        raise InputError(f"Pairs are of a protein and a drug; {relation} is between other types.")
    relation = pair_relation(graph, relation.name)
    drug_rows, matched, drug_keys = _match_drugs(graph, pairs.smiles)
    texts = [graph.nodes[i].values[0] for i in graph.by_type[NodeType.PROTEIN]]
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    protein_rows = np.array([first.get(s, -1) for s in pairs.sequences], dtype=np.int64)
    proteins = _Nodes(NodeType.PROTEIN, pairs.sequences, protein_rows, _codes(texts))
    drugs = _Nodes(NodeType.DRUG, pairs.smiles, drug_rows, drug_keys)
    x = {nodes.type: _vectors(nodes, tables, encode) for nodes in (proteins, drugs)}
    by_drug = (protein_rows[pairs.protein] >= 0) & (drug_rows[pairs.drug] < 0)
    scores = {m: np.zeros(len(pairs.labels)) for m in METHODS}
    learned: dict[str, dict[str, int]] = {}
    for chosen, query, other, direction in ((~by_drug, proteins, drugs, relation), (by_drug, drugs, proteins, relation.inverse)):
        at = np.flatnonzero(chosen)
        if not len(at):
            continue
        side = _Side(graph, tables, direction, query.twins, seed)
        q, o = (pairs.protein[at], pairs.drug[at]) if query is proteins else (pairs.drug[at], pairs.protein[at])
        given, learned[f"{query.type.label} queries"] = side.score(
            x[query.type], query.rows, x[other.type], other.rows, q, o, progress
        )  # fmt: skip
        for method, values in given.items():
            scores[method][at] = values
    heads, tails = graph.edges(relation)
    p, d, n_drugs = protein_rows[pairs.protein], drug_rows[pairs.drug], len(drug_keys)
    known = (p >= 0) & (d >= 0) & np.isin(p * n_drugs + d, heads * n_drugs + tails)
    found, intervals = _measure(scores, pairs.labels, pairs.protein, seed)
    return {
        "n": len(pairs.labels),
        "n_positive": int(pairs.labels.sum()),
        "skipped": pairs.skipped,
        "methods": found,
        "ci": intervals,
        "relation": relation.name,
        "n_proteins": len(pairs.sequences),
        "n_drugs": len(pairs.smiles),
        "n_unseen_proteins": int((protein_rows < 0).sum()),
        "n_unseen_drugs": int((drug_rows < 0).sum()),
        "n_known_edges": int(known.sum()),
        "matched_drugs": matched,
        "learned_from": learned,
        "protocol": PROTOCOL,
    }


@dataclass(frozen=True)
class _Nodes:
    """The distinct nodes of one type in the pairs: rows (n,) in the graph's table, -1 where the graph lacks them; twins (n_t,):
    equal numbers for nodes of the graph that are the same molecule or sequence."""

    type: NodeType
    values: tuple[str, ...]
    rows: Indices
    twins: Indices


def _codes(keys: Sequence[str]) -> Indices:
    return np.unique(np.asarray(keys, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)


def _match_drugs(graph: KnowledgeGraph, smiles: Sequence[str]) -> tuple[Indices, dict[str, int], Indices]:
    """Row of each molecule in the graph's table or -1, how many were matched by what, and the graph's drugs as `_Nodes.twins`."""
    own = [_canonical(graph.nodes[i].values[0]) for i in graph.by_type[NodeType.DRUG]]
    first = {key: i for i, key in reversed(list(enumerate(own)))}
    rows = np.array([first.get(s, -1) for s in smiles], dtype=np.int64)
    matched = {"canonical SMILES": int((rows >= 0).sum()), "InChIKey": 0, "same skeleton": 0}
    left = np.flatnonzero(rows < 0)
    if len(left):
        keys = [inchikey(mol_or_none(s)) for s in own]
        whole = {key: i for i, key in reversed(list(enumerate(keys)))}
        skeletons: dict[str, set[str]] = {}
        for key, text in zip(keys, own, strict=True):
            skeletons.setdefault(key[:14], set()).add(text)
        for i in map(int, left):
            key = inchikey(mol_or_none(smiles[i]))
            alike = skeletons.get(key[:14], set())
            if key and key in whole:
                rows[i], how = whole[key], "InChIKey"
            elif key and len(alike) == 1:
                rows[i], how = first[next(iter(alike))], "same skeleton"
            else:
                continue
            matched[how] += 1
    return rows, matched, _codes(own)


def _vectors(nodes: _Nodes, tables: Mapping[NodeType, Vectors], encode: Encode) -> Vectors:
    """(n, d) unit rows: those of the table for nodes of the graph, encoded for the others."""
    table = tables[nodes.type]
    new = np.flatnonzero(nodes.rows < 0)
    out = np.asarray(table[np.maximum(nodes.rows, 0)], dtype=np.float32)
    if len(new):
        out[new] = encode(nodes.type, [nodes.values[i] for i in new])
    return out


class _Side:
    """One direction: queries of the relation's head type against others of its tail type."""

    def __init__(self, graph: KnowledgeGraph, tables: Mapping[NodeType, Vectors], relation: Relation, twins: Indices, seed: int) -> None:
        self.edges = incidence(graph, relation)
        self.x = np.asarray(tables[NodeType(relation.head_type)], dtype=np.float32)
        self.others = np.asarray(tables[NodeType(relation.tail_type)], dtype=np.float32)
        self.profiles = _profiles(graph, relation)
        self.heads = np.flatnonzero(np.diff(self.edges.indptr))
        if len(self.heads) < MIN_HEADS:
            raise InputError(f"The relation {relation} has {len(self.heads)} heads; pairs need {MIN_HEADS} or more to learn from.")
        self.seed = seed
        rng = np.random.default_rng([seed, 0])
        self.fold = rng.permutation(int(twins.max()) + 1)[twins] % FOLDS  # twins leave together
        if len(np.unique(self.fold[self.heads])) < 2:
            raise InputError(f"The heads of the relation {relation} cannot be parted: almost all of them are the same.")

    def score(
        self, x: Vectors, rows: Indices, y: Vectors, columns: Indices, query: Indices, other: Indices, progress: Progress
    ) -> tuple[dict[str, Floats], dict[str, int]]:
        """Method -> (n,) scores of the pairs (query, other), and from how many positives the weights were learned.

        x (a, d), rows (a,): the queries; y (b, d), columns (b,): the others, with their places in the graph or -1. A query of the
        graph is read in the fold that left it out, and weighed by weights learned from the other folds."""
        methods = {m: np.zeros(len(query)) for m in METHODS}
        where = np.where(rows >= 0, self.fold[np.maximum(rows, 0)], FOLDS)[query]
        universe = np.unique(self.edges.indices).astype(np.int64)
        parts: dict[int, tuple[tuple[Vectors, Mask], tuple[Vectors, Mask]]] = {}
        tested = []
        for k in range(FOLDS + 1):
            progress("reading evidence", k, FOLDS + 1)
            at = np.flatnonzero(where == k)
            evidence = _Evidence(self, np.flatnonzero(self.fold != k)) if k < FOLDS or len(at) else None
            mine = self.heads[self.fold[self.heads] == k]
            if len(mine) and evidence is not None:
                i, j, truth = self._sample(mine, universe, k)
                whole = (self.x[mine], self.others[universe], universe, i, j)
                seen, cold, _ = evidence.read(*whole)
                parts[k] = (seen[~cold], truth[~cold]), (evidence.read(*whole, hide=True)[0], truth)
            if len(at) and evidence is not None:
                asked, q = np.unique(query[at], return_inverse=True)
                wanted, o = np.unique(other[at], return_inverse=True)
                block, cold, plain = evidence.read(x[asked], y[wanted], columns[wanted], q, o)
                tested.append((k, at, block, cold))
                for name, values in plain.items():
                    methods[name][at] = values
        progress("reading evidence", FOLDS + 1, FOLDS + 1)
        for k, at, block, cold in tested:
            for group, inside in enumerate((~cold, cold)):
                if inside.any():
                    features, truth = (np.concatenate([p[group][i] for f, p in parts.items() if f != k]) for i in range(2))
                    methods["fused"][at[inside]] = _Odds.learn(features, truth)(block[inside])
        return methods, {name: sum(int(p[group][1].sum()) for p in parts.values()) for group, name in enumerate(("seen", "cold"))}

    def _sample(self, heads: Indices, universe: Indices, k: int) -> tuple[Indices, Indices, Mask]:
        """Pairs as positions in `heads` and `universe`: every edge, and negatives drawn evenly from all pairs that are none."""
        block = self.edges[heads][:, universe].tocoo()
        m = len(universe)
        positive = np.sort(block.row.astype(np.int64) * m + block.col)
        rng = np.random.default_rng([self.seed, 1, k])
        drawn = np.unique(rng.integers(len(heads) * m, size=_NEGATIVES * len(positive)))
        negative = np.setdiff1d(drawn, positive)
        both = np.concatenate([positive, negative])
        return both // m, both % m, np.arange(len(both)) < len(positive)


def _profiles(graph: KnowledgeGraph, relation: Relation) -> list[sparse.csr_matrix]:
    """What else the heads are linked to: (n_heads, n_terms) 0/1, one for the GO terms and one for each further type."""
    groups: dict[str, list[sparse.csr_matrix]] = {}
    for r in graph.relations:
        if r.head_type == relation.head_type and r.tail_type not in (relation.head_type, relation.tail_type) and len(graph.edge_numbers(r)):
            groups.setdefault("GO" if r.tail_type in GO_TYPES else r.tail_type, []).append(incidence(graph, r))
    return [sparse.hstack(groups[name], format="csr", dtype=np.float32) for name in sorted(groups)]


class _Evidence:
    """What can be read of pairs from the edges of the queries `kept` (rows of the table) alone."""

    def __init__(self, side: _Side, kept: Indices) -> None:
        self.side = side
        self.heads = kept[np.diff(side.edges.indptr)[kept] > 0]
        self.edges = side.edges[self.heads]
        self.counts = np.asarray(self.edges.sum(axis=0), dtype=np.float64).ravel()
        self.known = np.flatnonzero(self.counts)  # others with an edge left
        self.dense = self.edges[:, self.known].toarray()
        self.degrees = np.log1p(np.diff(self.edges.indptr)).astype(np.float32)
        self.solve = _inverse(kernel(side.x[self.heads], side.x[self.heads]))
        self.solve_other = _inverse(kernel(side.others[self.known], side.others[self.known]))
        by_other = self.edges[:, self.known].tocsc()
        self.starts, self.holders = by_other.indptr[:-1], by_other.indices
        self.profiles = [_Profile(side, matrix, kept, self.heads) for matrix in side.profiles]

    def read(
        self, x: Vectors, y: Vectors, columns: Indices, q: Indices, o: Indices, hide: bool = False
    ) -> tuple[Vectors, Mask, dict[str, Vectors]]:
        """Of the pairs (q, o), positions in the queries x (a, d) and the others y (b, d), whose places in the graph are `columns`
        (b,) or -1: features (n, f), whether the other is cold (n,), and the scores of the plain methods, each (n,). hide: every other
        is read as if it were new, its own edges left out."""
        others = _Others.of(self, y, columns, hide)
        order = np.argsort(q, kind="stable")
        features: Vectors | None = None
        plain = {m: np.zeros(len(q), dtype=np.float32) for m in METHODS if m != "fused"}
        for start in range(0, len(x), _BLOCK):
            at = order[np.searchsorted(q[order], start) : np.searchsorted(q[order], start + _BLOCK)]
            i, j = q[at] - start, o[at]
            block, scores = self._block(x[start : start + _BLOCK], others)
            chosen = np.stack([np.broadcast_to(f, (len(x[start : start + _BLOCK]), len(y)))[i, j] for f in block], axis=1)
            if features is None:
                features = np.zeros((len(q), chosen.shape[1]), dtype=np.float32)
            features[at] = chosen
            for name, values in scores.items():
                plain[name][at] = np.broadcast_to(values, (len(x[start : start + _BLOCK]), len(y)))[i, j]
        assert features is not None
        return features, others.cold[o], plain

    def _block(self, x: Vectors, others: _Others) -> tuple[list[Vectors], dict[str, Vectors]]:
        """Features and plain scores of all pairs of x (n, d) and the others (m), each broadcastable to (n, m)."""
        similar = np.maximum(x @ self.side.x[self.heads].T, 0.0)
        attention = kernel(x, self.side.x[self.heads]) @ self.solve
        first = attention @ self.dense
        own, smooth = others.own(first), first @ others.smooth.T
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        vote = votes(np.take_along_axis(similar, nearest, axis=1), nearest, self.edges, 6)[:, self.known]
        closest = np.maximum.reduceat(similar[:, self.holders], self.starts, axis=1)  # the nearest query that holds the other
        through = np.zeros_like(smooth)
        for index, likeness in zip(others.near.T, others.near_similar.T, strict=True):
            np.maximum(through, closest[:, index] * likeness, out=through)
        features = [
            _log(own), _root(own), _log(smooth), _root(smooth), others.own(closest), _log(others.own(closest)), through,
            _log(others.own(vote)), others.popularity, others.expected, others.nearest, _log(similar.max(axis=1, keepdims=True)),
            (attention @ self.degrees)[:, None],
        ]  # fmt: skip
        for profile in self.profiles:
            second, near = profile.attention(x)
            second = second @ self.dense
            features += [_log(others.own(second)), _log(second @ others.smooth.T), _log(near)]
        analogous = np.where(others.cold, vote @ others.vote.T, others.own(vote))
        return features, {"bridge": own + smooth, "analogues": analogous, "popularity": others.popularity}


def _inverse(gram: Vectors) -> Vectors:
    """(K + I)^-1 of a kernel matrix, with the bridge's ridge of 1."""
    gram[np.diag_indices_from(gram)] += 1.0
    return inverse_of(np.asarray(gram, dtype=np.float32))


def _log(x: Vectors) -> Vectors:
    return np.asarray(np.log(np.maximum(x, 0.0) + 0.01), dtype=np.float32)


def _root(x: Vectors) -> Vectors:
    return np.asarray(np.sqrt(np.maximum(x, 0.0)), dtype=np.float32)


@dataclass(frozen=True)
class _Others:
    """The others of a block of pairs, m of them, and how they relate to the k others with an edge left.

    place (m,) among those k or -1; cold (m,) those with -1; smooth (m, k) ridge weights, leave-one-out for one of the k; vote
    (m, k) shares of the 40 nearest; near, near_similar (m, 15) the nearest, itself left out; popularity (m,) log (1 + edges);
    expected (m,) that of its like; nearest (m,) the highest similarity."""

    place: Indices
    cold: Mask
    smooth: Vectors
    vote: Vectors
    near: Indices
    near_similar: Vectors
    popularity: Vectors
    expected: Vectors
    nearest: Vectors

    @classmethod
    def of(cls, evidence: _Evidence, y: Vectors, columns: Indices, hide: bool = False) -> _Others:
        known, keys = evidence.known, evidence.side.others[evidence.known]
        places = np.full(len(evidence.counts), -1, dtype=np.int64)
        places[known] = np.arange(len(known))
        place = np.where(columns >= 0, places[np.maximum(columns, 0)], -1)
        seen, new = np.flatnonzero(place >= 0), place < 0
        similar = np.maximum(y @ keys.T, 0.0)
        similar[seen, place[seen]] = 0.0
        smooth = np.zeros_like(similar)
        inverse = evidence.solve_other
        smooth[new] = kernel(y[new], keys) @ inverse
        smooth[seen] = -inverse[place[seen]] / np.diag(inverse)[place[seen], None]
        smooth[seen, place[seen]] = 0.0
        place = np.full_like(place, -1) if hide else place
        cold = place < 0
        order = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(similar, order, axis=1)
        vote = np.zeros_like(similar)
        np.put_along_axis(vote, order, best**6 / np.maximum((best**6).sum(axis=1, keepdims=True), 1e-12), axis=1)
        counts = np.log1p(evidence.counts[known]).astype(np.float32)
        popularity = np.where(cold, 0.0, counts[np.maximum(place, 0)]).astype(np.float32)
        return cls(place, cold, smooth, vote, order[:, :_NEAR], best[:, :_NEAR], popularity, smooth @ counts, best[:, 0])

    def own(self, values: Vectors) -> Vectors:
        """(n, k) values of the others with an edge left -> (n, m), 0 for the cold ones."""
        return np.where(self.cold, np.float32(0.0), values[:, np.maximum(self.place, 0)])


class _Profile:
    """Queries seen through what else they are linked to: the query's analogues vote for its links (similarity cubed), rare links
    weigh more (inverse document frequency), and kernel ridge regression on the squared cosines of such profiles gives the edges."""

    def __init__(self, side: _Side, matrix: sparse.csr_matrix, kept: Indices, heads: Indices) -> None:
        rows = kept[np.diff(matrix.indptr)[kept] > 0]
        linked = matrix[rows]
        counts = np.asarray(linked.sum(axis=0)).ravel()
        weights = sparse.diags_array(np.where(counts > 0, np.log((len(rows) + 1) / (counts + 1)), 0.0).astype(np.float32))
        self.keys, self.linked = side.x[rows], (linked @ weights).tocsr()
        held = (matrix[heads] @ weights).tocsr()
        length = np.sqrt(np.asarray(held.multiply(held).sum(axis=1)).ravel())
        self.held = (sparse.diags_array((1.0 / np.maximum(length, 1e-9)).astype(np.float32)) @ held).tocsr()
        self.solve = _inverse((self.held @ self.held.T).toarray() ** 2)

    def attention(self, x: Vectors) -> tuple[Vectors, Vectors]:
        """x (n, d) -> weights (n, heads) and the similarity (n, 1) of the nearest query that has any such link."""
        if not len(self.keys):
            return np.zeros((len(x), len(self.solve)), dtype=np.float32), np.zeros((len(x), 1), dtype=np.float32)
        similar = np.maximum(x @ self.keys.T, 0.0)
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(similar, nearest, axis=1)
        profile = votes(best, nearest, self.linked, 3)
        profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-9)
        cosine = np.maximum((self.held @ profile.T).T, 0.0)
        return np.asarray(cosine**2 @ self.solve, dtype=np.float32), best[:, :1]


@dataclass(frozen=True)
class _Odds:
    """Ridge logistic regression on features and their products, both classes of equal weight: (n, f) -> (n,) log odds."""

    first: tuple[Floats, Floats]
    second: tuple[Floats, Floats]
    weights: Floats

    @classmethod
    def learn(cls, features: Vectors, truth: Mask) -> _Odds:
        """Even odds for everything where a class is missing."""
        f = features.shape[1]
        n = f + f * (f + 1) // 2
        n_positive, n_negative = int(truth.sum()), int((~truth).sum())
        if not n_positive or not n_negative:
            return cls((np.zeros(f), np.ones(f)), (np.zeros(n), np.ones(n)), np.zeros(n + 1))
        first = _scale(features)
        expanded = _expand(_standard(features, first))
        second = _scale(expanded)
        z = np.column_stack([_standard(expanded, second), np.ones(len(truth))])
        share = np.where(truth, 1.0, n_positive / n_negative)

        def objective(w: Floats) -> tuple[float, Floats]:
            odds = z @ w
            pull = np.append(_PULL * w[:-1], 0.0)
            error = share * (1.0 / (1.0 + np.exp(-odds)) - truth)
            loss = share @ (np.logaddexp(0.0, odds) - truth * odds) + 0.5 * float(pull @ w)
            return float(loss), error @ z + pull

        found = minimize(objective, np.zeros(n + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
        return cls(first, second, np.asarray(found.x))

    def __call__(self, features: Vectors) -> Floats:
        z = _standard(_expand(_standard(features, self.first)), self.second)
        return np.asarray(z @ self.weights[:-1] + self.weights[-1])


def _scale(x: NDArray[Any]) -> tuple[Floats, Floats]:
    deviation = x.std(axis=0, dtype=np.float64)
    return x.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-6, deviation, 1.0)


def _standard(x: NDArray[Any], scale: tuple[Floats, Floats]) -> Floats:
    return np.clip((x - scale[0]) / scale[1], -6.0, 6.0)


def _expand(x: Floats) -> Floats:
    left, right = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, left] * x[:, right]], axis=1)


def auroc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Area under the ROC curve in [0, 1]: how often a positive stands above a negative, a tie counting half. (n,) scores, higher
    is better; (n,) labels 0 or 1, both present."""
    return float(_curves(scores, labels, np.ones((1, len(labels))))[0][0])


def average_precision(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Average precision in [0, 1]: the mean over positives of the precision at their score; equal scores enter together."""
    return float(_curves(scores, labels, np.ones((1, len(labels))))[1][0])


def _curves(scores: NDArray[Any], labels: NDArray[Any], weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision, each (r,), for r weightings (r, n) of the pairs; NaN where a class has no weight."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    ends = np.append(np.flatnonzero(np.diff(np.asarray(scores)[order])), len(order) - 1)
    truth = np.asarray(labels)[order].astype(np.float64)
    sorted_weights = weights[:, order]
    true = np.cumsum(sorted_weights * truth, axis=1)[:, ends]
    false = np.cumsum(sorted_weights * (1.0 - truth), axis=1)[:, ends]
    gain, cost = np.diff(true, axis=1, prepend=0.0), np.diff(false, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (cost * (true - gain / 2.0)).sum(axis=1) / (true[:, -1] * false[:, -1])
        precision = (gain * true / np.maximum(true + false, 1e-12)).sum(axis=1) / true[:, -1]
    return area, np.where(false[:, -1] > 0, precision, np.nan)


def _measure(
    scores: Mapping[str, Floats], labels: Indices, proteins: Indices, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, list[float]]]]:
    """The figures of each method, and percentile intervals over proteins drawn anew, the same draws for all; draws of one class
    only are left out."""
    ids, which = np.unique(proteins, return_inverse=True)
    rng = np.random.default_rng([seed, 2])
    names = ("auroc", "aupr")
    found, intervals = {}, {}
    drawn: dict[str, list[tuple[Floats, Floats]]] = {m: [] for m in scores}
    for start in range(0, _RESAMPLES, 50):
        counts = rng.multinomial(len(ids), np.full(len(ids), 1.0 / len(ids)), size=min(50, _RESAMPLES - start))
        for method, values in scores.items():
            drawn[method].append(_curves(values, labels, counts[:, which].astype(np.float64)))
    for method, values in scores.items():
        found[method] = {"auroc": round(auroc(values, labels), 6), "aupr": round(average_precision(values, labels), 6)}
        both = [np.concatenate([part[i] for part in drawn[method]]) for i in range(2)]
        whole = [b[np.isfinite(b)] for b in both]
        intervals[method] = {
            n: [round(float(v), 6) for v in np.percentile(w, [2.5, 97.5])] if len(w) else [] for n, w in zip(names, whole, strict=True)
        }
    return found, intervals
