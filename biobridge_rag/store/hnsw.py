"""The parameters of a collection's HNSW graph, by its size.

Knows: what was measured. Does not know: chromadb.
"""

from __future__ import annotations

from typing import Any

SMALL, LARGE = 50_000, 500_000


def parameters(n: int) -> dict[str, Any]:
    """Chroma's configuration of the HNSW graph (Malkov and Yashunin, 2018) for a collection that is made with n vectors.

    Up to 50,000: Chroma's own graph (max_neighbors 16, ef_construction 100), but twice its breadth of search (ef_search 200), which
    costs nothing to build and about a millisecond a query. Above: max_neighbors 24, ef_construction 150, which takes half as much
    time again to build and 64 more bytes a vector; from 500,000 on ef_search 400. PROBLEM-FIGURES

    A collection keeps the parameters that it was made with, also where it grows by single nodes; all are read alike."""
    if n <= SMALL:
        return {"space": "cosine", "max_neighbors": 16, "ef_construction": 100, "ef_search": 200}
    return {"space": "cosine", "max_neighbors": 24, "ef_construction": 150, "ef_search": 200 if n < LARGE else 400}
