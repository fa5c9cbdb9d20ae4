"""The panel under the table: everything that speaks for the selected candidate, each kind of evidence apart.

Knows: RetrievedNode and its evidence. Does not know: gradio, the engine, how evidence is weighed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from biobridge_rag.chemistry import describe, formula, mol_or_none
from biobridge_rag.types import Evidence, NodeType, Retrieval, RetrievedNode
from biobridge_rag.ui.candidates import badge, query_label, relation_title
from biobridge_rag.ui.markup import escape, link, percent, safe_url, shorten, structure

_KINDS = (
    ("edge", "Stated in the graph", "Edges of the graph, with their sources."),
    ("analogue", "Analogues", "The most similar known nodes, and what the graph states of them."),
    ("bridge", "Bridge", "How close the trained bridge places the two."),
    ("prior", "Prior", "How common this answer is in the graph, whatever the question."),
)
_PROPERTIES = (
    ("molecular_weight", "Molecular weight", " g/mol"),
    ("logp", "logP (Crippen)", ""),
    ("tpsa", "Polar surface", " Å²"),
    ("h_donors", "H-bond donors", ""),
    ("h_acceptors", "H-bond acceptors", ""),
    ("qed", "Drug-likeness (QED)", ""),
)


def empty_panel() -> str:
    return '<p class="hint">Select a candidate to read its evidence.</p>'


def panel(retrieval: Retrieval, rank: int) -> str:
    """The evidence of the hit of this rank."""
    hit = next((h for h in retrieval.hits if h.rank == rank), None)
    if hit is None:
        return empty_panel()
    groups = "".join(_group(hit.evidence, *kind) for kind in _KINDS) + _others(hit.evidence)
    return (
        f'<article data-rank="{hit.rank}">{_head(retrieval, hit)}<div class="evidence-body">'
        f'<div class="groups">{groups or _nothing()}{_parts(hit)}</div>{_about(hit)}</div></article>'
    )


def _head(retrieval: Retrieval, hit: RetrievedNode) -> str:
    question = relation_title(retrieval.relation, query_label(retrieval.query))
    return (
        f"<header><h3>{escape(hit.node.name)} {badge(hit.known)}</h3>"
        f'<p class="sub">{escape(question)}: rank {hit.rank}, probability {percent(hit.probability)}</p></header>'
    )


def _about(hit: RetrievedNode) -> str:
    node = hit.node
    smiles = node.values[0] if node.type is NodeType.DRUG and node.values else ""
    drawing = f'<div class="drawing">{structure(smiles, node.name, 260, 170)}</div>' if smiles else ""
    description = f'<p class="description">{escape(shorten(node.description, 600))}</p>' if node.description else ""
    page = link(node.url, "Open its page", "page-link") if safe_url(node.url) else ""
    identity = f'<p class="identity"><code>{escape(node.id)}</code> {escape(node.type.label)} {page}</p>'
    return f'<div class="about">{drawing}{identity}{description}{_molecule(smiles) if smiles else ""}</div>'


@lru_cache(maxsize=256)
def _molecule(smiles: str) -> str:
    mol = mol_or_none(smiles)
    if mol is None:
        return ""
    values = describe(mol)
    rows = [("Formula", formula(mol)), *((label, f"{values[key]:g}{unit}") for key, label, unit in _PROPERTIES)]
    items = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in rows)
    return f'<dl class="properties">{items}</dl><p class="smiles"><code>{escape(smiles)}</code></p>'


def _group(evidence: Sequence[Evidence], kind: str, title: str, meaning: str) -> str:
    of_kind = [e for e in evidence if e.kind == kind]
    return f'<section data-kind="{kind}"><h4>{title}</h4><p class="meaning">{meaning}</p>{_items(of_kind)}</section>' if of_kind else ""


def _others(evidence: Sequence[Evidence]) -> str:
    listed = {kind for kind, _, _ in _KINDS}
    rest = [e for e in evidence if e.kind not in listed]
    return f'<section data-kind="other"><h4>Other evidence</h4>{_items(rest)}</section>' if rest else ""


def _items(evidence: Sequence[Evidence]) -> str:
    items = []
    for e in evidence:
        source = f'<span class="source">{escape(e.source)}</span>' if e.source else ""
        items.append(f"<li>{'' if e.kind == 'edge' else _strength(e.score)}<span>{escape(e.text)}{source}</span></li>")
    return f"<ul>{''.join(items)}</ul>"


def _strength(score: float) -> str:
    width = max(0.0, min(1.0, score)) * 100
    return f'<span class="strength" title="Strength {score:.2f} of 1"><i style="width:{width:.0f}%"></i></span>'


def _parts(hit: RetrievedNode) -> str:
    if not hit.parts:
        return ""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{value:.3f}</dd></div>" for name, value in hit.parts.items())
    total = f"<div><dt>fused</dt><dd>{hit.score:.3f}</dd></div>"
    meaning = '<p class="meaning">The score of each kind of evidence, and of all together.</p>'
    return f'<section data-kind="score"><h4>Score</h4>{meaning}<dl>{rows}{total}</dl></section>'


def _nothing() -> str:
    return '<p class="hint">No evidence is recorded for this candidate.</p>'
