"""How like the nodes of a type a query is: by the cosine of frozen embeddings, or by what the encoder has to say beyond them.

Knows: tables of vectors, similarities between their rows, an aligner handed in. Does not know: graphs, encoders, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import BiobridgeError
from biobridge_rag.types import Aligner, Indices, Vectors

COSINE, ALIGNMENT = "cosine", "alignment"
# What unrelated queries reach by chance with the nearest node of the graph. Of shuffled human proteins, aligned with 5,531 others, two
# in three of 320 residues stay below the last; short ones reach more.
_UNLIKE_VECTOR, _UNLIKE_SHORT, _UNLIKE_LONG, _SHORT = 0.1, 0.28, 0.2, 250


@dataclass(frozen=True)
class Heads:
    """Queries of one node type. x: (n, d) frozen embeddings, of unit length unless the home was imported; rows: (n,) rows in the
    graph's table of the type, where they are nodes of that graph, else None; values: (n,) what was encoded, each a tuple as
    Node.values and not empty, needed where likeness is by alignment and the queries are no nodes of the graph."""

    x: Vectors
    rows: Indices | None = None
    values: Sequence[tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, at: slice) -> Heads:
        rows, values = (None if part is None else part[at] for part in (self.rows, self.values))
        return Heads(self.x[at], rows, values)  # type: ignore[arg-type]


class Likeness:
    """Similarities with the n_t nodes of a type. table (n_t, d): their frozen embeddings; among (n_t, n_t): their similarities, where
    they are kept; aligner: compares values instead of vectors, then `among` must hold its similarities."""

    def __init__(self, table: Vectors, among: NDArray[np.floating[Any]] | None = None, aligner: Aligner | None = None) -> None:
        if aligner is not None and among is None:
            raise ValueError("An aligner needs the similarities of the graph's own nodes.")
        self.table, self.table_among, self._aligner = table, among, aligner

    @property
    def method(self) -> str:
        return COSINE if self._aligner is None else ALIGNMENT

    def unlike(self, value: str) -> float:
        """A similarity that a query without relatives of this length reaches by chance."""
        if self._aligner is None:
            return _UNLIKE_VECTOR
        return _UNLIKE_SHORT if len(value) < _SHORT else _UNLIKE_LONG

    def of(self, heads: Heads) -> Vectors:
        """(n, n_t) float32, at most 1, a copy. A head that is a node of the graph is 1 with itself."""
        if self._aligner is None:
            return np.asarray(unit(np.asarray(heads.x, dtype=np.float32)) @ self._units.T, dtype=np.float32)
        if heads.rows is not None:
            assert self.table_among is not None
            return np.asarray(self.table_among[heads.rows], dtype=np.float32)
        if heads.values is None:
            raise BiobridgeError("Queries that are compared by alignment need their sequences, not their embeddings alone.")
        flat = [value for group in heads.values for value in group]
        found = self._aligner.similarities(flat)
        if all(len(group) == 1 for group in heads.values):
            return found
        starts = np.cumsum([0, *(len(group) for group in heads.values)])[:-1]
        return np.asarray(np.maximum.reduceat(found, starts, axis=0), dtype=np.float32)

    def how(self, value: str, rows: Indices, similar: Vectors) -> list[str]:
        """In words, how like these nodes (m,) a query of that value is, as the beginning of "... NAME"; similar: (m,)."""
        plain = [f"{similarity:.0%} like" for similarity in similar.tolist()]
        if self._aligner is None or not value:
            return plain
        found = zip(plain, self._aligner.identities(value, rows.tolist()), strict=True)
        return [f"{_percent(best[0])} identical over {best[1]:,} residues to" if best else words for words, best in found]

    def among(self, rows: Indices) -> Vectors:
        """(m, m) float32 between these nodes."""
        if self.table_among is not None:
            return np.asarray(self.table_among[np.ix_(rows, rows)], dtype=np.float32)
        x = self._units[rows]
        return np.asarray(x @ x.T, dtype=np.float32)

    def kept(self, rows: Indices) -> Likeness:
        """Of these nodes only."""
        among = None if self.table_among is None else np.ascontiguousarray(self.table_among[np.ix_(rows, rows)])
        return Likeness(self.table[rows], among, None if self._aligner is None else self._aligner.kept(rows))

    @cached_property
    def _units(self) -> Vectors:
        """The table with rows of length 1: itself where they are."""
        table = np.asarray(self.table, dtype=np.float32)
        return table if np.allclose(np.einsum("nd,nd->n", table, table), 1.0, atol=1e-4) else unit(table)


def _percent(share: float) -> str:
    """Rounded, but 100 % only where it is all."""
    return "over 99%" if 0.995 <= share < 1.0 else f"{share:.0%}"
