"""How an edge is read aloud: a plain clause for each relation, whichever way round it is given.

Knows: relation names and node types. Does not know: evidence, answers.
"""

from __future__ import annotations

from biobridge_rag.types import Node, NodeType

_P = NodeType.PROTEIN
# How an edge is read, by relation name and the type of its first node; the other direction is turned round.
_PHRASES: dict[tuple[str, str], str] = {
    ("target", NodeType.DRUG): "{0} targets {1}",
    ("enzyme", NodeType.DRUG): "{0} is linked to {1} as an enzyme",
    ("transporter", NodeType.DRUG): "{0} is linked to {1} as a transporter",
    ("carrier", NodeType.DRUG): "{0} is linked to {1} as a carrier",
    ("indication", NodeType.DRUG): "{0} is indicated for {1}",
    ("off-label use", NodeType.DRUG): "{0} is used off-label for {1}",
    ("contraindication", NodeType.DRUG): "{0} is contraindicated in {1}",
    ("associated with", _P): "{0} is associated with {1}",
    ("ppi", _P): "{0} interacts with {1}",
    ("interacts with", f"{_P} {NodeType.BIOLOGICAL_PROCESS}"): "{0} takes part in {1}",
    ("interacts with", f"{_P} {NodeType.MOLECULAR_FUNCTION}"): "{0} has the function {1}",
    ("interacts with", f"{_P} {NodeType.CELLULAR_COMPONENT}"): "{0} is found in {1}",
}


def phrase(first: Node, relation: str, second: Node) -> str:
    """An edge as a plain clause, whichever way round it is given."""
    for a, b in ((first, second), (second, first)):
        form = _PHRASES.get((relation, a.type)) or _PHRASES.get((relation, f"{a.type} {b.type}"))
        if form:
            return form.format(a.name, b.name)
    if relation == "parent-child":
        return f"{first.name} and {second.name} are parent and child terms (the graph does not keep which is which)"
    return f"{first.name} is linked to {second.name} by {relation!r}"
