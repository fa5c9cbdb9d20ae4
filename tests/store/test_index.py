"""The Chroma index, embedded and on a server: exact cosines, idempotent and interruptible writes, single nodes added and removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.errors import DiskFullError, HomeError, InputError
from biobridge_rag.store import index as store_index
from biobridge_rag.store.index import BRIDGE, FROZEN, NodeIndex, collection_name
from biobridge_rag.types import Node, NodeType, Vectors
from tests.store.conftest import Open

DRUG = NodeType.DRUG
WRITER = """
import sys
from pathlib import Path
from biobridge_rag.store import index
from tests.store.test_index import DRUG, nodes_of, vectors_of
index.BATCH_BYTES = 500 * 16 * 4
index.NodeIndex(Path(sys.argv[1])).write(DRUG, "frozen", nodes_of(4_500), vectors_of(4_500), "v1", lambda _s, d, _t: print(d, flush=True))
"""


def quiet(_stage: str, _done: int, _total: int) -> None:
    pass


def nodes_of(n: int, names: str = "drug") -> list[Node]:
    return [Node(f"DB{i}", DRUG, f"{names} {i}", f"Number {i}.", "DrugBank", f"https://example.org/{i}") for i in range(n)]


def vectors_of(n: int, dim: int = 16, seed: int = 0) -> Vectors:
    x = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def test_search_gives_the_exact_cosines_best_first(place: Open) -> None:
    index, x, queries = place(), vectors_of(60), vectors_of(3, seed=1)
    index.write(DRUG, FROZEN, nodes_of(60), x, "v1", quiet)
    ids, cosines = index.search(DRUG, FROZEN, queries, 60)
    exact = queries @ x.T
    for row in range(3):
        order = np.argsort(-exact[row])
        assert ids[row] == [f"DB{i}" for i in order]
        assert np.allclose(cosines[row], exact[row][order], atol=1e-5)


def test_the_two_spaces_of_a_type_are_apart(place: Open) -> None:
    index = place()
    index.write(DRUG, FROZEN, nodes_of(5), vectors_of(5, 16), "v1", quiet)
    index.write(DRUG, BRIDGE, nodes_of(5), vectors_of(5, 8), "v1", quiet)
    assert index.counts() == {"drug.frozen": 5, "drug.bridge": 5}
    assert collection_name(NodeType.PROTEIN, BRIDGE) == "gene-protein.bridge"


def test_writing_again_changes_nothing_and_another_label_replaces_all(place: Open) -> None:
    index, seen = place(), []

    def watch(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))

    index.write(DRUG, FROZEN, nodes_of(12), vectors_of(12), "v1", watch)
    assert seen == [("indexing drug.frozen", 12, 12)]
    index.write(DRUG, FROZEN, nodes_of(12, "renamed"), vectors_of(12), "v1", watch)
    assert len(seen) == 1, "a whole collection was written again"
    index.write(DRUG, FROZEN, nodes_of(7), vectors_of(7, seed=2), "v2", watch)
    assert index.counts() == {"drug.frozen": 7}
    assert np.allclose(index.search(DRUG, FROZEN, vectors_of(7, seed=2)[:1], 1)[1], 1.0, atol=1e-5)


def test_a_write_that_was_broken_off_is_completed(place: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_index, "BATCH_BYTES", 1000 * 16 * 4)
    index, x = place(), vectors_of(2_300)

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.write(DRUG, FROZEN, nodes_of(2_300), x, "v1", stop)
    index.close()
    index, done = place(), []
    assert index.counts() == {"drug.frozen": 1000}
    index.write(DRUG, FROZEN, nodes_of(2_300), x, "v1", lambda _s, d, _t: done.append(d))
    assert done == [2000, 2300]
    assert index.counts() == {"drug.frozen": 2_300}
    ids, cosines = index.search(DRUG, FROZEN, x[[5, 1500, 2299]], 1)
    assert [row[0] for row in ids] == ["DB5", "DB1500", "DB2299"] and np.allclose(cosines, 1.0, atol=1e-5)


def test_a_writer_that_is_killed_leaves_whole_batches_and_the_next_completes_them(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        done = [writer.stdout.readline() for _ in range(2)]
        assert done == [b"500\n", b"1000\n"]
    finally:
        writer.kill()
        writer.communicate()
    index, x, seen = NodeIndex(tmp_path), vectors_of(4_500), []
    start = index.counts()["drug.frozen"]
    assert start % 500 == 0 and 1000 <= start < 4_500
    index.write(DRUG, FROZEN, nodes_of(4_500), x, "v1", lambda _s, d, _t: seen.append(d))
    assert index.counts() == {"drug.frozen": 4_500} and seen[-1] == 4_500
    rows = np.random.default_rng(1).choice(4_500, size=50, replace=False)
    ids, cosines = index.search(DRUG, FROZEN, x[rows], 1)
    assert [row[0] for row in ids] == [f"DB{i}" for i in rows] and np.allclose(cosines, 1.0, atol=1e-5)
    index.close()


def test_nodes_are_added_replaced_and_removed_singly(place: Open) -> None:
    index, x = place(), vectors_of(30)
    index.write(DRUG, FROZEN, nodes_of(20), x[:20], "v1", quiet)
    index.upsert(DRUG, FROZEN, nodes_of(22)[18:], x[[28, 29, 20, 21]])
    assert index.counts() == {"drug.frozen": 22}
    ids, cosines = index.search(DRUG, FROZEN, x[[28, 29, 20, 21]], 1)
    assert ids == [["DB18"], ["DB19"], ["DB20"], ["DB21"]] and np.allclose(cosines, 1.0, atol=1e-5)
    assert index.delete(DRUG, FROZEN, ["DB20", "DB3", "DB99"]) == 2
    assert index.counts() == {"drug.frozen": 20} and index.delete(DRUG, FROZEN, []) == 0
    assert set(index.search(DRUG, FROZEN, x[[3]], 20)[0][0]) == {n.id for n in nodes_of(22)} - {"DB20", "DB3"}


def test_a_changed_collection_is_made_anew_unless_its_new_content_has_been_named(place: Open) -> None:
    index, x, seen = place(), vectors_of(6), []
    index.write(DRUG, FROZEN, nodes_of(6), x, "v1", quiet)
    index.delete(DRUG, FROZEN, ["DB2"])
    index.upsert(DRUG, FROZEN, nodes_of(9)[8:], x[:1])
    index.write(DRUG, FROZEN, nodes_of(6), x, "v1", lambda _s, d, _t: seen.append(d))
    assert seen == [6] and set(index.search(DRUG, FROZEN, x[:1], 6)[0][0]) == {n.id for n in nodes_of(6)}
    index.upsert(DRUG, FROZEN, nodes_of(7)[6:], x[:1], "v2")
    index.write(DRUG, FROZEN, nodes_of(7), x[[0, 1, 2, 3, 4, 5, 0]], "v2", lambda _s, d, _t: seen.append(d))
    index.delete(DRUG, FROZEN, ["DB6"], "v1")
    index.write(DRUG, FROZEN, nodes_of(6), x, "v1", lambda _s, d, _t: seen.append(d))
    assert seen == [6], "a whole collection was written again"


def test_the_first_node_of_a_type_makes_its_collection(place: Open) -> None:
    index = place()
    index.upsert(DRUG, FROZEN, nodes_of(1), vectors_of(1))
    assert index.counts() == {"drug.frozen": 1}
    with pytest.raises(HomeError, match=r"no collection 'drug.bridge'"):
        index.delete(DRUG, BRIDGE, ["DB0"])


def spoilt(value: float) -> Vectors:
    x = vectors_of(8)
    x[5] = value
    return x


@pytest.mark.parametrize(
    ("nodes", "vectors", "says"),
    [
        (nodes_of(8), spoilt(np.nan), "DB5 for drug.frozen is not finite"),
        (nodes_of(8), spoilt(np.inf), "DB5 for drug.frozen is not finite"),
        (nodes_of(8), spoilt(0.0), "DB5 for drug.frozen is zero"),
        (nodes_of(8), vectors_of(7), r"shape \(7, 16\); 8 nodes"),
        (nodes_of(8), vectors_of(8)[0], r"shape \(16,\)"),
        ([*nodes_of(7), *nodes_of(1)], vectors_of(8), "an id twice: DB0"),
    ],
)
def test_vectors_that_have_no_cosine_are_refused_before_anything_is_written(
    place: Open, nodes: list[Node], vectors: Vectors, says: str
) -> None:
    index = place()
    with pytest.raises(InputError, match=says):
        index.write(DRUG, FROZEN, nodes, vectors, "v1", quiet)
    with pytest.raises(InputError, match=says):
        index.upsert(DRUG, FROZEN, nodes, vectors)
    assert index.counts() == {}


def test_vectors_of_another_dimension_are_refused_and_change_nothing(place: Open) -> None:
    index = place()
    index.write(DRUG, FROZEN, nodes_of(3), vectors_of(3, 16), "v1", quiet)
    with pytest.raises(InputError, match="holds vectors of 16 dimensions, not 8"):
        index.upsert(DRUG, FROZEN, nodes_of(5)[3:], vectors_of(2, 8))
    with pytest.raises(InputError, match="holds vectors of 16 dimensions, not 8"):
        index.write(DRUG, FROZEN, nodes_of(5), vectors_of(5, 8), "v1", quiet)
    assert index.counts() == {"drug.frozen": 3}


def test_any_chroma_client_reads_documents_and_metadata(tmp_path: Path) -> None:
    import chromadb

    index = NodeIndex(tmp_path)
    index.write(DRUG, FROZEN, nodes_of(3), vectors_of(3), "v1", quiet)
    index.close()
    found = (
        chromadb.PersistentClient(path=str(tmp_path))
        .get_collection("drug.frozen")
        .get(ids=["DB1"], include=["documents", "metadatas", "embeddings"])
    )
    assert found["documents"] == ["drug 1. Number 1."]
    assert found["metadatas"] == [{"name": "drug 1", "type": "drug", "source": "DrugBank", "url": "https://example.org/1"}]
    assert np.allclose(found["embeddings"], vectors_of(3)[1:2])


def test_an_unknown_collection_and_wrong_vectors_are_one_line(place: Open) -> None:
    index = place()
    with pytest.raises(HomeError, match=r"no collection 'disease.frozen'"):
        index.search(NodeType.DISEASE, FROZEN, vectors_of(1), 3)
    index.write(DRUG, FROZEN, nodes_of(3), vectors_of(3, 16), "v1", quiet)
    with pytest.raises(HomeError, match="cannot be searched") as caught:
        index.search(DRUG, FROZEN, vectors_of(1, 8), 3)
    assert len(str(caught.value).splitlines()) == 1


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").write_bytes(b"this is no database " * 200)
    with pytest.raises(HomeError, match="Delete the folder") as caught:
        NodeIndex(tmp_path).counts()
    assert len(str(caught.value).splitlines()) == 1


def test_a_path_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "chroma").write_text("")
    with pytest.raises(DiskFullError, match="Cannot open the index"):
        NodeIndex(tmp_path / "chroma")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("database or disk is full", DiskFullError),
        ("No space left on device (os error 28)", DiskFullError),
        ("dimension mismatch", HomeError),
    ],
)
def test_errors_of_the_database_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception]) -> None:
    index = NodeIndex(tmp_path)

    def fail(*_args: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(index, "_write", fail)
    with pytest.raises(error, match=text[:12]):
        index.write(DRUG, FROZEN, nodes_of(3), vectors_of(3), "v1", quiet)
