"""Semantic similarity: do a home's vectors of ontology terms, or of proteins annotated with them, agree with the ontology?

`python benchmarks/semantics.py --home HOME --obo FILE [--type biological_process] [--of terms|proteins] [--ic annotations|intrinsic]
[--pairs 5000] [--part-of] [--seed 0]`. FILE is the ontology in obo format, plain or .gz (go-basic.obo from geneontology.org).
Prints Spearman's correlation of cosines with Lin's similarity for the frozen encoder, the bridge's projections, the bridge's transform
along the relation that leads from terms to proteins (for --of proteins: from proteins to terms), and the first and the last side by
side, with 95 % intervals, and each one's ratio to the frozen encoder. Annotations are the graph's edges between terms and proteins:
the bridge was trained on them, which the intrinsic information content leaves out of the terms' reference.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.evaluation.semantics import (
    annotated_similarity,
    compare,
    information_content,
    load_ontology,
    match_terms,
    sample_pairs,
    stratify,
)
from biobridge_rag.homes import Home, open_home
from biobridge_rag.types import Indices, NodeType, Relation, Vectors


def main_relation(home: Home, head: NodeType, tail: NodeType) -> Relation:
    """The relation between two node types that has the most edges."""
    found = [r for r in home.graph.relations if (r.head_type, r.tail_type) == (head, tail) and len(home.graph.edges(r)[0])]
    if not found:
        raise InputError(f"The graph has no edges from {head.label} to {tail.label} nodes.")
    return max(found, key=lambda r: len(home.graph.edges(r)[0]))


def spaces_of(home: Home, node_type: NodeType, relation: Relation, rows: Indices) -> dict[str, Vectors]:
    frozen = np.asarray(home.tables[node_type][rows], dtype=np.float32)
    carried = unit(home.bridge.transform(frozen, relation))
    return {
        "frozen encoder": unit(frozen),
        "bridge, projections": unit(np.asarray(home.projections[node_type][rows], dtype=np.float32)),
        f"bridge, transform along {relation}": carried,
        "frozen encoder and transform side by side": unit(np.concatenate([unit(frozen), carried], axis=1)),
    }


def run(given: argparse.Namespace) -> None:
    node_type = NodeType(given.type)
    rng = np.random.default_rng(given.seed)
    home = open_home(given.home)
    home.index.close()
    if node_type not in home.graph.by_type:
        raise InputError(f"The graph has no {node_type.label} nodes.")
    dag = load_ontology(
        given.obo, namespace=node_type.value if given.obo_namespace is None else given.obo_namespace or None, part_of=given.part_of
    )
    terms = match_terms(dag, [home.graph.nodes[i].id for i in home.graph.by_type[node_type]])
    print(f"{sum(t is not None for t in terms):,} of {len(terms):,} {node_type.label} nodes are among the ontology's {len(dag):,} terms")
    relation = main_relation(home, node_type, NodeType.PROTEIN)
    annotations: dict[str, set[int]] = {}
    terms_of: dict[int, set[str]] = {}
    for row, protein in zip(*(column.tolist() for column in home.graph.edges(relation)), strict=True):
        if (term := terms[row]) is not None:
            annotations.setdefault(term, set()).add(protein)
            terms_of.setdefault(protein, set()).add(term)
    ic = information_content(dag, annotations if given.ic == "annotations" else None)
    if given.of == "terms":
        usable = np.array([i for i, t in enumerate(terms) if t is not None and ic[t] == ic[t]], dtype=np.int64)
        pairs, reference = sample_pairs(dag, ic, [str(terms[i]) for i in usable], given.pairs, rng)
        spaces = spaces_of(home, node_type, relation, usable)
    else:
        usable = np.array(sorted(terms_of), dtype=np.int64)
        drawn = rng.integers(len(usable), size=(4 * given.pairs, 2))
        drawn = np.unique(np.sort(drawn[drawn[:, 0] != drawn[:, 1]], axis=1), axis=0)
        similar = annotated_similarity(dag, ic, [sorted(terms_of[p]) for p in usable.tolist()], drawn)
        kept = stratify(similar, given.pairs, rng)
        pairs, reference = drawn[kept], similar[kept]
        spaces = spaces_of(home, NodeType.PROTEIN, main_relation(home, NodeType.PROTEIN, node_type), usable)
    print(f"{len(pairs):,} pairs of {len(usable):,} {given.of}, information content from {given.ic}")
    print(f"similarity {reference.mean():.2f} on average, nothing in common in {(reference == 0).mean():.0%} of the pairs\n")
    found = compare(spaces, pairs, reference, seed=given.seed)
    base = found["frozen encoder"]["spearman"]
    for name, got in found.items():
        ratio = f", ratio to the frozen encoder {got['spearman'] / base:.2f}" if "difference" in got and base > 0 else ""
        print(f"{name}: Spearman {got['spearman']:.3f} ({got['ci'][0]:.3f} to {got['ci'][1]:.3f}){ratio}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--obo", type=Path)
    parser.add_argument("--type", default="biological_process", choices=[t.value for t in NodeType if t.modality.value == "text"])
    parser.add_argument("--obo-namespace", help="the ontology's namespace to keep (default: the node type's name; '' keeps all)")
    parser.add_argument("--of", default="terms", choices=["terms", "proteins"])
    parser.add_argument("--ic", default="annotations", choices=["annotations", "intrinsic"])
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--part-of", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.home is None or given.obo is None:
        print("Nothing measured: give --home HOME, a built home, and --obo FILE, the ontology of its terms (go-basic.obo).")
        return
    try:
        run(given)
    except BiobridgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
