"""Keys of values: distinct, stable, and found again with their first row whatever the order and portions they came in."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.encoders.keys import KeyIndex, as_keys, keys_of

PINNED = "374b7c5b89f01c5f440a6aecddbe97af"
# Few distinct halves, so that keys which agree in one half only are common.
KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60)


def table(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


@given(KEYS, st.lists(st.integers(0, 60), max_size=6), KEYS)
def test_the_first_row_of_a_key_is_found(added: list[tuple[int, int]], cuts: list[int], asked: list[tuple[int, int]]) -> None:
    index, first = KeyIndex(), dict[tuple[int, int], int]()
    for row, key in enumerate(added):
        first.setdefault(key, row)
    edges = sorted({0, len(added), *(c for c in cuts if c < len(added))})
    for start, stop in itertools.pairwise(edges):
        index.add(table(added[start:stop]), np.arange(start, stop))
    assert len(index) == len(added)
    assert index.find(table(asked)).tolist() == [first.get(key, -1) for key in asked]


@given(KEYS, st.integers(0, 60), st.integers(0, 60))
def test_dropped_rows_give_way_to_later_ones_of_the_same_key(added: list[tuple[int, int]], start: int, stop: int) -> None:
    index = KeyIndex()
    for row, key in enumerate(added):
        index.add(table([key]), np.array([row]))
    index.drop(start, stop)
    left = [(key, row) for row, key in enumerate(added) if not start <= row < stop]
    first = dict(reversed(left))
    assert index.find(table(added)).tolist() == [first.get(key, -1) for key in added]


def test_keys_depend_on_value_and_encoder_and_are_pinned() -> None:
    values = ["", "M", "MK", "Ä", "\ud800"]
    keys = keys_of("a-v1", values)
    assert keys.shape == (5, 2) and len({*map(tuple, keys.tolist())}) == 5
    assert not {*map(tuple, keys.tolist())} & {*map(tuple, keys_of("a-v2", values).tolist())}
    assert tuple(keys_of("ab", ["c"])[0]) != tuple(keys_of("a", ["bc"])[0])
    assert keys[1].tobytes().hex() == PINNED and np.array_equal(as_keys(bytes.fromhex(PINNED))[0], keys[1])
