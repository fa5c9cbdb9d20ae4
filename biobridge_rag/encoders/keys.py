"""Keys of values, and where their rows are: 24 bytes of memory a row.

Knows: hashes, sorted arrays. Does not know: files, vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.types import Indices

Keys = NDArray[np.uint64]


def keys_of(encoder_id: str, values: Sequence[str]) -> Keys:
    """(n, 2): 128 bits of BLAKE2b of the encoder's id and the value."""
    name = encoder_id.encode()
    start = blake2b(len(name).to_bytes(8, "little") + name, digest_size=16)
    out = bytearray(16 * len(values))
    for i, value in enumerate(values):
        digest = start.copy()
        digest.update(value.encode("utf-8", "surrogatepass"))
        out[16 * i : 16 * i + 16] = digest.digest()
    return as_keys(out)


def as_keys(data: bytes | bytearray) -> Keys:
    """Keys from 16 bytes each."""
    return np.frombuffer(data, dtype=np.uint64).reshape(-1, 2)


class _Run(NamedTuple):
    """Rows sorted by the first half of their keys; equal keys in the order in which they came."""

    first: Keys
    second: Keys
    rows: Indices


def _sorted(first: Keys, second: Keys, rows: Indices) -> _Run:
    order = np.argsort(first, kind="stable")
    return _Run(first[order], second[order], rows[order])


class KeyIndex:
    """From keys to row numbers. Runs of sorted keys, the oldest first, are merged when they are of like size, so that n rows added in
    any portions cost n log n."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.rows) for run in self._runs)

    def add(self, keys: Keys, rows: Indices) -> None:
        """Keys (n, 2) and the number of each one's row. A key may come again: the first row is the one that is found."""
        if len(keys):
            self._runs.append(_sorted(keys[:, 0], keys[:, 1], rows))
        while len(self._runs) > 1 and 2 * len(self._runs[-1].rows) >= len(self._runs[-2].rows):
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(
                _sorted(
                    np.concatenate([older.first, newer.first]),
                    np.concatenate([older.second, newer.second]),
                    np.concatenate([older.rows, newer.rows]),
                )
            )

    def find(self, keys: Keys) -> Indices:
        """The row of each key; -1 where there is none."""
        found = np.full(len(keys), -1, dtype=np.int64)
        for run in self._runs:
            todo = np.flatnonzero(found < 0)
            first, second = keys[todo, 0], keys[todo, 1]
            at = np.searchsorted(run.first, first)
            while len(todo):
                kept = at < len(run.rows)
                kept[kept] = run.first[at[kept]] == first[kept]
                todo, first, second, at = todo[kept], first[kept], second[kept], at[kept]
                same = run.second[at] == second
                found[todo[same]] = run.rows[at[same]]
                todo, first, second, at = todo[~same], first[~same], second[~same], at[~same] + 1
        return found

    def drop(self, start: int, stop: int) -> None:
        """Forgets the rows numbered from `start` to before `stop`."""
        for i, run in enumerate(self._runs):
            kept = (run.rows < start) | (run.rows >= stop)
            self._runs[i] = _Run(run.first[kept], run.second[kept], run.rows[kept])
