"""The HNSW parameters: what a collection is made with, that older ones stay readable, and that search finds what is near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.store.hnsw import LARGE, SMALL, parameters
from biobridge_rag.store.index import FROZEN, NodeIndex
from tests.store.conftest import Open
from tests.store.test_index import DRUG, nodes_of, quiet, vectors_of


def test_larger_collections_get_no_weaker_graph() -> None:
    sizes = [parameters(n) for n in (0, 1, SMALL, SMALL + 1, LARGE, 10_000_000)]
    for name in ("max_neighbors", "ef_construction", "ef_search"):
        values = [found[name] for found in sizes]
        assert values == sorted(values) and values[0] >= {"max_neighbors": 16}.get(name, 100)
    assert {found["space"] for found in sizes} == {"cosine"}


@pytest.mark.parametrize("n", [20, SMALL + 1])
def test_a_collection_is_made_with_the_parameters_of_its_size(place: Open, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    index = place()
    monkeypatch.setattr("biobridge_rag.store.index.parameters", lambda _n: parameters(n))
    index.write(DRUG, FROZEN, nodes_of(20), vectors_of(20), "v1", quiet)
    made = index._get("drug.frozen").configuration_json["hnsw"]
    assert {name: made[name] for name in parameters(n)} == parameters(n)


def test_a_collection_made_with_chromas_own_parameters_is_read_completed_and_changed(tmp_path: Path) -> None:
    import chromadb

    x = vectors_of(40)
    client = chromadb.PersistentClient(path=str(tmp_path))
    old = client.create_collection(
        "drug.frozen", embedding_function=None, metadata={"label": "v1"}, configuration={"hnsw": {"space": "cosine"}}
    )
    old.add(ids=[n.id for n in nodes_of(30)], embeddings=x[:30])
    client.close()
    index = NodeIndex(tmp_path)
    assert index.counts() == {"drug.frozen": 30} and index.search(DRUG, FROZEN, x[[4]], 1)[0] == [["DB4"]]
    index.write(DRUG, FROZEN, nodes_of(39), x[:39], "v1", quiet)
    index.upsert(DRUG, FROZEN, nodes_of(40)[39:], x[39:])
    assert index.delete(DRUG, FROZEN, ["DB4"]) == 1
    assert index.search(DRUG, FROZEN, x[[20, 35, 39]], 1)[0] == [["DB20"], ["DB35"], ["DB39"]]
    assert index._get("drug.frozen").configuration_json["hnsw"]["ef_search"] == 100
    index.close()


def test_search_finds_the_nearest_of_clustered_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 48))[rng.integers(60, size=3_050)] + rng.standard_normal((3_050, 48))
    x = np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)
    index = NodeIndex(tmp_path)
    index.write(DRUG, FROZEN, nodes_of(3_000), x[:3_000], "v1", quiet)
    found, cosines = index.search(DRUG, FROZEN, x[3_000:], 20)
    exact = x[3_000:] @ x[:3_000].T
    near = [{f"DB{i}" for i in row} for row in np.argsort(-exact, axis=1)[:, :20]]
    assert np.mean([len(set(row) & right) / 20 for row, right in zip(found, near, strict=True)]) >= 0.98
    assert np.all(np.diff(cosines, axis=1) <= 1e-6)
    index.close()


def test_no_embedding_function_is_ever_called(place: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, input: object) -> None:
        raise AssertionError("an embedding function was asked")

    monkeypatch.setattr("chromadb.api.types.DefaultEmbeddingFunction.__call__", refuse)
    for _ in range(2):
        index = place()
        index.write(DRUG, FROZEN, nodes_of(6), vectors_of(6), "v1", quiet)
        index.upsert(DRUG, FROZEN, nodes_of(7)[6:], vectors_of(1, seed=3))
        assert index.search(DRUG, FROZEN, vectors_of(1, seed=3), 1)[0] == [["DB6"]] and index.counts() == {"drug.frozen": 7}
        assert index.delete(DRUG, FROZEN, ["DB6"]) == 1
        index.close()
