"""The tools that a language model may plan a retrieval with, as pydantic models: their docstrings and fields are what it is shown.

Knows: node types and how they are called. Does not know: the graph, how a tool is carried out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from biobridge_rag.types import NodeType

_ALIASES = {
    "protein": "gene/protein", "gene": "gene/protein", "target": "gene/protein", "molecule": "drug", "compound": "drug",
    "process": "biological_process", "function": "molecular_function", "component": "cellular_component",
}  # fmt: skip


def _type_name(value: Any) -> Any:
    """The type that a word stands for; an empty one for none."""
    if not isinstance(value, str):
        return value
    low = value.strip().lower().replace(" ", "_")
    words = [_ALIASES.get(word, word) for word in (low, low.removesuffix("s"), low.removesuffix("es"))]
    return next((word for word in words if word in set(NodeType)), low) or None


_Type = Literal["drug", "gene/protein", "disease", "biological_process", "molecular_function", "cellular_component"]
To = Annotated[_Type, BeforeValidator(_type_name)]
MaybeTo = Annotated[_Type | None, BeforeValidator(_type_name)]
Name = Annotated[str, Field(min_length=1, max_length=300, description="A node's name, symbol or id, or the name of what was attached.")]


class _Tool(BaseModel):
    model_config = ConfigDict(extra="ignore")


# The tools carry the names that a model calls them by, hence the lower case.
class find_nodes(_Tool):
    """Finds the nodes that words may mean, and describes them."""

    text: Annotated[str, Field(min_length=1, max_length=300, description="The words.")]
    type: Annotated[MaybeTo, Field(description="Only nodes of this type.")] = None


class lookup_edges(_Tool):
    """Reads the known edges of a node in the graph: all, those of one relation, or those to one type of node."""

    entity: Name
    relation: Annotated[
        str, Field(max_length=100, description="The relation's name, such as target, indication or ppi; empty for all.")
    ] = ""
    to: Annotated[MaybeTo, Field(description="Only edges to nodes of this type.")] = None


class find_candidates(_Tool):
    """Ranks nodes of one type for a node, a sequence or a molecule: the known ones and those that a trained model predicts."""

    entity: Name
    to: Annotated[To, Field(description="The type of the nodes that are wanted.")]


class find_paths(_Tool):
    """Finds chains of known edges from one node to another, such as drug - protein - process - disease, that explain a link."""

    a: Name
    b: Name


class search_texts(_Tool):
    """Searches the descriptions of nodes by words and by meaning."""

    query: Annotated[str, Field(min_length=1, max_length=500, description="What is looked for.")]


class decide_kind(_Tool):
    """Says which answer the question asks for: open; choice, one of the options that it lists; true_false."""

    kind: Literal["open", "choice", "true_false"]
    options: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=26, description="As the question spells them.")] = []


TOOLS: tuple[type[BaseModel], ...] = (find_nodes, lookup_edges, find_candidates, find_paths, search_texts, decide_kind)
