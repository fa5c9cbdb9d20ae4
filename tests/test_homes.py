"""A home's encoding: one text for all types, each around the centre of its own table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag.encoders.cache import encode_groups, save_array
from biobridge_rag.homes import Home
from biobridge_rag.retrieval.texts import TextSearch, nearest_in
from biobridge_rag.store.index import FROZEN, NodeIndex
from biobridge_rag.types import KnowledgeGraph, Modality, Node, NodeType, Relation, Vectors

S, B, F = NodeType.DISEASE, NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION
DIM = 8


class CountingEncoder:
    id, modality, dim = "counting", Modality.TEXT, DIM

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, values: Sequence[str]) -> Vectors:
        self.asked += values
        x = np.array([np.random.default_rng(list(value.encode())).normal(size=DIM) for value in values], dtype=np.float32)
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def home_of(path: Path, encoder: Any, graph: Any = None, index: Any = None) -> Home:
    """A home with a centre for diseases and another for processes, and none for functions."""
    (path / "embeddings").mkdir()
    for at, node_type in enumerate((S, B)):
        save_array(path / "embeddings" / f"{node_type.slug}-0.centre", np.eye(DIM, dtype=np.float32)[at] / 2)
    none: Any = None
    tables = {t: np.eye(2, DIM, dtype=np.float32) for t in (S, B, F)}
    return Home(path, none, graph, none, tables, {}, {}, {}, index, {Modality.TEXT: encoder})


def test_a_text_is_encoded_once_and_put_around_each_centre(tmp_path: Path) -> None:
    encoder, plain = CountingEncoder(), CountingEncoder()
    home = home_of(tmp_path, encoder)
    for k, node_type in ((0, S), (1, B), (None, F), (0, S)):
        centre = None if k is None else np.eye(DIM, dtype=np.float32)[k] / 2
        assert np.array_equal(home.encode(node_type, [("a fever",)]), encode_groups(plain, [("a fever",)], centre))
    assert encoder.asked == ["a fever"]
    assert not np.allclose(home.encode(S, [("a fever",)]), home.encode(B, [("a fever",)]))


def test_what_is_handed_out_can_be_changed(tmp_path: Path) -> None:
    home = home_of(tmp_path, CountingEncoder())
    first = home.encode(F, [("a fever",)])
    kept = first.copy()
    first[:] = 0.0
    assert np.array_equal(home.encode(F, [("a fever",)]), kept)


@pytest.mark.parametrize("groups", [[("a", "b")], [("a",), ("b",)]])
def test_several_values_are_encoded_as_they_come(tmp_path: Path, groups: list[tuple[str, ...]]) -> None:
    encoder = CountingEncoder()
    home = home_of(tmp_path, encoder)
    found = [home.encode(F, groups) for _ in range(2)]
    assert encoder.asked == ["a", "b", "a", "b"] and np.array_equal(*found) and found[0].shape == (len(groups), DIM)


def test_a_search_in_all_types_encodes_its_text_once(tmp_path: Path) -> None:
    nodes = tuple(Node(f"{t.value}{k}", t, f"name {k}") for t in (S, B, F) for k in range(2))
    none = np.zeros(0, np.int32)
    graph = KnowledgeGraph("g", nodes, (Relation("t", "drug", "disease"),), none, none.astype(np.int16), none, none.astype(np.int16), ())
    encoder, index = CountingEncoder(), NodeIndex(tmp_path / "chroma")
    try:
        for t in (S, B, F):
            index.write(t, FROZEN, [n for n in nodes if n.type is t], np.eye(2, DIM, dtype=np.float32), "x", lambda *_: None)
        home = home_of(tmp_path, encoder, graph, index)
        found = TextSearch(graph, nearest_in(index, home.encode)).by_meaning("a fever", 6, (S, B, F))
    finally:
        index.close()
    assert len(found) == 6 and encoder.asked == ["a fever"]
