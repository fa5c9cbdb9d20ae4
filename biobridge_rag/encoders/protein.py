"""The offline protein encoder: spaced k-mers and composition, hashed by a fixed projection.

Knows: amino-acid sequences. Does not know: graphs, training, other modalities.

Method: every pair of residues and its neighbours under the spaced seed 11011 (Ma, Tromp & Li 2002: spaced seeds keep
more of a remote homology than contiguous words) is counted, square-rooted and weighted by the square of its information
under the background frequencies of Swiss-Prot, then sign-hashed (Weinberger et al. 2009, arXiv 0902.2206) into a fixed
number of buckets. Cosines of hashed vectors estimate those of the unhashed ones with an error near 1/sqrt(dim).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from biobridge_rag.encoders.sequences import is_residues
from biobridge_rag.errors import SequenceError
from biobridge_rag.types import Modality, Vectors

_LETTERS = "ACDEFGHIKLMNPQRSTVWYBOUXZ"
# Residue frequencies of UniProtKB/Swiss-Prot release statistics (per cent / 100); the five rare codes share a floor.
_BACKGROUND = np.array(
    [0.0826, 0.0139, 0.0546, 0.0672, 0.0386, 0.0707, 0.0227, 0.0591, 0.0580, 0.0965, 0.0241, 0.0406, 0.0474,
     0.0393, 0.0553, 0.0665, 0.0536, 0.0686, 0.0110, 0.0292, 0.01, 0.01, 0.01, 0.01, 0.01]
)  # fmt: skip
_SEED = (0, 1, 3, 4)
_COMPOSITION_WEIGHT = 0.1


class KmerEncoder:
    """Hashed spaced 4-mers plus composition. `encode`: n sequences -> (n, 4096) float32 of unit length."""

    id = "kmer-11011-4096-v1"
    modality = Modality.PROTEIN
    dim = 4096

    def __init__(self) -> None:
        size = len(_LETTERS)
        rng = np.random.default_rng(20240215)
        n_words = size**4
        self._bucket = rng.integers(0, self.dim - size, n_words).astype(np.int64)
        information = -np.log(_BACKGROUND)
        words = np.add.outer(np.add.outer(information, information).ravel(), np.add.outer(information, information).ravel()).ravel()
        self._weight = (words**2 * rng.choice([-1.0, 1.0], n_words)).astype(np.float32)
        self._code = np.full(256, 255, dtype=np.uint8)
        for i, letter in enumerate(_LETTERS):
            self._code[ord(letter)] = i

    def encode(self, values: Sequence[str]) -> Vectors:
        """Raises SequenceError for a value that is empty or holds letters that are no residues."""
        out = np.zeros((len(values), self.dim), dtype=np.float32)
        for row, sequence in enumerate(values):
            out[row] = self._one(sequence)
        return out

    def _one(self, sequence: str) -> Vectors:
        if not is_residues(sequence):
            raise SequenceError("A protein sequence is empty or holds letters that are no amino-acid codes.")
        size = len(_LETTERS)
        codes = self._code[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)].astype(np.int64)
        vector = np.zeros(self.dim, dtype=np.float32)
        span = _SEED[-1] + 1
        if len(codes) >= span:
            n = len(codes) - span + 1
            word = np.zeros(n, dtype=np.int64)
            for offset in _SEED:
                word = word * size + codes[offset : offset + n]
            words, counts = np.unique(word, return_counts=True)
            np.add.at(vector, self._bucket[words], np.sqrt(counts) * self._weight[words])
            vector /= max(float(np.linalg.norm(vector)), 1e-12)
        composition = np.sqrt(np.bincount(codes, minlength=size) / len(codes))
        vector[self.dim - size :] = _COMPOSITION_WEIGHT * composition
        return vector / float(np.linalg.norm(vector))
