"""The public web page of a node, from its type and its identifier.

Knows: the forms of UniProt, Entrez, DrugBank, PubChem, Disease Ontology, MONDO, MeSH and GO identifiers, and the
addresses of their pages. Does not know: the graph, or whether a page exists (nothing is fetched).
"""

from __future__ import annotations

import re
from urllib.parse import quote

from biobridge_rag.types import GO_TYPES, NodeType

_UNIPROT = re.compile(r"([OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(?:-[0-9]+)?")
_DIGITS = r"0*([0-9]{1,10})"
_PAGES: dict[NodeType, tuple[tuple[re.Pattern[str], str], ...]] = {
    NodeType.PROTEIN: (
        (_UNIPROT, "https://www.uniprot.org/uniprotkb/{}/entry"),
        (re.compile(_DIGITS), "https://www.ncbi.nlm.nih.gov/gene/{}"),
    ),
    NodeType.DRUG: (
        (re.compile(r"(DB[0-9]{5,6})"), "https://go.drugbank.com/drugs/{}"),
        (re.compile(rf"CID:?{_DIGITS}"), "https://pubchem.ncbi.nlm.nih.gov/compound/{}"),
    ),
    NodeType.DISEASE: (
        (re.compile(r"(DOID:[0-9]{1,10})"), "https://disease-ontology.org/?id={}"),
        (re.compile(rf"(?:MONDO:)?{_DIGITS}"), "https://monarchinitiative.org/MONDO:{:0>7}"),
        (re.compile(r"(?:MESH:)([CD][0-9]{1,10})"), "https://meshb.nlm.nih.gov/record/ui?ui={}"),
    ),
}
_GO = ((re.compile(rf"(?:GO:)?{_DIGITS}"), "https://www.ebi.ac.uk/QuickGO/term/GO:{:0>7}"),)


def node_url(node_type: str, node_id: str, uniprot: str = "") -> str:
    """The page of a node, or an empty string for an identifier of no known form.

    `uniprot`: the accession of a protein whose node id is another (an Entrez id, as in PrimeKG); it goes first, and one
    that is not well formed is passed over. Bare digits are read as PrimeKG writes them: Entrez, MONDO or GO numbers
    without their leading zeros.
    """
    try:
        kind = NodeType(node_type)
    except ValueError:
        return ""
    pages = _GO if kind in GO_TYPES else _PAGES[kind]
    accession = (uniprot, pages[:1]) if kind is NodeType.PROTEIN else ("", ())
    for identifier, forms in (accession, (node_id, pages)):
        for form, page in forms:
            if found := form.fullmatch(identifier.strip().upper()):
                return page.format(quote(found[1], safe=":"))
    return ""
