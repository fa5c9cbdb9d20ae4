"""A saved graph comes back the same, and one that is damaged, half-written or mixed is refused with one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.errors import BiobridgeError, HomeError
from biobridge_rag.graph import artefact
from biobridge_rag.graph.artefact import load_saved_graph, save_graph
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

FORWARD = Relation("target", "drug", "gene/protein")


def graph(name: str = "mini", sequence: str = "MEEPQSDP") -> KnowledgeGraph:
    nodes = (
        Node("7157", NodeType.PROTEIN, "TP53", "tumour antigen", "NCBI", "https://a", (sequence,), ("P04637", "p53")),
        Node("1956", NodeType.PROTEIN, "EGFR", values=("MRPSGTAG",)),
        Node("DB1", NodeType.DRUG, "α-drug, “quoted”\nname", values=("CCO",)),
    )
    return KnowledgeGraph(
        name, nodes, (FORWARD, FORWARD.inverse), np.array([2, 2, 0, 1], np.int32), np.array([0, 0, 1, 1], np.int16),
        np.array([0, 1, 2, 2], np.int32), np.array([0, 1, 0, 1], np.int16), ("A", "B"), {"duplicate edge": 4},
    )  # fmt: skip


def test_a_graph_comes_back_the_same(tmp_path: Path) -> None:
    saved = graph()
    save_graph(saved, tmp_path / "new" / "home")
    loaded = load_saved_graph(tmp_path / "new" / "home")
    assert (loaded.name, loaded.nodes, loaded.relations) == (saved.name, saved.nodes, saved.relations)
    assert (loaded.sources, loaded.skipped, loaded.sha256) == (saved.sources, saved.skipped, saved.sha256)
    for column in ("head", "relation", "tail", "source"):
        ours, theirs = getattr(loaded, column), getattr(saved, column)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    assert sorted(p.name for p in (tmp_path / "new" / "home").iterdir()) == ["edges.parquet", "graph.json", "nodes.parquet"]


def test_a_graph_without_edges_comes_back(tmp_path: Path) -> None:
    empty = np.zeros(0, np.int32)
    save_graph(KnowledgeGraph("g", graph().nodes, (), empty, empty, empty, empty, ()), tmp_path)  # type: ignore[arg-type]
    assert load_saved_graph(tmp_path).n_edges == 0


@pytest.mark.parametrize("file", ["graph.json", "nodes.parquet", "edges.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    save_graph(graph(), tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(HomeError, match=f"{file} is missing"):
        load_saved_graph(tmp_path)


@pytest.mark.parametrize("file", ["graph.json", "nodes.parquet", "edges.parquet"])
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_file_is_refused(tmp_path: Path, file: str, damage: str) -> None:
    save_graph(graph(), tmp_path)
    data = (tmp_path / file).read_bytes()
    middle = len(data) // 2
    new = {"empty": b"", "cut": data[:middle], "flipped": data[:middle] + b"\xff" + data[middle + 1 :]}[damage]
    (tmp_path / file).write_bytes(new)
    with pytest.raises(HomeError) as caught:
        load_saved_graph(tmp_path)
    assert "damaged" in str(caught.value) and "Build the home again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "sources", "relations", "skipped", "sha256", "files"])
def test_graph_json_without_a_part_is_refused(tmp_path: Path, key: str) -> None:
    save_graph(graph(), tmp_path)
    document = json.loads((tmp_path / "graph.json").read_text())
    for broken in ({k: v for k, v in document.items() if k != key}, {**document, key: 3 if key != "name" else None}, []):
        if key == "name" and broken and "name" in broken:
            continue
        (tmp_path / "graph.json").write_text(json.dumps(broken))
        with pytest.raises(HomeError, match="damaged"):
            load_saved_graph(tmp_path)


def test_a_hash_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_graph(graph(), tmp_path)
    document = json.loads((tmp_path / "graph.json").read_text())
    for changed in ({"sha256": "0" * 64}, {"relations": document["relations"][::-1]}, {"sources": ["A"]}):
        (tmp_path / "graph.json").write_text(json.dumps({**document, **changed}))
        with pytest.raises(HomeError, match="damaged"):
            load_saved_graph(tmp_path)


def test_files_of_two_graphs_are_not_mixed(tmp_path: Path) -> None:
    save_graph(graph(), tmp_path / "a")
    save_graph(graph(sequence="MRPS"), tmp_path / "b")
    (tmp_path / "a" / "nodes.parquet").write_bytes((tmp_path / "b" / "nodes.parquet").read_bytes())
    with pytest.raises(HomeError, match=r"nodes\.parquet is damaged or belongs to another graph"):
        load_saved_graph(tmp_path / "a")


def test_a_save_that_breaks_off_is_not_taken_for_a_graph_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_graph(graph("old"), tmp_path)
    real = artefact._write
    for stop in ("nodes.parquet", "edges.parquet", "graph.json"):

        def breaking(path: Path, write, stop: str = stop) -> None:  # type: ignore[no-untyped-def]
            if path.name == stop:
                raise KeyboardInterrupt
            real(path, write)

        monkeypatch.setattr(artefact, "_write", breaking)
        with pytest.raises(KeyboardInterrupt):
            save_graph(graph("new", sequence="MRPS"), tmp_path)
        monkeypatch.setattr(artefact, "_write", real)
        if stop == "nodes.parquet":
            assert load_saved_graph(tmp_path).name == "old"
        else:
            with pytest.raises(HomeError):
                load_saved_graph(tmp_path)
        save_graph(graph("old"), tmp_path)
        assert load_saved_graph(tmp_path).name == "old"


def test_what_a_killed_save_left_behind_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "nodes.parquet.tmp").write_bytes(b"half")
    save_graph(graph(), tmp_path)
    assert not list(tmp_path.glob("*.tmp"))
    assert load_saved_graph(tmp_path).sha256 == graph().sha256


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BiobridgeError, match="cannot be written"):
        save_graph(graph(), tmp_path / "file" / "home")


def test_a_full_disk_is_said_and_leaves_the_old_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_graph(graph("old"), tmp_path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefact.os, "fsync", full)
    with pytest.raises(BiobridgeError, match="no room"):
        save_graph(graph("new", sequence="MRPS"), tmp_path)
    monkeypatch.undo()
    assert load_saved_graph(tmp_path).name == "old"
    assert not list(tmp_path.glob("*.tmp"))
