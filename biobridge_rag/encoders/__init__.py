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


def _spelled() -> Encoder:
    from biobridge_rag.encoders.text import SpelledTextEncoder

    return SpelledTextEncoder()


ENCODERS: dict[Modality, dict[str, Callable[[], Encoder]]] = {
    Modality.PROTEIN: {"kmer": _kmer},
    Modality.MOLECULE: {"fingerprint": _fingerprint},
    Modality.TEXT: {"minilm": _minilm, "minilm-spelled": _spelled},
}


def make_encoder(modality: Modality, name: str) -> Encoder:
    """The encoder of that name, or what stands for one where the name is the id of released vectors. Raises InputError listing the
    valid names."""
    from biobridge_rag.encoders.released import ReleasedEncoder, is_released

    if is_released(name):
        return ReleasedEncoder(modality, name)
    known = ENCODERS[modality]
    if name not in known:
        raise InputError(f"There is no {modality.value} encoder named {name!r}.", f"Valid names: {', '.join(sorted(known))}.")
    return known[name]()
