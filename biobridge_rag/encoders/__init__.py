"""Frozen encoders: a node's value in, a unit-length vector out. `ENCODERS` names them by modality.

Knows: which encoders there are. Does not know: graphs, caches on disk, what the vectors are used for.
"""

from __future__ import annotations

from collections.abc import Callable

from biobridge_rag.errors import InputError
from biobridge_rag.types import Encoder, Modality


def _kmer() -> Encoder:
    from biobridge_rag.encoders.protein import KmerEncoder

    return KmerEncoder()


def _fingerprint() -> Encoder:
    from biobridge_rag.encoders.molecule import FingerprintEncoder

    return FingerprintEncoder()


def _minilm() -> Encoder:
    from biobridge_rag.encoders.text import MiniLMEncoder

    return MiniLMEncoder()


ENCODERS: dict[Modality, dict[str, Callable[[], Encoder]]] = {
    Modality.PROTEIN: {"kmer": _kmer},
    Modality.MOLECULE: {"fingerprint": _fingerprint},
    Modality.TEXT: {"minilm": _minilm},
}


def make_encoder(modality: Modality, name: str) -> Encoder:
    """The encoder of that name. Raises InputError listing the valid names."""
    known = ENCODERS[modality]
    if name not in known:
        raise InputError(f"There is no {modality.value} encoder named {name!r}.", f"Valid names: {', '.join(sorted(known))}.")
    return known[name]()
