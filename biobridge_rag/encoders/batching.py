"""Batches for models that pad: values of like length together, as many as fit a number of padded tokens; and their rows put in order.

Knows: lengths, rows. Does not know: models, tokens, values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from biobridge_rag.types import Indices, Vectors


def batches(lengths: Sequence[int], budget: int, most: int = 4096) -> Iterator[Indices]:
    """Places in `lengths`, the longest first, so that memory runs out at once or not at all; each batch's count times its longest
    length is at most `budget`, or it holds one value. `most`: values of a batch."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        size = int(np.clip(budget // max(int(lengths[order[start]]), 1), 1, most))
        yield order[start : start + size]
        start += size


def gathered(n: int, dim: int, finished: Iterable[tuple[Indices, Vectors]]) -> Vectors:
    """(n, dim) float32 from (places, vectors) that come in any order and name each place once."""
    out = np.empty((n, dim), dtype=np.float32)
    for places, vectors in finished:
        out[places] = vectors
    return out
