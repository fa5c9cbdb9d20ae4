"""The offline protein encoder: spaced k-mers in two alphabets and composition, hashed by a fixed projection.

Knows: amino-acid sequences. Does not know: graphs, training, other modalities.

Method: two kinds of word are counted, square-rooted and weighted by the square of their information under the background
frequencies of Swiss-Prot, then sign-hashed (Weinberger et al. 2009, arXiv 0902.2206) into a fixed number of buckets each:
residues under the spaced seed 11011 (Ma, Tromp & Li 2002: spaced seeds keep more of a remote homology than contiguous words),
and classes of similar residues under the longer seed 111010111, which also match where residues were exchanged for like ones.
Cosines of hashed vectors estimate those of the unhashed ones with an error near 1/sqrt(dim).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.encoders.alignment import SequenceAligner
from biobridge_rag.encoders.sequences import is_residues
from biobridge_rag.errors import SequenceError
from biobridge_rag.types import Indices, Modality, Vectors

_LETTERS = "ACDEFGHIKLMNPQRSTVWYBOUXZ"
# Residue frequencies of UniProtKB/Swiss-Prot release statistics (per cent / 100); the five rare codes share a floor.
_BACKGROUND = np.array(
    [0.0826, 0.0139, 0.0546, 0.0672, 0.0386, 0.0707, 0.0227, 0.0591, 0.0580, 0.0965, 0.0241, 0.0406, 0.0474,
     0.0393, 0.0553, 0.0665, 0.0536, 0.0686, 0.0110, 0.0292, 0.01, 0.01, 0.01, 0.01, 0.01]
)  # fmt: skip
_CLASSES = ("AGST", "P", "C", "DENQBZ", "KR", "H", "ILMV", "FY", "W", "OUX")
_COMPOSITION_WEIGHT = 0.1
_HASH = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))


@dataclass(frozen=True)
class _Words:
    """A spaced seed over an alphabet. code (25,): each letter's symbol; information: of each symbol, in nats."""

    offsets: tuple[int, ...]
    code: NDArray[np.int64]
    information: NDArray[np.float64]
    salt: int

    def add_to(self, vector: Vectors, letters: Indices) -> None:
        """Adds the words of a sequence to `vector` and scales it to length 1; a sequence shorter than the seed has none."""
        n = len(letters) - self.offsets[-1]
        if n <= 0:
            return
        symbols, word, weight = self.code[letters], np.zeros(n, dtype=np.uint64), np.zeros(n)
        for offset in self.offsets:
            part = symbols[offset : offset + n]
            word = word * np.uint64(len(self.information)) + part.astype(np.uint64)
            weight += self.information[part]
        words, first, counts = np.unique(word, return_index=True, return_counts=True)
        mixed = (words + np.uint64(self.salt)) * _HASH[0]
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _HASH[1]
        bucket = ((mixed >> np.uint64(33)) % np.uint64(len(vector))).astype(np.int64)
        sign = np.where((mixed >> np.uint64(31)) & np.uint64(1), 1.0, -1.0)
        np.add.at(vector, bucket, (sign * np.sqrt(counts) * weight[first] ** 2).astype(np.float32))
        vector /= max(float(np.linalg.norm(vector)), 1e-12)


def _classes() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    code = np.array([next(i for i, group in enumerate(_CLASSES) if letter in group) for letter in _LETTERS])
    return code, -np.log(np.bincount(code, weights=_BACKGROUND))


class KmerEncoder:
    """Hashed words of both kinds plus composition. `encode`: n sequences -> (n, 8192) float32 of unit length. The id also stands for
    the aligner."""

    id = "kmer-11011-111010111-8192-sw50-v3"
    modality = Modality.PROTEIN
    dim = 8192

    def __init__(self) -> None:
        residues = np.arange(len(_LETTERS)), -np.log(_BACKGROUND)
        self._words = (_Words((0, 1, 3, 4), *residues, 1), _Words((0, 1, 2, 4, 6, 7, 8), *_classes(), 2))
        self._half = (self.dim - len(_LETTERS)) // 2
        self._code = np.full(256, 255, dtype=np.int64)
        for i, letter in enumerate(_LETTERS):
            self._code[ord(letter)] = i

    def encode(self, values: Sequence[str]) -> Vectors:
        """Raises SequenceError for a value that is empty or holds letters that are no residues."""
        out = np.zeros((len(values), self.dim), dtype=np.float32)
        for row, sequence in enumerate(values):
            self._one(sequence, out[row])
        return out

    def aligner(self, values: Sequence[str]) -> SequenceAligner:
        """Compares sequences with these by local alignment, which tells relatives apart that the vectors cannot."""
        return SequenceAligner(values)

    def _one(self, sequence: str, vector: Vectors) -> None:
        if not is_residues(sequence):
            raise SequenceError("A protein sequence is empty or holds letters that are no amino-acid codes.")
        letters = self._code[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
        for i, words in enumerate(self._words):
            words.add_to(vector[i * self._half : (i + 1) * self._half], letters)
        composition = np.sqrt(np.bincount(letters, minlength=len(_LETTERS)) / len(letters))
        vector[self.dim - len(_LETTERS) :] = _COMPOSITION_WEIGHT * composition
        vector /= float(np.linalg.norm(vector))
