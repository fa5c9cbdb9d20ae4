"""A home whose index is on a Chroma server: built there, moved there and back, opened where the server has moved to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.building import BuildOptions, build_home
from biobridge_rag.errors import HomeError, IndexServerError, InputError
from biobridge_rag.graph.primekg import load_graph
from biobridge_rag.homes import EMBEDDED, open_home, placed
from biobridge_rag.store.index import BRIDGE, FROZEN
from biobridge_rag.store.manifest import read_manifest
from biobridge_rag.types import KnowledgeGraph, Modality, NodeType
from tests.end_to_end.conftest import write_graph
from tests.store.conftest import running_server

OPTIONS = BuildOptions({Modality.PROTEIN: "kmer", Modality.MOLECULE: "fingerprint"})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeGraph:
    return load_graph(write_graph(tmp_path_factory.mktemp("graphs") / "pairs", range(20), range(20), range(0)))


@pytest.fixture(scope="module")
def embedded(graph: KnowledgeGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("homes") / "embedded"
    build_home(graph, home, OPTIONS, lambda *_: None)
    return home


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("server")) as (url, _process):
        yield url


def build(graph: KnowledgeGraph, home: Path, chroma_url: str = "") -> set[str]:
    """What the build did, by the first word of each stage."""
    said: set[str] = set()
    build_home(graph, home, replace(OPTIONS, chroma_url=chroma_url), lambda stage, _done, _total: said.add(stage.split()[0]))
    return said


def found(home: Path, chroma_url: str = "") -> list[list[str]]:
    opened = open_home(home, chroma_url=chroma_url)
    try:
        queries = np.asarray(opened.tables[NodeType.DRUG][:4], dtype=np.float32)
        carried = np.asarray(opened.projections[NodeType.DRUG][:4], dtype=np.float32)
        first, second = opened.index.search(NodeType.DRUG, FROZEN, queries, 5), opened.index.search(NodeType.DRUG, BRIDGE, carried, 5)
        return first[0] + second[0]
    finally:
        opened.index.close()


def test_a_home_on_a_server_answers_as_an_embedded_one(graph: KnowledgeGraph, embedded: Path, url: str, tmp_path: Path) -> None:
    assert "indexing" in build(graph, tmp_path / "one", f"{url}/") and build(graph, tmp_path / "one") == set()
    build(graph, tmp_path / "two", url)
    one, two = read_manifest(tmp_path / "one"), read_manifest(tmp_path / "two")
    assert one is not None and two is not None and one.index_url == two.index_url == url
    assert one.index_prefix != two.index_prefix and one.index_prefix.startswith("pairs-")
    assert not (tmp_path / "one" / "chroma").exists()
    assert found(tmp_path / "one") == found(tmp_path / "two") == found(embedded)
    for home, host in ((tmp_path / "one", url.removeprefix("http://")), (embedded, "")):
        opened = open_home(home)
        opened.index.close()
        assert opened.index.host == host


def test_a_home_moves_to_a_server_and_back_without_training(graph: KnowledgeGraph, url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    build(graph, home)
    before = found(home)
    with pytest.raises(HomeError, match="lacks"):
        open_home(home, chroma_url=url)
    assert found(home) == before, "looking elsewhere changed the home"
    assert build(graph, home, url) == {"indexing"} and found(home) == before
    (home / "chroma").rename(tmp_path / "aside")
    assert build(graph, home, EMBEDDED) == {"indexing"}
    manifest = read_manifest(home)
    assert manifest is not None and manifest.index_url == "" and found(home) == before
    assert build(graph, home, url) == set(), "what was on the server was written again"


def test_a_server_that_moves_and_one_that_is_gone(graph: KnowledgeGraph, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_server(tmp_path / "data") as (old, _process):
        build(graph, home, old)
        before = found(home)
    for call in (lambda: open_home(home), lambda: build(graph, home), lambda: build(graph, tmp_path / "new", old)):
        with pytest.raises(IndexServerError, match=f"{old} does not answer") as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "new" / "bridge").exists(), "trained before the server was asked"
    with running_server(tmp_path / "data") as (new, _process):
        assert found(home, new) == before
        assert build(graph, home, new) == set() and found(home) == before


def test_a_wrong_url_is_bad_input_and_a_name_without_letters_still_gives_a_prefix(embedded: Path, graph: KnowledgeGraph) -> None:
    manifest = read_manifest(embedded)
    assert manifest is not None and manifest.index_url == manifest.index_prefix == ""
    for call in (lambda: open_home(embedded, chroma_url="chroma:8000"), lambda: build(graph, embedded, "chroma:8000")):
        with pytest.raises(InputError, match="address of the Chroma server"):
            call()
    there = placed(embedded, replace(manifest, graph_name="グラフ"), "http://h")
    assert there.index_url == "http://h:8000" and there.index_prefix.startswith("home-")
    assert placed(Path("/elsewhere"), there, "http://other").index_prefix == there.index_prefix
