"""Words of composed answers: names in a row, plurals of node types, the order in which relations are told.

Knows: node types, relations. Does not know: questions, evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

from biobridge_rag.types import NodeType, Relation

ORDER = ("target", "indication", "associated with", "ppi", "interacts with", "enzyme", "transporter", "carrier")
"""Names of relations, the most telling first."""


def order(relation: Relation) -> tuple[int, str]:
    return (ORDER.index(relation.name) if relation.name in ORDER else len(ORDER), relation.key)


def plural(node_type: str) -> str:
    label = NodeType(node_type).label
    return f"{label}es" if label.endswith("s") else f"{label}s"


def joined(names: Sequence[str], word: str = "and", more: bool = False) -> str:
    """ "A, B and C"; more: "A, B, C and others"."""
    if more:
        return ", ".join(names) + " and others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else ""
