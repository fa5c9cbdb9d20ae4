"""Nodes taken out of a collection, so that search still finds all the others: deleted, or where many have gone, left out of a copy.

Knows: a Chroma client and its collections (as they come), the copy's name. Does not know: chromadb itself, homes, what the nodes are.

The graph of the search (hnswlib's) is never made to move a vector that it holds: that selects the links of the vector's neighbours again
and may leave one that none leads to, stored but never found (nmslib/hnswlib#522, chroma-core/chroma#7758). A vector that is replaced is
deleted and added. A deleted one stays in the graph as a step to others; where these are too many, new ones come to lie apart, so that
the collection is copied without them. The copy takes the collection's place when it is whole: a kill leaves one or the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

GONE = "gone"  # in a collection's metadata: how many deleted vectors its graph still holds
SHARE = 0.2  # of the collection's nodes: up to it no more was lost to search than in a new collection, with all of them gone much was
_COPY = ".copy"


def readable(names: Collection[str], name: str) -> str | None:
    """The name under which the collection `name` is now among `names`: its copy's, where a kill came between the two."""
    return next((n for n in (name, name + _COPY) if n in names), None)


def original(name: str) -> str:
    return name.removesuffix(_COPY)


def settle(client: Any, names: Collection[str], name: str) -> None:
    """Ends what a kill broke off: a copy beside its collection is not whole and goes, one alone takes the name."""
    if name + _COPY not in names:
        return
    if name in names:
        client.delete_collection(name + _COPY)
    else:
        client.get_collection(name + _COPY, embedding_function=None).modify(name=name)


def take_out(client: Any, collection: Any, ids: Sequence[str], label: str, size: int) -> tuple[Any, int]:
    """Takes out those of these nodes that are there, `size` at a time, and labels the collection. Returns the collection, another one
    where it was copied, and how many went."""
    there = [i for at in range(0, len(ids), size) for i in collection.get(ids=list(ids[at : at + size]), include=[])["ids"]]
    gone = int((collection.metadata or {}).get(GONE, 0)) + len(there)
    if there and gone > SHARE * collection.count():
        return _copy(client, collection, set(there), label, size), len(there)
    collection.modify(metadata={"label": label, GONE: gone})
    for at in range(0, len(there), size):
        collection.delete(ids=there[at : at + size])
    return collection, len(there)


def relabel(collection: Any, label: str) -> None:
    collection.modify(metadata={**(collection.metadata or {}), "label": label})


def _copy(client: Any, collection: Any, without: set[str], label: str, size: int) -> Any:
    name, made = collection.name, collection.configuration_json["hnsw"]
    hnsw = {key: made[key] for key in ("space", "max_neighbors", "ef_construction", "ef_search")}
    copy = client.create_collection(name + _COPY, embedding_function=None, metadata={"label": label}, configuration={"hnsw": hnsw})
    ids = [i for i in collection.get(include=[])["ids"] if i not in without]
    for at in range(0, len(ids), size):
        rows = collection.get(ids=ids[at : at + size], include=["embeddings", "documents", "metadatas"])
        copy.upsert(ids=rows["ids"], embeddings=rows["embeddings"], documents=rows["documents"], metadatas=rows["metadatas"])
    client.delete_collection(name)
    copy.modify(name=name)
    return copy
