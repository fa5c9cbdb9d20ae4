"""Nodes replaced and removed: all the others are still found, also where many go at once or bit by bit and where it is broken off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag.store.index import FROZEN, NodeIndex
from biobridge_rag.store.renewing import GONE
from biobridge_rag.types import Vectors
from tests.store.conftest import Open
from tests.store.test_index import DRUG, nodes_of, quiet, vectors_of

NAME = "drug.frozen"


def hard(n: int, seed: int = 0) -> Vectors:
    """Three tight clusters, and a tenth of the vectors far from all others: those lose their links first."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 16))[rng.integers(3, size=n)] + 0.15 * rng.standard_normal((n, 16))
    far = rng.random(n) < 0.1
    x[far] = rng.standard_normal((int(far.sum()), 16))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def unfound(index: NodeIndex, vectors: dict[str, Vectors]) -> list[str]:
    ids, cosines = index.search(DRUG, FROZEN, np.stack(list(vectors.values())), 1)
    return [i for i, row, cosine in zip(vectors, ids, cosines, strict=True) if row != [i] or cosine[0] < 0.9999]


@pytest.mark.parametrize("replaced", [10, 150, 200])
def test_no_vector_is_written_over_and_all_are_found(tmp_path: Path, replaced: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written over, vectors are lost: of 1,000 of these with 600 replaced, some in each of eight tries; of 200, now and then."""
    from chromadb.api.models.Collection import Collection

    real, over = Collection.upsert, []

    def watched(self: Collection, ids: list[str], **more: Any) -> None:
        over.extend(self.get(ids=ids, include=[])["ids"])
        real(self, ids=ids, **more)

    monkeypatch.setattr(Collection, "upsert", watched)
    x, nodes = hard(400), nodes_of(200)
    index = NodeIndex(tmp_path)
    index.write(DRUG, FROZEN, nodes, x[:200], "v1", quiet)
    index.upsert(DRUG, FROZEN, nodes[:replaced], x[200 : 200 + replaced])
    now = np.concatenate([x[200 : 200 + replaced], x[replaced:200]])
    assert over == [] and index.counts() == {NAME: 200}
    assert unfound(index, {n.id: v for n, v in zip(nodes, now, strict=True)}) == []
    index.close()


def test_a_collection_that_has_lost_many_bit_by_bit_is_copied_without_them(place: Open) -> None:
    index, x, nodes = place(), hard(400), nodes_of(120)
    index.write(DRUG, FROZEN, nodes, x[:120], "v1", quiet)
    now = {n.id: v for n, v in zip(nodes, x, strict=False)}
    first, gone = index._get(NAME).id, []
    for turn in range(8):
        some = nodes[turn * 10 : turn * 10 + 10]
        fresh = x[120 + 20 * turn : 130 + 20 * turn]
        index.upsert(DRUG, FROZEN, some[:7], fresh[:7], f"turn {turn}")
        assert index.delete(DRUG, FROZEN, [n.id for n in some[7:]], f"turn {turn}") == 3
        now |= {n.id: v for n, v in zip(some[:7], fresh, strict=False)}
        now = {i: v for i, v in now.items() if i not in {n.id for n in some[7:]}}
        gone.append(index._get(NAME).metadata.get(GONE, 0))
        assert unfound(index, now) == [] and index.counts() == {NAME: len(now)}
    assert index._get(NAME).id != first and max(gone) <= 0.2 * 120 and gone[:2] == [10, 20]
    made = index._get(NAME)
    assert made.metadata["label"] == "turn 7" and made.configuration_json["hnsw"]["ef_search"] == 200
    rows = made.get(ids=["DB119"], include=["documents", "metadatas", "embeddings"])
    assert rows["documents"] == ["drug 119. Number 119."] and rows["metadatas"][0]["url"] == "https://example.org/119"
    assert np.allclose(rows["embeddings"], x[119:120])


@pytest.mark.parametrize("step", range(5))
def test_a_copy_that_is_broken_off_leaves_the_collection_or_the_whole_copy(place: Open, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off after the copy was made, half filled, filled, after the collection was deleted, after the copy took its name."""
    from chromadb.api.models.Collection import Collection

    index, x, nodes = place(), hard(60), nodes_of(30)
    index.write(DRUG, FROZEN, nodes, x[:30], "v1", quiet)
    monkeypatch.setattr(NodeIndex, "_batch", lambda _self, _dim: 8)  # 14 nodes stay: two batches
    done: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def breaking(owner: Any, method: str) -> None:
            real = getattr(owner, method)

            def call(*args: Any, **more: Any) -> Any:
                out = real(*args, **more)
                done.append(method)
                if len(done) == step + 1:
                    raise KeyboardInterrupt
                return out

            patch.setattr(owner, method, call)

        for method in ("create_collection", "delete_collection"):
            breaking(index._client, method)
        for method in ("upsert", "modify"):
            breaking(Collection, method)
        with pytest.raises(KeyboardInterrupt):
            index.delete(DRUG, FROZEN, [n.id for n in nodes[14:]], "v2")
    assert done == ["create_collection", "upsert", "upsert", "delete_collection", "modify"][: step + 1]
    index.close()
    index = place()
    left = 30 if step < 3 else 14
    assert index.counts() == {NAME: left}
    assert unfound(index, {n.id: v for n, v in zip(nodes[:left], x, strict=False)}) == []
    assert index.delete(DRUG, FROZEN, [n.id for n in nodes[14:]], "v2") == left - 14
    index.upsert(DRUG, FROZEN, nodes[:2], x[30:32])
    assert index.counts() == {NAME: 14} and index._names() == [index._prefix + NAME]
    assert unfound(index, {n.id: v for n, v in zip(nodes[:14], [*x[30:32], *x[2:14]], strict=True)}) == []


def test_a_first_node_beside_a_whole_copy_is_added_to_it(place: Open) -> None:
    index, x = place(), vectors_of(4)
    index.write(DRUG, FROZEN, nodes_of(3), x[:3], "v1", quiet)
    index._get(NAME).modify(name=index._prefix + NAME + ".copy")
    index.close()
    index = place()
    index.upsert(DRUG, FROZEN, nodes_of(4)[3:], x[3:])
    assert index.counts() == {NAME: 4} and index._names() == [index._prefix + NAME]
    assert index.search(DRUG, FROZEN, x, 1)[0] == [["DB0"], ["DB1"], ["DB2"], ["DB3"]]
