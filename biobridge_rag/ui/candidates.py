"""The candidate table as accessible HTML: one radio button a row, so that a click, a tap or an arrow key selects it.

Knows: Retrieval, relations and what a reader calls them. Does not know: gradio, the engine, how hits are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from biobridge_rag.types import Evidence, NodeType, Query, Relation, Retrieval, RetrievedNode
from biobridge_rag.ui.downloads import download_links
from biobridge_rag.ui.markup import escape, percent, shorten, structure

TOP_CHOICES = (10, 20, 50)

_TITLES = {
    ("target", NodeType.PROTEIN, NodeType.DRUG): "Drugs that act on {}",
    ("enzyme", NodeType.PROTEIN, NodeType.DRUG): "Drugs metabolised by {}",
    ("transporter", NodeType.PROTEIN, NodeType.DRUG): "Drugs transported by {}",
    ("carrier", NodeType.PROTEIN, NodeType.DRUG): "Drugs carried by {}",
    ("associated with", NodeType.PROTEIN, NodeType.DISEASE): "Diseases linked to {}",
    ("interacts with", NodeType.PROTEIN, NodeType.BIOLOGICAL_PROCESS): "Biological processes of {}",
    ("interacts with", NodeType.PROTEIN, NodeType.MOLECULAR_FUNCTION): "Molecular functions of {}",
    ("interacts with", NodeType.PROTEIN, NodeType.CELLULAR_COMPONENT): "Cellular components of {}",
    ("ppi", NodeType.PROTEIN, NodeType.PROTEIN): "Proteins that interact with {}",
    ("target", NodeType.DRUG, NodeType.PROTEIN): "Proteins that {} acts on",
    ("indication", NodeType.DRUG, NodeType.DISEASE): "Diseases that {} is used for",
    ("contraindication", NodeType.DRUG, NodeType.DISEASE): "Diseases that rule out {}",
    ("off-label use", NodeType.DRUG, NodeType.DISEASE): "Off-label uses of {}",
    ("enzyme", NodeType.DRUG, NodeType.PROTEIN): "Enzymes that metabolise {}",
    ("transporter", NodeType.DRUG, NodeType.PROTEIN): "Transporters of {}",
    ("carrier", NodeType.DRUG, NodeType.PROTEIN): "Carriers of {}",
    ("indication", NodeType.DISEASE, NodeType.DRUG): "Drugs used for {}",
    ("associated with", NodeType.DISEASE, NodeType.PROTEIN): "Proteins linked to {}",
    ("contraindication", NodeType.DISEASE, NodeType.DRUG): "Drugs not to be used in {}",
    ("off-label use", NodeType.DISEASE, NodeType.DRUG): "Drugs used off label for {}",
    ("parent-child", NodeType.DISEASE, NodeType.DISEASE): "Diseases related to {}",
    ("similar to", NodeType.PROTEIN, NodeType.PROTEIN): "Proteins similar to {}",
    ("similar to", NodeType.DRUG, NodeType.DRUG): "Molecules similar to {}",
    ("similar to", NodeType.DISEASE, NodeType.DISEASE): "Diseases similar to {}",
}
_PLURALS = {
    NodeType.PROTEIN: "Proteins",
    NodeType.DRUG: "Drugs",
    NodeType.DISEASE: "Diseases",
    NodeType.BIOLOGICAL_PROCESS: "Biological processes",
    NodeType.MOLECULAR_FUNCTION: "Molecular functions",
    NodeType.CELLULAR_COMPONENT: "Cellular components",
}
_ORDER = {key: i for i, key in enumerate(_TITLES)}


def relation_title(relation: Relation, of: str = "it") -> str:
    """What is looked for along a relation, in words; `of` names the query."""
    template = _TITLES.get(_typed(relation))
    if template is None:
        template = f"{_PLURALS[NodeType(relation.tail_type)]}: {relation.name} {{}}"
    return template.replace("{}", of)


def _typed(relation: Relation) -> tuple[str, NodeType, NodeType]:
    return relation.name, NodeType(relation.head_type), NodeType(relation.tail_type)


def query_label(query: Query) -> str:
    """The query's name as a heading can carry it: the graph's name where it is a node."""
    return shorten(query.node.name if query.node else query.name, 48)


def relation_choices(relations: Sequence[Relation]) -> list[tuple[str, str]]:
    """(title, key) of relations from one type of query, the usual ones first."""
    return [(relation_title(r), r.key) for r in sorted(relations, key=lambda r: (_ORDER.get(_typed(r), len(_ORDER)), r.key))]


def strongest(evidence: Iterable[Evidence]) -> Evidence | None:
    """The piece of evidence to name first: a stated edge, then the highest score, how common it is last."""
    return max(evidence, key=lambda e: (e.kind == "edge", e.kind != "prior", e.score), default=None)


def empty_table() -> str:
    """What stands in place of the table before anything was looked for: what it will list, and what its marks mean."""
    terms = (
        (badge(True), "An edge of the graph states it; the edge and its source are shown."),
        (badge(False), "No edge states it; the reasons are shown: similar proteins or molecules, the bridge, and how common it is."),
        (bar(0.62), "How often predictions of this strength were right when tried on nodes held back from training."),
    )
    legend = "".join(f"<div><dt>{term}</dt><dd>{meaning}</dd></div>" for term, meaning in terms)
    return (
        '<div class="empty"><h2>Candidates</h2><p>Drugs, proteins, diseases or processes that fit what you bring are listed here, '
        f"best first. Select one to read its evidence.</p><dl>{legend}</dl></div>"
    )


def table(retrieval: Retrieval, selected: int = 1) -> str:
    """The whole panel of a retrieval: heading, notes, downloads and rows; `selected` is the rank of the checked row."""
    hits = retrieval.hits
    known = sum(hit.known for hit in hits)
    counts = f"{len(hits)} shown, {known} known and {len(hits) - known} predicted" if hits else "nothing found"
    heading = (
        f'<div class="panel-head"><div><h2>{escape(relation_title(retrieval.relation, query_label(retrieval.query)))}</h2>'
        f'<p class="sub">{counts}</p></div>'
        f'<div class="downloads">{download_links(retrieval) if hits else ""}</div></div>'
    )
    notes = "".join(f'<p class="note">{escape(shorten(note, 200))}</p>' for note in _notes(retrieval))
    if not hits:
        return f'{heading}{notes}<p class="note">The graph has nothing to rank here. Choose another relation above.</p>'
    drawn = any(hit.node.type is NodeType.DRUG for hit in hits)
    structure_head = '<th scope="col" class="structure-cell">Structure</th>' if drawn else ""
    rows = "".join(_row(hit, drawn, hit.rank == selected) for hit in hits)
    return (
        f'{heading}{notes}<div class="rows" role="radiogroup" aria-label="Candidates; select one to read its evidence">'
        f'<table class="{"with-structures" if drawn else "plain"}"><thead><tr><th scope="col" class="rank">Rank</th>{structure_head}'
        '<th scope="col">Name</th><th scope="col">Probability</th><th scope="col">Strongest evidence</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _notes(retrieval: Retrieval) -> list[str]:
    notes = [retrieval.query.note, *retrieval.notes]
    return list(dict.fromkeys(note for note in notes if note))


def badge(known: bool) -> str:
    return '<span class="badge known">Known</span>' if known else '<span class="badge predicted">Predicted</span>'


def bar(probability: float) -> str:
    width = max(0.0, min(1.0, probability)) * 100
    filled = f'<i style="width:{width:.1f}%"></i>'
    return f'<span class="percent">{percent(probability)}</span><span class="bar" aria-hidden="true">{filled}</span>'


def _row(hit: RetrievedNode, drawn: bool, checked: bool) -> str:
    node, mark = hit.node, f"candidate-{hit.rank}"
    said = f"Rank {hit.rank}, {node.name}, {'known' if hit.known else 'predicted'}, probability {percent(hit.probability)}"
    smiles = node.values[0] if node.type is NodeType.DRUG and node.values else ""
    cell = f'<td class="structure-cell">{structure(smiles, node.name, 130, 78)}</td>' if drawn else ""
    reason = strongest(hit.evidence)
    why = escape(shorten(reason.text, 160)) if reason else "no single piece of evidence stands out"
    return (
        f'<tr data-rank="{hit.rank}" data-known="{str(hit.known).lower()}"><td class="rank">'
        f'<input type="radio" name="candidate" id="{mark}" value="{hit.rank}" aria-label="{escape(said)}"{" checked" if checked else ""}>'
        f'<span aria-hidden="true">{hit.rank}</span></td>{cell}'
        f'<td class="name"><label for="{mark}">{escape(shorten(node.name, 90))}</label>'
        f'<span class="id">{escape(node.id)}</span>{badge(hit.known)}</td>'
        f'<td class="probability">{bar(hit.probability)}</td><td class="why">{why}</td></tr>'
    )


SELECT_ROW_JS = """
element.addEventListener('change', (event) => {
  const radio = event.target.closest('input[name=candidate]');
  if (!radio) return;
  trigger('pick', { rank: Number(radio.value) });
  document.querySelector('#evidence').scrollTop = 0;
});
element.addEventListener('click', (event) => {
  if (event.target.closest('a, input, label')) return;
  const row = event.target.closest('tr[data-rank]');
  if (!row || String(window.getSelection())) return;
  const radio = row.querySelector('input');
  if (!radio.checked) { radio.checked = true; radio.dispatchEvent(new Event('change', { bubbles: true })); }
  radio.focus({ preventScroll: true });
});
"""
