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

Knows: graphs, similarities, CSV. Does not know: encoders, homes, trained bridges, the store.
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

from biobridge_rag.chemistry import inchikey, mol_or_none, parse_smiles
from biobridge_rag.encoders.sequences import clean_sequence, printable
from biobridge_rag.errors import FileError, InputError, MoleculeError, SequenceError
from biobridge_rag.evaluation.pair_evidence import METHODS, Floats, Side, of_nodes
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.types import Indices, KnowledgeGraph, NodeType, Progress, Relation, Vectors

Encode = Callable[[NodeType, list[str]], Vectors]

PROTOCOL = (
    "every pair scored without the edges of its query: the protein, or the drug where it alone is new to the graph; AUROC and average "
    "precision over all pairs together, ties in one step; 95 % bootstrap intervals over proteins"
)
COLUMNS = {"smiles": ("smiles",), "sequence": ("sequence", "target sequence", "target_sequence"), "label": ("label",)}
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
    likeness: Mapping[NodeType, Likeness],
    encode: Encode,
    pairs: Pairs,
    relation: Relation,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """The report of `evaluate pairs`: AUROC and average precision ("aupr") of METHODS on the pairs, with intervals.

    likeness: by node type, in the order of the graph; encode(type, values) -> frozen embeddings of what the graph lacks;
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
    x = {nodes.type: _similarities(nodes, likeness[nodes.type], encode) for nodes in (proteins, drugs)}
    by_drug = (protein_rows[pairs.protein] >= 0) & (drug_rows[pairs.drug] < 0)
    scores = {m: np.zeros(len(pairs.labels)) for m in METHODS}
    learned: dict[str, dict[str, int]] = {}
    for chosen, query, other, direction in ((~by_drug, proteins, drugs, relation), (by_drug, drugs, proteins, relation.inverse)):
        at = np.flatnonzero(chosen)
        if not len(at):
            continue
        side = Side(graph, likeness, direction, query.twins, seed)
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


def _similarities(nodes: _Nodes, likeness: Likeness, encode: Encode) -> Vectors:
    """(n, n_t) with the nodes of the graph."""
    new, seen = np.flatnonzero(nodes.rows < 0), np.flatnonzero(nodes.rows >= 0)
    out = np.zeros((len(nodes.rows), len(likeness.table)), dtype=np.float32)
    if len(seen):
        out[seen] = of_nodes(likeness, nodes.rows[seen])
    if len(new):
        values = [nodes.values[i] for i in new]
        out[new] = likeness.of(Heads(encode(nodes.type, values), None, [(value,) for value in values]))
    return out


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
