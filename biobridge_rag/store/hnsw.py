"""The parameters of a collection's HNSW graph, by its size.

Knows: what was measured. Does not know: chromadb.
"""

from __future__ import annotations

from collections.abc import Mapping


def parameters(n: int) -> Mapping[str, str | int]:
    return {"space": "cosine"}
