"""Stands where an encoder would, for vectors that were released ready-made: it names them, and says that it cannot make more.

Knows: tables of vectors. Does not know: graphs, the files they came in, the models that made them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from biobridge_rag.errors import HomeError, InputError
from biobridge_rag.types import Modality, NodeType, Vectors

_ID = re.compile(r"released-([a-z_-]+)-[0-9a-f]{16}-([1-9][0-9]*)")
_NEEDED = {
    Modality.PROTEIN: "ESM-2 3B (2,560 numbers, the mean of the last layer over the residues)",
    Modality.MOLECULE: "Uni-Mol (512 numbers)",
    Modality.TEXT: "PubMedBERT (768 numbers, the mean of the last layer over the tokens)",
}


class ReleasedEncoder:
    """`id` is "released-<what>-<16 hex digits of the vectors>-<dim>"; `encode` always raises InputError."""

    def __init__(self, modality: Modality, id: str) -> None:
        """Raises HomeError where `id` is not of that form."""
        parts = _ID.fullmatch(id)
        if parts is None:
            raise HomeError(f"{id!r} names no released vectors.", "Import the release again.")
        self.id, self.modality, self.dim = id, modality, int(parts[2])

    def encode(self, values: Sequence[str]) -> Vectors:
        """No values, no vectors (0, dim); any value raises InputError."""
        if not values:
            return np.zeros((0, self.dim), dtype=np.float32)
        what = {Modality.PROTEIN: "protein sequence", Modality.MOLECULE: "molecule", Modality.TEXT: "text"}[self.modality]
        raise InputError(
            f"A {what} outside the graph cannot be encoded here: this home holds released vectors of {self.dim:,} numbers for the "
            "nodes of its graph alone.",
            f"Name a node of the graph instead, or use a home built with an encoder; the release was made with {_NEEDED[self.modality]}.",
        )


def is_released(encoder_id: str) -> bool:
    return _ID.fullmatch(encoder_id) is not None


def released_encoders(tables: Mapping[NodeType, Vectors]) -> dict[Modality, ReleasedEncoder]:
    """One for each modality that the tables (n_t, d) have; its id changes with any number in them.

    Raises InputError where two types of one modality have vectors of different widths.
    """
    groups: dict[Modality, list[NodeType]] = {}
    for node_type in sorted(tables):
        groups.setdefault(node_type.modality, []).append(node_type)
    out = {}
    for modality, types in groups.items():
        widths = {int(tables[t].shape[1]) for t in types}
        if len(widths) > 1:
            raise InputError(f"The released vectors of {', '.join(t.label for t in types)} nodes differ in width; one home takes one.")
        digest = hashlib.sha256()
        for node_type in types:
            digest.update(f"{node_type.value}\x1f{len(tables[node_type])}\x1e".encode())
            digest.update(np.ascontiguousarray(tables[node_type], dtype="<f4").data)
        what = types[0].slug if modality is not Modality.TEXT else modality.value
        out[modality] = ReleasedEncoder(modality, f"released-{what}-{digest.hexdigest()[:16]}-{widths.pop()}")
    return out
