"""Values and vectors for tests of the store, for processes of their own too."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biobridge_rag.encoders.store import EmbeddingStore

DIM = 6
WIDE = 2048


def truth(values: Sequence[str], dim: int = DIM) -> np.ndarray:
    """The vector that each value has here, recomputable anywhere."""
    seeds = np.array([zlib.crc32(v.encode()) for v in values], dtype=np.int64)[:, None]
    return ((seeds + np.arange(dim)) % 9973 + 1).astype(np.float32)


def names(start: int, stop: int) -> list[str]:
    return [f"value {i}" for i in range(start, stop)]


def opened(folder: Path, dim: int = DIM, encoder: str = "test/encoder v1") -> EmbeddingStore:
    return EmbeddingStore(folder, encoder, dim)
