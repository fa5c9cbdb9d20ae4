"""The authors' release: tables read without running anything, joined with a graph, written and read back bit for bit."""

from __future__ import annotations

import builtins
import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.bridge.model import KernelBridge
from biobridge_rag.bridge.official import OfficialBridge, OfficialNetwork, load_official
from biobridge_rag.bridge.release import export_release, graph_and_tables, node_indices, read_embeddings, read_release
from biobridge_rag.errors import DiskFullError, GraphFormatError, InputError
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

DISEASE, PROTEIN, DRUG = NodeType.DISEASE, NodeType.PROTEIN, NodeType.DRUG
DIMS = {"gene/protein": 10, "drug": 6, "disease": 8}
NODE_TYPES = {"biological_process": 0, "gene/protein": 1, "disease": 2, "drug": 3}
TARGET, ASSOCIATED = Relation("target", "gene/protein", "drug"), Relation("associated with", "disease", "gene/protein")
INDEX = {"P1": 7, "P2": 3, "P3": 9, "DB1": 40, "DB2": 41, "M1": 20, "M2": 21}


def make_graph() -> KnowledgeGraph:
    """Three proteins, two drugs, two diseases; both directions of P1-DB1, P2-DB2, M1-P1, M2-P3."""
    names = [("P1", PROTEIN), ("P2", PROTEIN), ("P3", PROTEIN), ("DB1", DRUG), ("DB2", DRUG), ("M1", DISEASE), ("M2", DISEASE)]
    nodes = tuple(Node(i, t, f"name, of {i}", source="made") for i, t in names)
    relations = tuple(sorted((TARGET, TARGET.inverse, ASSOCIATED, ASSOCIATED.inverse), key=lambda r: r.key))
    at = {n.id: i for i, n in enumerate(nodes)}
    edges = []
    for head, relation, tail in (("P1", TARGET, "DB1"), ("P2", TARGET, "DB2"), ("M1", ASSOCIATED, "P1"), ("M2", ASSOCIATED, "P3")):
        edges += [(relations.index(relation), at[head], at[tail]), (relations.index(relation.inverse), at[tail], at[head])]
    r, h, t = np.array(sorted(edges)).T
    return KnowledgeGraph(
        "tiny", nodes, relations, h.astype(np.int32), r.astype(np.int16), t.astype(np.int32), np.zeros(len(r), np.int16), ("made",),
        {"duplicate edge": 1},
    )  # fmt: skip


def make_bridge(seed: int = 0, n_head: int = 12) -> OfficialBridge:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dims = {NODE_TYPES[t]: d for t, d in DIMS.items()}
        return OfficialBridge(OfficialNetwork(4, 2, dims, 24, 2, n_head), NODE_TYPES, {"target": 0, "associated with": 1}, n_head)


def vectors(n: int, width: int, seed: int = 0) -> np.ndarray:
    return (3 * np.random.default_rng([seed, n, width]).standard_normal((n, width))).astype(np.float32)


def table(ids: list[str], width: int, **change: Any) -> dict[str, Any]:
    """A table as the authors' encoding scripts write it: lists from a data set, one float32 array."""
    return {
        "node_index": [INDEX[i] for i in ids],
        "node_id": list(ids),
        "node_name": [f"name of {i}" for i in ids],
        "embedding": vectors(len(ids), width),
    } | change


def put(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_nodes(folder: Path, index: dict[str, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "nodes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("node_index", "node_id", "node_type", "node_name", "node_source"))
        writer.writerows((index[n.id], n.id, n.type.value, n.name, n.source) for n in make_graph().nodes)
    return folder


def write_model(folder: Path, data: Path | None = None, **state_names: str) -> None:
    """The three files of a bridge, by hand. prefix: what stands before every name of the weights."""
    prefix = state_names.get("prefix", "")
    bridge = make_bridge()
    folder.mkdir(parents=True, exist_ok=True)
    (data or folder).mkdir(parents=True, exist_ok=True)
    proj_dim = {str(NODE_TYPES[t]): d for t, d in DIMS.items()}
    model = {"n_node": 4, "n_relation": 2, "proj_dim": proj_dim, "hidden_dim": 24, "n_layer": 2}
    (folder / "model_config.json").write_text(json.dumps(model))
    config = {"node_type": NODE_TYPES, "relation_type": {"target": 0, "associated with": 1}, "emb_dim": DIMS}
    ((data or folder) / "data_config.json").write_text(json.dumps(config))
    torch.save({prefix + k: v for k, v in bridge.network.state_dict().items()}, folder / "pytorch_model.bin")


def write_tables(folder: Path) -> None:
    """The authors' tables: disease.pkl is a dict of node_index and a list of rows, the rest have ids; drug.pkl in float64."""
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / "protein.pkl", table(["P2", "P1", "P3"], 10))
    put(folder / "drug.pkl", table(["DB1", "DB2"], 6, embedding=vectors(2, 6).astype(np.float64)))
    put(folder / "disease.pkl", {"node_index": [20, 21], "embedding": list(vectors(2, 8))})


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    write_model(folder)
    write_tables(folder)
    write_nodes(folder, INDEX)
    return folder


# --- tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "embedding",
    [
        vectors(2, 3),
        vectors(2, 3).astype(np.float64),
        vectors(2, 3).astype(">f4"),
        vectors(2, 3).astype(np.float16),
        np.asfortranarray(vectors(2, 3)),
        vectors(2, 6)[:, ::2],
        np.arange(6).reshape(2, 3),
        list(vectors(2, 3)),
        vectors(2, 3).tolist(),
        [[np.float32(1.5), 2, 3.0], (4, 5, np.float64(6))],
    ],
    ids=["f4", "f8", "big endian", "f2", "fortran", "strided", "integers", "rows", "lists", "scalars"],
)
def test_every_way_to_state_the_numbers_reads_the_same(tmp_path: Path, embedding: Any, protocol: int) -> None:
    found = read_embeddings(put(tmp_path / "t.pkl", table(["P1", "P2"], 3, embedding=embedding), protocol)).embedding
    assert found.dtype == np.float32 and found.flags.c_contiguous
    assert np.array_equal(found, np.array(embedding, dtype=np.float32))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: np.array(v, dtype=object)], ids=["list", "tuple", "array", "objects"])
def test_ids_and_names_may_be_lists_or_arrays(tmp_path: Path, kind: Callable[[Any], Any], protocol: int) -> None:
    content = table(["P1", "P2"], 3)
    content |= {key: kind(content[key]) for key in ("node_index", "node_id", "node_name")}
    found = read_embeddings(put(tmp_path / "t.pkl", content, protocol))
    assert found.node_index.dtype == np.int64 and found.node_index.tolist() == [7, 3]
    assert found.node_id == ("P1", "P2") and found.node_name == ("name of P1", "name of P2")


def test_ids_that_are_numbers_become_text(tmp_path: Path) -> None:
    content = table(["P1", "P2", "P3"], 3, node_id=[9796, 7918.0, float("nan")], node_name=[None, "b", np.int64(3)])
    found = read_embeddings(put(tmp_path / "t.pkl", content))
    assert found.node_id == ("9796", "7918", "") and found.node_name == ("", "b", "3")


def test_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    x = read_embeddings(put(tmp_path / "t.pkl", table(["P1", "P2"], 3))).embedding
    assert np.array_equal(x, vectors(2, 3)) and (np.linalg.norm(x, axis=1) > 1.5).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.text(max_size=5)), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 5))
def test_any_table_is_read_as_pickle_reads_it(tmp_path_factory: pytest.TempPathFactory, rows: Any, width: int, protocol: int) -> None:
    index, names = [list(column) for column in zip(*rows, strict=True)]
    content = {"node_index": index, "node_id": names, "node_name": names, "embedding": vectors(len(rows), width)}
    path = put(tmp_path_factory.mktemp("any") / "t.pkl", content, protocol)
    found, plain = read_embeddings(path), pickle.loads(path.read_bytes())
    assert found.node_index.tolist() == plain["node_index"] and found.node_id == tuple(n.strip() for n in plain["node_id"])
    assert np.array_equal(found.embedding, plain["embedding"])


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Calls(os.system, "touch executed"), "system"),
        (Calls(builtins.eval, "open('executed', 'w')"), "eval"),
        (Calls(builtins.exec, "open('executed', 'w')"), "exec"),
        (Calls(builtins.getattr, "x", "upper"), "getattr"),
        (Calls(np.load, "executed"), "load"),
        (Calls(np.save, "executed.npy", 1), "save"),
        (Calls(Path.touch, Path("executed")), r"getattr|pathlib"),
        (Calls(torch.load, "executed"), "load"),
        (torch.zeros(2, 3), "torch"),
        (bytearray(b"ab"), "bytearray"),
        (np.ma.masked_array([1.0]), "ma"),
        (np.zeros(2, dtype="M8[s]"), "M8"),
        (np.zeros(2, dtype=[("a", "f4")]), "V4"),
    ],
)
def test_a_pickle_that_names_anything_else_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: object, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, content in enumerate((call, table(["P1"], 2, node_name=[call]), {"embedding": vectors(1, 2), "node_index": [1], "x": call})):
        if isinstance(call, bytearray) and protocol == 5:  # has an opcode of its own there
            continue
        with pytest.raises(GraphFormatError, match=name) as error:
            read_embeddings(put(tmp_path / f"{i}.pkl", content, protocol))
        assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("executed*"))


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'touch executed'\ntR.",
        b"(S'touch executed'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
        b"\x80\x04\x8c\x05numpy\x8c\x13dtype.__reduce_ex__\x93.",
        b"\x80\x02c__builtin__\nbytes\n)\x81.",
        b"\x80\x02\x82\x01.",
        b"Ppersistent\n.",
        b"cnumpy\nndarray\n}S'f'\nI1\nsb.",
        b"cnumpy\nndarray\n(N}S'__func__'\nI1\nstb.",
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\ndtype\n(S'f4'\ntRI5\nb.",
    ],
    ids=["global", "inst", "stack global", "dotted", "new", "extension", "persistent", "state", "slots", "newobj", "bad state"],
)
def test_opcodes_by_hand_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.pkl").write_bytes(code)
    with pytest.raises(GraphFormatError) as error:
        read_embeddings(tmp_path / "t.pkl")
    assert "\n" not in str(error.value) and not (tmp_path / "executed").exists()
    assert read_embeddings(put(tmp_path / "whole.pkl", table(["P1"], 2))).node_id == ("P1",)


def lying(shape: tuple[int, ...], kind: str, data: object) -> Any:
    """An array whose pickled state says what it likes."""

    class Lie:
        def __reduce__(self) -> Any:
            reconstruct, arguments, _ = np.zeros(1).__reduce__()
            return reconstruct, arguments, (1, shape, np.dtype(kind), False, data)

    return Lie()


@pytest.mark.parametrize(
    "lie",
    [
        lying((2, 3), "f4", b"\0" * 23),
        lying((10**9, 10**9), "f4", b""),
        lying((-1, -6), "f4", b"\0" * 24),
        lying((2,), "O", b"\0" * 16),
        lying((3,), "O", ["a"]),
        lying((2.5,), "f4", b"\0" * 10),
        lying((1,) * 80, "f4", b"\0" * 4),
    ],
    ids=["short", "huge", "negative", "forged pointers", "few objects", "no integer", "many axes"],
)
def test_an_array_that_lies_about_itself_is_refused(tmp_path: Path, lie: object) -> None:
    with pytest.raises(GraphFormatError) as error:
        read_embeddings(put(tmp_path / "t.pkl", table(["P1", "P2"], 3, embedding=lie)))
    assert "\n" not in str(error.value)


def with_nan() -> np.ndarray:
    x = vectors(2, 3)
    x[1, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"embedding": with_nan()}, "1 of 2 embeddings"),
        ({"embedding": np.full((2, 3), 1e300)}, "2 of 2 embeddings"),
        ({"embedding": vectors(2, 3)[0]}, r"shape \(3,\)"),
        ({"embedding": vectors(2, 3)[None]}, r"shape \(1, 2, 3\)"),
        ({"embedding": np.zeros((0, 3))}, r"shape \(0, 3\)"),
        ({"embedding": [[1.0, 2.0], [3.0]]}, "several lengths"),
        ({"embedding": [["1", "2"], ["3", "4"]]}, "not numbers"),
        ({"embedding": [[True], [False]]}, "not numbers"),
        ({"embedding": "numbers"}, "not numbers"),
        ({"embedding": [list(vectors(2, 3)), 7]}, "several lengths"),
        ({"node_index": [1]}, "1 of node_index"),
        ({"node_index": [1, "2"]}, "no integer"),
        ({"node_index": [True, False]}, "no integer"),
        ({"node_index": [1, 2**70]}, "OverflowError"),
        ({"node_index": 7}, "no list"),
        ({"node_id": ["P1"]}, "1 of node_id"),
        ({"node_id": ["P1", ["P2"]]}, "neither text"),
        ({"node_name": ["a", "b", "c"]}, "3 of node_name"),
    ],
)
def test_a_table_that_does_not_hold_together_is_one_line(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    with pytest.raises(GraphFormatError, match=word) as error:
        read_embeddings(put(tmp_path / "t.pkl", table(["P1", "P2"], 3, **change)))
    assert "\n" not in str(error.value) and "t.pkl" in str(error.value)


def test_other_contents_and_missing_keys_are_named(tmp_path: Path) -> None:
    for content, word in (([1], "no dict"), ({"embedding": vectors(1, 2)}, "node_index"), ({"node_index": [1]}, "no embedding")):
        with pytest.raises(GraphFormatError, match=word):
            read_embeddings(put(tmp_path / "t.pkl", content))


def test_a_pointer_a_torn_file_and_none_are_named(tmp_path: Path) -> None:
    whole = pickle.dumps(table(["P1", "P2"], 3))
    path = tmp_path / "t.pkl"
    for content in (b"", b"node_index,embedding\n", b"\0\xff" * 30, *(whole[:n] for n in range(1, len(whole), 7))):
        path.write_bytes(content)
        with pytest.raises(GraphFormatError, match=r"t\.pkl") as error:
            read_embeddings(path)
        assert "\n" not in str(error.value)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1c1e\nsize 196509814\n")
    with pytest.raises(GraphFormatError, match="git lfs pull"):
        read_embeddings(path)
    for missing in (tmp_path / "none.pkl", tmp_path):
        with pytest.raises(GraphFormatError, match="cannot be read"):
            read_embeddings(missing)


# --- the release and a graph ----------------------------------------------------------------------------------------------


def test_a_release_is_its_bridge_and_tables(release: Path) -> None:
    found = read_release(release)
    assert set(found.embeddings) == {PROTEIN, DRUG, DISEASE} and found.listed[20] == ("disease", "M1")
    assert found.embeddings[DISEASE].node_id == () and np.array_equal(found.embeddings[DISEASE].embedding, vectors(2, 8))
    x = found.embeddings[PROTEIN].embedding
    assert np.array_equal(found.bridge.transform(x, TARGET), make_bridge().transform(x, TARGET))


def test_a_checkout_of_the_authors_repository_reads_the_same(release: Path, tmp_path: Path) -> None:
    root = tmp_path / "BioBridge"
    write_model(root / "checkpoints", root / "data" / "BindData")
    write_tables(root / "data" / "embeddings" / "esm2b_unimo_pubmedbert")
    write_nodes(root / "data" / "PrimeKG", INDEX)
    flat, apart = read_release(release), read_release(root)
    assert apart.listed == flat.listed and set(apart.embeddings) == set(flat.embeddings)
    x = flat.embeddings[DISEASE].embedding
    assert np.array_equal(apart.bridge.transform(x, ASSOCIATED), flat.bridge.transform(x, ASSOCIATED))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrapped_networks_are_taken_off(tmp_path: Path, prefix: str) -> None:
    write_model(tmp_path / "wrapped", prefix=prefix)
    x = vectors(3, 8)
    assert np.array_equal(load_official(tmp_path / "wrapped").transform(x, ASSOCIATED), make_bridge().transform(x, ASSOCIATED))


def test_a_prefix_on_some_names_only_is_damage(tmp_path: Path) -> None:
    write_model(tmp_path)
    state = make_bridge().network.state_dict()
    torch.save({("module." if "encoder" in k else "") + k: v for k, v in state.items()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(GraphFormatError, match="encoder"):
        load_official(tmp_path)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    state = make_bridge().network.state_dict()
    state["encoder.layers.1.norm1.bias"][3] = float("nan")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(GraphFormatError, match=r"encoder\.layers\.1\.norm1\.bias hold numbers that are not finite"):
        load_official(tmp_path)
    torch.save({**state, 3: torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(GraphFormatError, match="floating-point"):
        load_official(tmp_path)


def test_emb_dim_may_go_by_ids(release: Path) -> None:
    config = json.loads((release / "data_config.json").read_text())
    for emb_dim, fits in (({"1": 10, "2": 8, "3": 6}, True), ({"1": 11}, False)):
        (release / "data_config.json").write_text(json.dumps({**config, "emb_dim": emb_dim}))
        if fits:
            assert load_official(release).dims == DIMS
        else:
            with pytest.raises(GraphFormatError, match="emb_dim"):
                load_official(release)


def test_tables_that_do_not_fit_the_bridge_are_named(release: Path) -> None:
    put(release / "drug.pkl", table(["DB1", "DB2"], 7))
    with pytest.raises(GraphFormatError, match=r"drug\.pkl have 7 numbers each; .* of 6 numbers"):
        read_release(release)
    (release / "drug.pkl").unlink()
    put(release / "bp.pkl", table(["P1"], 7))
    with pytest.raises(GraphFormatError, match="of no biological process nodes"):
        read_release(release)
    for name in ("bp", "protein", "disease"):
        (release / f"{name}.pkl").unlink()
    with pytest.raises(GraphFormatError, match="no embeddings"):
        read_release(release)


def test_nodes_csv_must_have_whole_numbers(tmp_path: Path) -> None:
    assert node_indices(write_nodes(tmp_path, INDEX))[41] == ("drug", "DB2")
    (tmp_path / "nodes.csv").write_text("node_index,node_id,node_type\none,P1,drug\n")
    with pytest.raises(GraphFormatError, match="'one'"):
        node_indices(tmp_path)


def test_rows_come_in_the_order_of_the_graph(release: Path) -> None:
    graph, tables = graph_and_tables(read_release(release), make_graph())
    assert graph.nodes == make_graph().nodes and graph.sha256 == make_graph().sha256 and graph.skipped == {"duplicate edge": 1}
    assert np.array_equal(tables[PROTEIN], vectors(3, 10)[[1, 0, 2]])
    assert np.array_equal(tables[DISEASE], vectors(2, 8)) and tables[DISEASE].dtype == np.float32


def test_nodes_without_an_embedding_are_left_out_and_counted(release: Path) -> None:
    put(release / "protein.pkl", table(["P3", "P1"], 10))
    (release / "drug.pkl").unlink()
    graph, tables = graph_and_tables(read_release(release), make_graph())
    assert [n.id for n in graph.nodes] == ["P1", "P3", "M1", "M2"] and set(tables) == {PROTEIN, DISEASE}
    assert np.array_equal(tables[PROTEIN], vectors(2, 10)[[1, 0]])
    assert graph.relations == (ASSOCIATED, ASSOCIATED.inverse) and graph.n_edges == 4
    heads, tails = graph.edges(ASSOCIATED)
    assert {(int(h), int(t)) for h, t in zip(heads, tails, strict=True)} == {(0, 0), (1, 1)}
    assert graph.skipped == {
        "duplicate edge": 1,
        "protein node without a released embedding": 1,
        "drug node without a released embedding": 2,
        "edge to a node without a released embedding": 4,
    }


def test_embeddings_without_a_node_and_doubtful_ones_are_counted(release: Path) -> None:
    content = table(["P1", "P2", "P3"], 10, node_index=[7, 9, 1234], node_id=["P1", "P2", "other"])
    put(release / "protein.pkl", content)
    graph, tables = graph_and_tables(read_release(release), make_graph())
    assert len(tables[PROTEIN]) == 1 and np.array_equal(tables[PROTEIN][0], vectors(3, 10)[0])
    assert graph.skipped["released protein embedding whose node_index and node_id are those of two nodes"] == 1
    assert graph.skipped["released protein embedding of no node of the graph"] == 1


def test_an_index_finds_what_an_id_does_not(release: Path) -> None:
    put(release / "protein.pkl", table(["P1", "P2", "P3"], 10, node_id=["x", None, "P3"], node_index=[7, 3, 999]))
    graph, tables = graph_and_tables(read_release(release), make_graph())
    assert np.array_equal(tables[PROTEIN], vectors(3, 10)) and len(graph.nodes) == 7
    (release / "nodes.csv").unlink()
    (release / "disease.pkl").unlink()
    graph, tables = graph_and_tables(read_release(release), make_graph())
    assert np.array_equal(tables[PROTEIN], vectors(3, 10)[2:])


def test_several_rows_of_a_node_are_averaged(release: Path) -> None:
    put(release / "disease.pkl", {"node_index": [20, 21, 20, 20], "embedding": vectors(4, 8)})
    graph, tables = graph_and_tables(read_release(release), make_graph())
    expected = np.stack([vectors(4, 8)[[0, 2, 3]].astype(np.float64).mean(0), vectors(4, 8)[1]])
    assert np.abs(tables[DISEASE] - expected).max() < 1e-6
    assert graph.skipped["released embedding averaged with another of the same disease node"] == 2


def test_indices_alone_need_a_nodes_csv(release: Path, tmp_path: Path) -> None:
    (release / "nodes.csv").unlink()
    with pytest.raises(GraphFormatError, match=r"disease\.pkl states no node_id"):
        graph_and_tables(read_release(release), make_graph())
    listed = node_indices(write_nodes(tmp_path / "graph", INDEX))
    graph, tables = graph_and_tables(read_release(release), make_graph(), listed)
    assert len(graph.nodes) == 7 and np.array_equal(tables[DISEASE], vectors(2, 8))
    swapped = node_indices(write_nodes(tmp_path / "swapped", {**INDEX, "M1": 21, "M2": 20}))
    assert np.array_equal(graph_and_tables(read_release(release), make_graph(), swapped)[1][DISEASE], vectors(2, 8)[::-1])


def test_the_release_of_another_graph_is_refused(release: Path) -> None:
    for name in ("drug.pkl", "disease.pkl", "nodes.csv"):
        (release / name).unlink()
    put(release / "protein.pkl", table(["P1", "P2"], 10, node_id=["A", "B"]))
    with pytest.raises(GraphFormatError, match="None of the 2 released embeddings"):
        graph_and_tables(read_release(release), make_graph())


# --- writing --------------------------------------------------------------------------------------------------------------


def make_tables() -> dict[NodeType, np.ndarray]:
    return {PROTEIN: vectors(3, 10, 1), DRUG: vectors(2, 6, 1), DISEASE: vectors(2, 8, 1)}


@pytest.mark.parametrize("index", [None, {(n.type.value, n.id): INDEX[n.id] for n in make_graph().nodes}])
def test_an_export_comes_back_bit_for_bit(tmp_path: Path, index: dict[tuple[str, str], int] | None) -> None:
    bridge, graph = make_bridge(5), make_graph()
    files = export_release(bridge, make_tables(), graph, tmp_path / "out", node_index=index)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    found = read_release(tmp_path / "out")
    assert found.bridge.tensors().keys() == bridge.tensors().keys()
    assert all(np.array_equal(a, bridge.tensors()[name]) for name, a in found.bridge.tensors().items())
    assert found.embeddings[DRUG].node_index.tolist() == ([3, 4] if index is None else [40, 41])
    assert found.embeddings[DRUG].node_name == ("name, of DB1", "name, of DB2")
    part, tables = graph_and_tables(found, graph)
    assert part.sha256 == graph.sha256 and part.skipped == graph.skipped
    assert all(np.array_equal(tables[t], x) for t, x in make_tables().items())
    x = tables[PROTEIN]
    assert np.array_equal(found.bridge.transform(x, TARGET), bridge.transform(x, TARGET))
    assert np.array_equal(found.bridge.project(x, PROTEIN), bridge.project(x, PROTEIN))


def test_an_export_is_laid_out_as_the_authors_read_it(tmp_path: Path) -> None:
    export_release(make_bridge(), make_tables(), make_graph(), tmp_path)
    model = json.loads((tmp_path / "model_config.json").read_text())
    assert model == {"n_node": 4, "n_relation": 2, "proj_dim": {"1": 10, "2": 8, "3": 6}, "hidden_dim": 24, "n_layer": 2}
    data = json.loads((tmp_path / "data_config.json").read_text())
    assert data == {"node_type": NODE_TYPES, "relation_type": {"target": 0, "associated with": 1}, "emb_dim": DIMS}
    assert model["proj_dim"] == {str(data["node_type"][t]): d for t, d in data["emb_dim"].items()}
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert state.keys() == make_bridge().network.state_dict().keys()
    plain = pickle.loads((tmp_path / "protein.pkl").read_bytes())
    assert list(plain) == ["node_index", "node_id", "node_name", "embedding"]
    assert plain["node_index"] == [0, 1, 2] and plain["node_id"] == ["P1", "P2", "P3"] and type(plain["node_index"][0]) is int
    assert plain["embedding"].dtype == np.float32 and np.array_equal(plain["embedding"], make_tables()[PROTEIN])
    assert b"numpy._core" not in (tmp_path / "protein.pkl").read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


def test_other_heads_are_stated_and_read(tmp_path: Path) -> None:
    bridge = make_bridge(1, n_head=4)
    export_release(bridge, make_tables(), make_graph(), tmp_path)
    assert json.loads((tmp_path / "model_config.json").read_text())["n_head"] == 4
    found = read_release(tmp_path).bridge
    assert np.array_equal(found.transform(vectors(3, 10), TARGET), bridge.transform(vectors(3, 10), TARGET))
    assert not np.allclose(found.transform(vectors(3, 10), TARGET), make_bridge(1).transform(vectors(3, 10), TARGET))


def test_only_an_export_is_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export_release(make_bridge(1), make_tables(), make_graph(), folder)
    only = {t: x for t, x in make_tables().items() if t is not DRUG}
    export_release(make_bridge(2), only, make_graph(), folder)
    assert not (folder / "drug.pkl").exists()
    x = vectors(3, 10)
    assert np.array_equal(read_release(folder).bridge.transform(x, TARGET), make_bridge(2).transform(x, TARGET))
    (folder / "export.json").unlink()
    (folder / "mine.txt").write_text("kept")
    before = (folder / "pytorch_model.bin").read_bytes()
    with pytest.raises(InputError, match="something other than an export"):
        export_release(make_bridge(3), make_tables(), make_graph(), folder)
    assert (folder / "pytorch_model.bin").read_bytes() == before
    export_release(make_bridge(3), make_tables(), make_graph(), folder, overwrite=True)
    assert (folder / "pytorch_model.bin").read_bytes() != before and (folder / "mine.txt").read_text() == "kept"
    with pytest.raises(InputError, match="something other"):
        export_release(make_bridge(3), make_tables(), make_graph(), folder / "mine.txt")


def test_a_failed_export_leaves_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_release(make_bridge(1), make_tables(), make_graph(), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    done = []

    def full(descriptor: int) -> None:
        done.append(descriptor)
        if len(done) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="No space left"):
        export_release(make_bridge(2), make_tables(), make_graph(), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_default_bridge_has_no_such_layout(tmp_path: Path) -> None:
    anchors = {"drug": vectors(2, 6)}
    with pytest.raises(InputError, match="--bridge official"):
        export_release(KernelBridge(anchors, anchors, {}, 1.0), {}, make_graph(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {PROTEIN: vectors(2, 10)},
        {PROTEIN: vectors(3, 11)},
        {NodeType.BIOLOGICAL_PROCESS: vectors(3, 10)},
        {PROTEIN: np.full((3, 10), np.inf, np.float32)},
    ],
)
def test_tables_that_do_not_fit_are_not_written(tmp_path: Path, change: dict[NodeType, np.ndarray]) -> None:
    with pytest.raises(InputError, match="does not fit"):
        export_release(make_bridge(), make_tables() | change, make_graph(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_indices_must_be_one_for_each_node(tmp_path: Path) -> None:
    whole = {(n.type.value, n.id): i for i, n in enumerate(make_graph().nodes)}
    for index in ({**whole, ("drug", "DB1"): 0}, {k: v for k, v in whole.items() if k != ("drug", "DB1")}):
        with pytest.raises(InputError, match="node_index of its own"):
            export_release(make_bridge(), make_tables(), make_graph(), tmp_path / "out", node_index=index)


def test_reading_leaves_the_folder_as_it_was(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "copy")
    graph_and_tables(read_release(release), make_graph())
    same = {p.name: p.read_bytes() for p in release.iterdir()}
    assert same == {p.name: p.read_bytes() for p in (tmp_path / "copy").iterdir()}
