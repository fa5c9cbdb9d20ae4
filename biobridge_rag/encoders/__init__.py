"""Frozen encoders: a node's value in, a unit-length vector out. `ENCODERS` names the offline ones by modality, `FOUNDATION` makes the
foundation models, whose weights lie somewhere on this machine.

Knows: which encoders there are. Does not know: graphs, caches on disk, what the vectors are used for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from biobridge_rag.encoders.weights import ANYWHERE, Source
from biobridge_rag.errors import HomeMismatchError
from biobridge_rag.types import ChoosyEncoder, Encoder, Modality, Vectors


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


def _esm(name: str, source: Source, offline: Sequence[str]) -> Encoder:
    from biobridge_rag.encoders.esm import make_esm

    return make_esm(name, source, offline)


def _molecular(name: str, source: Source, offline: Sequence[str]) -> Encoder:
    from biobridge_rag.encoders.chemical import make_molecule

    return make_molecule(name, source, offline)


def _language(name: str, source: Source, offline: Sequence[str]) -> Encoder:
    from biobridge_rag.encoders.language import make_text

    return make_text(name, source, offline)


FOUNDATION: dict[Modality, Callable[[str, Source, Sequence[str]], Encoder]] = {
    Modality.PROTEIN: _esm,
    Modality.MOLECULE: _molecular,
    Modality.TEXT: _language,
}


def is_foundation(modality: Modality, name: str) -> bool:
    """Whether the name is not that of an offline encoder, nor of released vectors."""
    from biobridge_rag.encoders.released import is_released

    return name not in ENCODERS[modality] and not is_released(name)


def make_encoder(modality: Modality, name: str, source: Source = ANYWHERE) -> Encoder:
    """The encoder of that name, or what stands for one where the name is the id of released vectors. source: where weights may lie;
    they are looked for when the encoder is first used. Raises InputError listing the valid names."""
    from biobridge_rag.encoders.released import ReleasedEncoder, is_released

    if is_released(name):
        return ReleasedEncoder(modality, name)
    if name in ENCODERS[modality]:
        return ENCODERS[modality][name]()
    return FOUNDATION[modality](name, source, sorted(ENCODERS[modality]))


class HeldEncoder:
    """A foundation model that a home was built with, by its id. Its weights are needed, and checked to be the same, only when there is
    something to encode: without them, the nodes of the graph can still be asked for."""

    def __init__(self, modality: Modality, name: str, id: str, dim: int, source: Source) -> None:
        self.modality, self.id, self.dim = modality, id, dim
        self._name, self._source = name, source

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = make_encoder(self.modality, self._name, self._source)
        if encoder.id != self.id:
            raise HomeMismatchError(
                f"The home was built with the encoder {self.id!r}; the weights found here make {encoder.id!r}.",
                "Name the weights that it was built with by --weights.",
            )
        return encoder

    def check(self) -> None:
        """Raises as `encode` does where the weights are missing or others; does not load them."""
        assert self._encoder.id == self.id

    def encode(self, values: Sequence[str]) -> Vectors:
        """(n, dim). Raises InputError where the weights are missing, HomeMismatchError where they are others."""
        return self._encoder.encode(values)

    def unusable(self, values: Sequence[str]) -> dict[int, str]:
        """What `encode` would refuse: place in `values` -> the reason, one sentence."""
        return self._encoder.unusable(values) if values and isinstance(self._encoder, ChoosyEncoder) else {}
