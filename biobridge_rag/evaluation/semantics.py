"""Do vectors agree with an ontology? Spearman correlation of cosines with the semantic similarity of pairs of terms.

Knows: ontologies as directed graphs (child -> parent, as obo files state them), annotations, unit vectors. Does not know:
bridges, encoders, homes.

The reference is Lin's similarity of two terms (Lin 1998), or of two annotated items, proteins say, the mean over best matches
of their terms. BioBridge (Wang et al. 2024) measures proteins so, after Unsal et al. 2022 (PROBE). An ontology is a
networkx.DiGraph whose edges go from child to parent.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from biobridge_rag.errors import FileError, InputError
from biobridge_rag.types import Indices, KnowledgeGraph, NodeType, Relation, Vectors

if TYPE_CHECKING:
    import networkx as nx

Floats = NDArray[np.float64]
_INSTALL = 'Install them: pip install "biobridge-rag[semantics]".'
_POOL = 20  # candidate pairs drawn for each pair that is kept


def load_ontology(path: Path, *, namespace: str | None = None, part_of: bool = False) -> nx.DiGraph[str]:
    """Reads an obo file (plain or .gz): is_a edges from child to parent, with `part_of` those too; obsolete terms left out.

    namespace: keep only its terms ("biological_process"). Terms keep their `name`, `namespace` and `alt_id`. Raises FileError
    where the file cannot be read, InputError where it holds no terms or cycles.
    """
    try:
        import networkx as nx
        import obonet
    except ImportError as error:
        raise InputError("Reading an ontology needs the packages obonet and networkx.", _INSTALL) from error
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            listed = obonet.read_obo(stream)
    except OSError as error:
        raise FileError(f"The ontology {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise FileError(f"The file {path} is no ontology in obo format.", "Download go-basic.obo from geneontology.org.") from error
    dag = nx.DiGraph()
    dag.add_nodes_from((t, d) for t, d in listed.nodes(data=True) if d and namespace in (None, d.get("namespace")))
    kinds = {"is_a", "part_of"} if part_of else {"is_a"}
    dag.add_edges_from(
        (child, parent) for child, parent, kind in listed.edges(keys=True) if kind in kinds and child in dag and parent in dag
    )
    if not len(dag):
        raise InputError(f"The ontology {path} holds no terms{f' of {namespace!r}' if namespace else ''}.")
    ancestors(dag)
    return dag


def ontology_of(graph: KnowledgeGraph, relation: Relation, *, parent: str = "head") -> nx.DiGraph[str]:
    """The ontology that a graph's own relation states; node ids are the terms. parent: "head" or "tail", which end is it.

    Raises InputError where edges are listed in both directions, as PrimeKG's are: nothing then says which end is the parent.
    """
    import networkx as nx

    if parent not in ("head", "tail"):
        raise InputError(f"The parent is the head or the tail of an edge, not {parent!r}.")
    ids = [graph.nodes[i].id for i in graph.by_type.get(NodeType(relation.head_type), [])]
    heads, tails = graph.edges(relation)
    if relation.head_type != relation.tail_type or not len(heads):
        raise InputError(f"The graph has no edges {relation}, so no ontology of {relation.head_type} nodes.")
    child, above = (tails, heads) if parent == "head" else (heads, tails)
    dag = nx.DiGraph()
    dag.add_nodes_from(ids)
    dag.add_edges_from((ids[c], ids[p]) for c, p in zip(child, above, strict=True))
    both = sum(dag.has_edge(p, c) for c, p in dag.edges)
    if both:
        raise InputError(
            f"{both:,} of {dag.number_of_edges():,} edges {relation} are listed in both directions, so which end is the parent is unknown.",
            "Give the ontology's obo file.",
        )
    ancestors(dag)
    return dag


def ancestors(dag: nx.DiGraph[str]) -> dict[str, frozenset[str]]:
    """Each term's ancestors, the term itself among them. Raises InputError where the ontology is empty or has a cycle."""
    import networkx as nx

    if not len(dag):
        raise InputError("The ontology is empty.")
    out: dict[str, frozenset[str]] = {}
    try:
        for term in reversed(list(nx.topological_sort(dag))):
            out[term] = frozenset({term}).union(*(out[p] for p in dag.successors(term)))
    except nx.NetworkXUnfeasible:
        cycle = [child for child, _ in nx.find_cycle(dag)]
        raise InputError(f"The ontology has a cycle: {' -> '.join([*cycle[:8], cycle[0]])}.") from None
    return out


def match_terms(dag: nx.DiGraph[str], ids: Iterable[str]) -> list[str | None]:
    """The term of each node id: itself, the term that took it over (alt_id), or by number alone, as PrimeKG spells GO ids
    ("8150" is GO:0008150, where the ontology has one prefix). None where there is none."""
    known = {alt: term for term, alts in dag.nodes(data="alt_id") for alt in alts or ()}
    known.update((term, term) for term in dag)
    if len({term.partition(":")[0] for term in dag}) == 1:
        known = {str(int(t.partition(":")[2])): term for t, term in known.items() if t.partition(":")[2].isdecimal()} | known
    return [known.get(i) for i in ids]


def information_content(dag: nx.DiGraph[str], annotations: Mapping[str, Collection[Hashable]] | None = None) -> dict[str, float]:
    """Each term's information content, 0 at the root and more the more specific it is.

    annotations (term -> items annotated with it): -ln p, p the share of all annotated items that stand at the term or below
    (Resnik 1995); NaN for a term without any. None: Seco's intrinsic one, 1 - ln(descendants + 1) / ln(terms), in [0, 1]
    (Seco et al. 2004). Raises InputError where nothing is annotated or an annotated term is not in the ontology.
    """
    above = ancestors(dag)
    if annotations is None:
        below = Counter(a for chain in above.values() for a in chain)
        scale = math.log(len(dag)) or 1.0
        return {term: 1.0 - math.log(below[term]) / scale for term in dag}
    _check_known(dag, annotations)
    items: dict[str, set[Hashable]] = {term: set() for term in dag}
    for term, annotated in annotations.items():
        for a in above[term]:
            items[a].update(annotated)
    total = len(set().union(*annotations.values()))
    if not total:
        raise InputError("Nothing is annotated with any term of the ontology.", "Use the intrinsic information content.")
    return {term: math.log(total / len(found)) if found else math.nan for term, found in items.items()}


def lin_similarity(dag: nx.DiGraph[str], ic: Mapping[str, float], pairs: Sequence[tuple[str, str]]) -> Floats:
    """(m,) Lin's similarity in [0, 1] of m pairs of terms: 2 IC(c) / (IC(a) + IC(b)), c their most informative common ancestor.

    Lin 1998, "An information-theoretic definition of similarity". 1 for a term with itself, 0 without a common ancestor. Raises
    InputError for a term that the ontology does not know or that has no information content.
    """
    for term in {t for pair in pairs for t in pair}:
        if math.isnan(ic.get(term, math.nan)):
            why = "is not annotated, so it has no information content" if term in dag else "is not in the ontology"
            raise InputError(f"The term {term} {why}.")
    above = ancestors(dag)
    return np.array([_lin(above, ic, a, b) for a, b in pairs], dtype=np.float64)


def _lin(above: Mapping[str, frozenset[str]], ic: Mapping[str, float], a: str, b: str) -> float:
    both = ic[a] + ic[b]
    if a == b or both <= 0.0:
        return float(a == b)
    return 2.0 * max((ic[c] for c in above[a] & above[b]), default=0.0) / both


def annotated_similarity(dag: nx.DiGraph[str], ic: Mapping[str, float], terms_of: Sequence[Collection[str]], pairs: Indices) -> Floats:
    """(m,) similarity in [0, 1] of items by the terms they are annotated with: the best-match average of Lin's similarity.

    terms_of: the terms of each item; pairs: (m, 2) rows in it. Each term is matched with its most similar term of the other
    item, and the mean is over the terms of both (Pesquita et al. 2008).
    """
    _check_known(dag, {t for terms in terms_of for t in terms})
    above = ancestors(dag)

    @cache
    def lin(a: str, b: str) -> float:
        return _lin(above, ic, a, b)

    out = np.empty(len(pairs))
    for k, (i, j) in enumerate(pairs):
        table = np.array([[lin(*sorted((a, b))) for b in terms_of[j]] for a in terms_of[i]])
        if not table.size:
            raise InputError(f"Item {i if not terms_of[i] else j} is annotated with no term.")
        out[k] = (table.max(axis=0).sum() + table.max(axis=1).sum()) / sum(table.shape)
    return out


def sample_pairs(
    dag: nx.DiGraph[str], ic: Mapping[str, float], terms: Sequence[str], n: int, rng: np.random.Generator, *, bins: int = 10
) -> tuple[Indices, Floats]:
    """Up to n different pairs of `terms`, as rows (m, 2), and their Lin similarity (m,), spread evenly over its range.

    Two terms drawn at random have almost always nothing in common. So candidates are drawn 20 times over, half of them at
    random and half by going up from a term to a random ancestor and down to a random term below it (all pairs, where there are
    no more than that); of each of `bins` equal ranges of similarity at most n / bins are kept. The correlation depends on how
    many pairs have nothing in common, so figures of different samples, or of all pairs, cannot be set side by side.
    """
    if len(terms) < 3 or n < 3:
        raise InputError(f"{len(terms)} terms and {n} pairs are too few: a correlation needs three of each.")
    t, wanted = len(terms), _POOL * n
    if t * (t - 1) // 2 <= wanted:
        rows = np.stack(np.triu_indices(t, 1), axis=1).astype(np.int64)
    else:
        rows = np.concatenate([rng.integers(t, size=(wanted // 2, 2)), _relatives(ancestors(dag), terms, wanted // 2, rng)])
        rows = np.unique(np.sort(rows[rows[:, 0] != rows[:, 1]], axis=1), axis=0)
    reference = lin_similarity(dag, ic, [(terms[i], terms[j]) for i, j in rows])
    kept = stratify(reference, n, rng, bins=bins)
    return rows[kept], reference[kept]


def _relatives(above: Mapping[str, frozenset[str]], terms: Sequence[str], n: int, rng: np.random.Generator) -> Indices:
    """(n, 2) rows of terms that share an ancestor drawn at random from those of the first."""
    _check_known(above, terms)
    chains = [sorted(above[term]) for term in terms]
    below: dict[str, list[int]] = {}
    for row, chain in enumerate(chains):
        for a in chain:
            below.setdefault(a, []).append(row)
    first = rng.integers(len(terms), size=n)
    up, down = rng.random(n), rng.random(n)
    out = np.empty((n, 2), np.int64)
    for k, row in enumerate(first):
        group = below[chains[row][int(up[k] * len(chains[row]))]]
        out[k] = row, group[int(down[k] * len(group))]
    return out


def stratify(reference: Floats, n: int, rng: np.random.Generator, *, bins: int = 10) -> Indices:
    """Rows of up to n of the values in [0, 1]: at most n / bins from each of `bins` equal ranges. A range that has fewer gives all
    it has and no other makes up for it, for then the pairs that have nothing in common would fill the sample."""
    at = np.minimum((reference * bins).astype(np.int64), bins - 1)
    kept = [rng.permutation(np.flatnonzero(at == b))[: math.ceil(n / bins)] for b in range(bins)]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def compare(
    spaces: Mapping[str, Vectors], pairs: Indices, reference: Floats, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How well the cosines of each space order the pairs as the reference does.

    spaces: name -> (n, d) unit rows; pairs: (m, 2) rows; reference: (m,). Returns for each space "spearman" in [-1, 1] and "ci",
    its 95 % interval, and for all but the first "difference" from the first and "difference_ci". The intervals are percentiles
    of a bootstrap over terms, not pairs, for pairs that share a term are not independent: a pair counts the product of the
    times that its two terms were drawn (Snijders & Borgatti 1999); where few pairs share a term they are too wide rather than
    too narrow. Raises InputError for fewer than three pairs, values that are no numbers, or values that are all the same.
    """
    pairs = np.asarray(pairs, dtype=np.int64)
    if len(pairs) < 3 or len(pairs) != len(reference):
        raise InputError(f"{len(pairs)} pairs and {len(reference)} similarities: a correlation needs three or more, and as many of both.")
    values = {"the semantic similarity": np.asarray(reference, dtype=np.float64)}
    for name, x in spaces.items():
        a, b = (np.asarray(x[pairs[:, k]], dtype=np.float64) for k in (0, 1))
        values[name] = np.einsum("ij,ij->i", a, b)
    codes = []
    for name, v in values.items():
        if not np.isfinite(v).all() or v.min() == v.max():
            raise InputError(f"No correlation: {name} is {'the same for all pairs' if np.isfinite(v).all() else 'not a number for some'}.")
        codes.append(np.unique(v, return_inverse=True)[1])
    terms, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(pairs.shape)
    rng = np.random.default_rng(seed)
    drawn = np.full((resamples, len(spaces)), np.nan)
    for k in range(resamples):
        times = rng.multinomial(len(terms), np.full(len(terms), 1.0 / len(terms)))
        weight = (times[ends[:, 0]] * times[ends[:, 1]]).astype(np.float64)
        ranks = [_ranks(c, weight) for c in codes]
        drawn[k] = [_correlation(ranks[0], r, weight) for r in ranks[1:]]
    out: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(spaces):
        rho = float(stats.spearmanr(values[name], reference).statistic)
        out[name] = {"spearman": rho, "ci": _interval(drawn[:, k])}
        if k:
            out[name] |= {"difference": rho - out[next(iter(out))]["spearman"], "difference_ci": _interval(drawn[:, k] - drawn[:, 0])}
    return out


def _ranks(codes: Indices, weight: Floats) -> Floats:
    """Mean ranks of values, given as codes in their order, where each stands `weight` times."""
    times = np.bincount(codes, weights=weight)
    mean: Floats = np.cumsum(times) - (times - 1.0) / 2.0
    return mean[codes]


def _correlation(a: Floats, b: Floats, weight: Floats) -> float:
    """Pearson's correlation of pairs that stand `weight` times each; NaN where one of them is constant."""
    total = weight.sum()
    if total == 0:
        return math.nan
    a, b = a - (weight @ a) / total, b - (weight @ b) / total
    scale = math.sqrt((weight @ (a * a)) * (weight @ (b * b)))
    return float((weight @ (a * b)) / scale) if scale > 0 else math.nan


def _interval(drawn: Floats) -> list[float]:
    return [float(v) for v in np.nanpercentile(drawn, [2.5, 97.5])]


def _check_known(known: Collection[str], terms: Iterable[str]) -> None:
    unknown = sorted(set(terms) - set(known))
    if unknown:
        raise InputError(
            f"{len(unknown):,} terms are not in the ontology, {unknown[0]} for one.", "Take the obo file that the ids come from."
        )
