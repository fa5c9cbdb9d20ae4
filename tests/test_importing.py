"""A home made of a release: what it holds, what is left out, and that it can be broken off, repeated, mended, not mixed up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from biobridge_rag.adding import Given, add_to_home, undo
from biobridge_rag.bridge.embedding_pickles import ReleasedEmbeddings
from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.official import OfficialBridge, OfficialNetwork
from biobridge_rag.bridge.release import Release
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.released import ReleasedEncoder
from biobridge_rag.errors import GraphFormatError, HomeLockedError, HomeMismatchError, InputError
from biobridge_rag.homes import STAGES, open_home
from biobridge_rag.importing import import_release, with_known_relations
from biobridge_rag.store.manifest import Manifest, read_manifest, writing
from biobridge_rag.types import KnowledgeGraph, Modality, Node, NodeType, Relation

PROTEIN, DRUG, DISEASE = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
NODE_TYPES = {"gene/protein": 1, "disease": 2, "drug": 3}
RELATION_TYPES = {"target": 0, "associated with": 1}
DIMS = {PROTEIN: 10, DRUG: 6, DISEASE: 8}
SIZES = {PROTEIN: 6, DRUG: 4, DISEASE: 3}
PREFIX = {PROTEIN: "P", DRUG: "DB", DISEASE: "M"}
KINDS = (Relation("associated with", PROTEIN, DISEASE), Relation("indication", DRUG, DISEASE), Relation("target", PROTEIN, DRUG))


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


def make_graph(kinds: tuple[Relation, ...] = KINDS) -> KnowledgeGraph:
    """Nodes by type, both directions of about half of all edges of these relations."""
    nodes = tuple(
        Node(f"{PREFIX[t]}{i}", t, f"{t.label} {i}", source="made", values=(f"value {i}",)) for t in sorted(SIZES) for i in range(SIZES[t])
    )
    of_type = {t: [i for i, n in enumerate(nodes) if n.type is t] for t in SIZES}
    relations = tuple(sorted({r for kind in kinds for r in (kind, kind.inverse)}, key=lambda r: r.key))
    edges = []
    for kind in kinds:
        for h in of_type[NodeType(kind.head_type)]:
            for t in of_type[NodeType(kind.tail_type)]:
                if (3 * h + 5 * t) % 7 < 4:
                    edges += [(relations.index(kind), h, t), (relations.index(kind.inverse), t, h)]
    r, h, t = np.array(sorted(edges)).T
    source = np.arange(len(r), dtype=np.int16) % 2
    return KnowledgeGraph(
        "tiny", nodes, relations, h.astype(np.int32), r.astype(np.int16), t.astype(np.int32), source, ("a", "b"), {"duplicate edge": 1}
    )


def make_bridge(seed: int = 0, relation_types: dict[str, int] = RELATION_TYPES) -> OfficialBridge:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = OfficialNetwork(4, 2, {NODE_TYPES[t]: d for t, d in DIMS.items()}, 24, 1)
        return OfficialBridge(network, NODE_TYPES, relation_types)


def make_release(seed: int = 0, bridge: OfficialBridge | None = None, without: NodeType | None = None) -> Release:
    """Embeddings of every node but the last disease, far from unit length, in an order of their own."""
    embeddings, listed, number = {}, {}, 100
    for node_type in sorted(SIZES):
        ids = [f"{PREFIX[node_type]}{i}" for i in range(SIZES[node_type])][::-1]
        ids = ids[1:] if node_type is DISEASE else ids
        index = np.arange(number, number + len(ids))
        number += len(ids)
        listed |= {int(i): (node_type.value, id) for i, id in zip(index, ids, strict=True)}
        rng = np.random.default_rng([seed, DIMS[node_type]])
        x = (5 * rng.standard_normal((len(ids), DIMS[node_type]))).astype(np.float32)
        if node_type is not without:
            embeddings[node_type] = ReleasedEmbeddings(index, tuple(ids), tuple(ids), x)
    return Release(bridge or make_bridge(), embeddings, listed)


def run(path: Path, release: Release | None = None, graph: KnowledgeGraph | None = None) -> Manifest:
    return import_release(release or make_release(), graph or make_graph(), {}, path, silent)[0]


def contents(home: Path) -> dict[str, bytes]:
    """All files but Chroma's own and the lock."""
    return {
        str(p.relative_to(home)): p.read_bytes()
        for p in sorted(home.rglob("*"))
        if p.is_file() and "chroma" not in p.parts and p.name != ".lock"
    }


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("homes") / "imported"
    run(path)
    return path


@pytest.fixture
def copy(imported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(imported, tmp_path / "copy"))


def test_a_home_holds_the_release_bit_for_bit(imported: Path) -> None:
    release, bridge = make_release(), make_bridge()
    home = open_home(imported)
    try:
        assert [n.id for n in home.graph.nodes if n.type is DISEASE] == ["M0", "M1"]
        for node_type, x in home.tables.items():
            released = release.embeddings[node_type]
            row = {id: k for k, id in enumerate(released.node_id)}
            order = [row[home.graph.nodes[i].id] for i in home.graph.by_type[node_type]]
            assert np.array_equal(x, released.embedding[order])
            assert np.linalg.norm(x, axis=1).min() > 2, "left as released, not of unit length"
            assert np.array_equal(home.projections[node_type], unit(bridge.project(np.array(x), node_type)))
        assert isinstance(home.bridge, OfficialBridge) and home.bridge.config() == bridge.config()
        assert all(np.array_equal(w, bridge.tensors()[name]) for name, w in home.bridge.tensors().items())
        assert home.fusions == {} and set(home.tables) == set(SIZES)
        assert home.index.counts() == {f"{t.slug}.{s}": n for t, n in {**SIZES, DISEASE: 2}.items() for s in ("frozen", "bridge")}
        nearest, cosine = home.index.search(DRUG, "frozen", np.array(home.tables[DRUG][2:3]), 2)
        x = unit(np.array(home.tables[DRUG]))
        assert nearest[0][0] == "DB2" and np.allclose(cosine[0], np.sort(x @ x[2])[::-1][:2], atol=1e-5)
    finally:
        home.index.close()


def test_the_manifest_says_what_it_is(imported: Path) -> None:
    manifest = read_manifest(imported)
    assert manifest is not None and manifest.stages == STAGES
    assert (manifest.graph_name, manifest.bridge_kind, manifest.epochs) == ("tiny", "official", 0)
    assert manifest.dims == {"protein": 10, "molecule": 6, "text": 8} and manifest.encoder_names == manifest.encoders
    for modality in Modality:
        encoder = make_encoder(modality, manifest.encoder_names[modality.value])
        assert isinstance(encoder, ReleasedEncoder) and encoder.id == manifest.encoders[modality.value]
        with pytest.raises(InputError, match="cannot be encoded here"):
            encoder.encode(["MKV"])
    graph = make_graph()
    n_indication = sum(len(graph.edges(r)[0]) for r in (KINDS[1], KINDS[1].inverse))
    lost = sum(1 for triple in map(graph.triple, range(graph.n_edges)) if "M2" in (triple.head.id, triple.tail.id))
    lost_indication = sum(
        1 for t in map(graph.triple, range(graph.n_edges)) if "M2" in (t.head.id, t.tail.id) and t.relation.name == "indication"
    )
    assert manifest.skipped == {
        "duplicate edge": 1,
        "disease node without a released embedding": 1,
        "edge to a node without a released embedding": lost,
        "edge of the relation 'indication', which the released bridge does not know": n_indication - lost_indication,
    }


def test_relations_that_the_bridge_does_not_know_are_left_out() -> None:
    graph = make_graph()
    for known in ({"target": 0}, {"indication": 1, "target": 0}, {"associated with": 0, "unused": 1}):
        part = with_known_relations(graph, make_bridge(relation_types=known))
        wanted = [t for t in map(graph.triple, range(graph.n_edges)) if t.relation.name in known]
        assert [part.triple(i) for i in range(part.n_edges)] == wanted and part.nodes == graph.nodes
        assert part.n_edges + sum(n for reason, n in part.skipped.items() if "does not know" in reason) == graph.n_edges
        assert all(len(part.edges(r)[0]) == len(graph.edges(r)[0]) for r in part.relations)
    everything = make_bridge(relation_types={"target": 0, "indication": 1, "associated with": 2})
    assert with_known_relations(graph, everything) is graph


def test_a_bridge_that_knows_none_of_the_relations_is_refused(tmp_path: Path) -> None:
    release = make_release(bridge=make_bridge(relation_types={"off-label use": 0}))
    with pytest.raises(GraphFormatError, match=r"none of the relations .*associated with, indication, target.* It knows off-label use"):
        run(tmp_path / "home", release)
    assert not (tmp_path / "home").exists()


def test_importing_again_does_nothing(copy: Path) -> None:
    def stamps() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file() and "chroma" not in p.parts and p.name != ".lock"}

    before, told = stamps(), []
    manifest, part = import_release(make_release(), make_graph(), {}, copy, lambda *what: told.append(what))
    assert stamps() == before and told == [] and manifest == read_manifest(copy) and len(part.nodes) == 12


def _one_number(release: Release) -> Release:
    table = release.embeddings[DRUG]
    x = table.embedding.copy()
    x[0, 0] += np.float32(1e-3)
    return replace(release, embeddings={**release.embeddings, DRUG: replace(table, embedding=x)})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_one_number, "its molecule encoder"),
        (lambda r: replace(r, bridge=make_bridge(1)), "a bridge with other weights"),
        (lambda r: replace(r, bridge=make_bridge(relation_types={"target": 1, "associated with": 0})), "another meaning"),
        (lambda r: make_release(without=DRUG), "the graph 'tiny' in another version"),
    ],
    ids=["embedding", "weights", "relation ids", "a table less"],
)
def test_another_release_is_refused_and_the_home_kept(copy: Path, change: Callable[[Release], Release], word: str) -> None:
    before = contents(copy)
    with pytest.raises(HomeMismatchError, match=word) as error:
        run(copy, change(make_release()))
    assert contents(copy) == before and "\n" not in str(error.value) and str(copy) in str(error.value)


def test_another_release_is_refused_by_a_half_made_home(copy: Path) -> None:
    for stages in (STAGES[:1], STAGES[:2], STAGES[:3]):
        data = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps({**data, "stages": stages}))
        with pytest.raises(HomeMismatchError, match="other weights"):
            run(copy, make_release(bridge=make_bridge(1)))


def test_an_import_may_be_broken_off_anywhere(imported: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    told: list[str] = []
    import_release(make_release(), make_graph(), {}, tmp_path / "whole", lambda stage, *_: told.append(stage))
    assert "importing embeddings" in told and "indexing drug.bridge" in told
    home = tmp_path / "home"
    for last in range(len(told)):
        left = last

        def stop(_stage: str, _done: int, _total: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        shutil.rmtree(home, ignore_errors=True)
        with pytest.raises(Killed):
            import_release(make_release(), make_graph(), {}, home, stop)
        manifest = read_manifest(home)
        assert manifest is not None and manifest.stages != STAGES
        run(home)
        assert contents(home) == contents(imported)
    open_home(home).index.close()


@pytest.mark.parametrize(
    "file",
    [
        "embeddings/drug-*.npy",
        "projections/drug.npy",
        "fusion.json",
        "bridge/model.safetensors",
        "bridge/config.json",
        "graph/nodes.parquet",
    ],
)
@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_a_damaged_part_is_made_again(imported: Path, copy: Path, file: str, damage: str) -> None:
    (path,) = copy.glob(file)
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:40])
    else:
        path.unlink()
    run(copy)
    assert contents(copy) == contents(imported)
    open_home(copy).index.close()


def test_edges_that_were_added_stay_when_it_is_imported_again(imported: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("head,relation,tail\nP1,target,DB3\nP0,target,DB3\n")
    report = add_to_home(copy, Given(triples=[tmp_path / "t.csv"]), silent)
    assert report.number == 1 and report.edges == 1 and report.known_edges == 1
    before = contents(copy)
    assert run(copy).additions == 1 and contents(copy) == before
    (copy / "projections" / "drug.npy").write_bytes(b"torn")
    assert run(copy).additions == 1 and contents(copy) == before
    opened = open_home(copy)
    opened.index.close()
    assert opened.graph.n_edges == graph_of(imported).n_edges + 2
    undo(copy, None, silent)
    assert contents(copy) == contents(imported)


def graph_of(path: Path) -> KnowledgeGraph:
    """The graph of a home."""
    opened = open_home(path)
    opened.index.close()
    return opened.graph


def test_a_home_in_the_making_is_locked(tmp_path: Path) -> None:
    with writing(tmp_path), pytest.raises(HomeLockedError):
        run(tmp_path)


def test_text_tables_of_different_widths_make_no_home(tmp_path: Path) -> None:
    release = make_release()
    process = NodeType.BIOLOGICAL_PROCESS
    graph = make_graph()
    nodes = (*graph.nodes, Node("GO1", process, "growth", values=("growth",)))
    table = ReleasedEmbeddings(np.array([7]), ("GO1",), ("growth",), np.ones((1, 5), np.float32))
    odd = replace(release, embeddings={**release.embeddings, process: table})
    with pytest.raises(InputError, match="differ in width"):
        run(tmp_path / "home", odd, replace(graph, nodes=nodes))
