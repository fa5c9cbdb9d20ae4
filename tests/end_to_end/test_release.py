"""`import-official` and `export-official`: a release in the authors' format becomes a home that every command uses, and leaves it
again bit for bit."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .conftest import Result, call, finish, known, protein, start, write_graph

Cli = Callable[..., Result]
DIMS = {"gene/protein": 10, "drug": 6, "disease": 8}
FILES = {"gene/protein": "protein.pkl", "drug": "drug.pkl", "disease": "disease.pkl"}
NODE_TYPES = {"biological_process": 0, "gene/protein": 1, "disease": 2, "drug": 3}
RELATION_TYPES = {"target": 0, "associated with": 1}
PARTS = {"model_config.json", "data_config.json", "pytorch_model.bin", "nodes.csv", "export.json", *FILES.values()}

# The command line, which kills itself as the first line of the stage is shown.
KILLED = """
import os, signal, sys
from biobridge_rag import cli
stage, shown = sys.argv.pop(1), cli.Progress.__call__
def watch(self, name, done, total):
    shown(self, name, done, total)
    if name == stage:
        os.kill(os.getpid(), signal.SIGKILL)
cli.Progress.__call__ = watch
cli.main()
"""


def write_release(folder: Path, graph: Path, seed: int = 0) -> Path:
    """The authors' files for the nodes of a graph's directory: protein.pkl and drug.pkl with ids, disease.pkl a dict of node_index
    and rows without the last disease; float32, far from unit length; a bridge that knows two of the three relations."""
    from biobridge_rag.bridge.official import OfficialNetwork

    folder.mkdir(parents=True)
    with (graph / "nodes.csv").open(newline="") as stream:
        nodes = list(csv.DictReader(stream))
    for node_type, width in DIMS.items():
        rows = [n for n in nodes if n["node_type"] == node_type][::-1]
        x = (4 * np.random.default_rng([seed, width]).standard_normal((len(rows), width))).astype(np.float32)
        table: dict[str, Any] = {"node_index": [int(n["node_index"]) for n in rows], "embedding": x}
        if node_type == "disease":
            table = {"node_index": table["node_index"][1:], "embedding": list(x[1:])}
        else:
            table |= {"node_id": [n["node_id"] for n in rows], "node_name": [n["node_name"] for n in rows]}
        (folder / FILES[node_type]).write_bytes(pickle.dumps(table, protocol=4))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = OfficialNetwork(4, 2, {NODE_TYPES[t]: d for t, d in DIMS.items()}, 24, 1)
    proj_dim = {str(NODE_TYPES[t]): d for t, d in DIMS.items()}
    model = {"n_node": 4, "n_relation": 2, "proj_dim": proj_dim, "hidden_dim": 24, "n_layer": 1}
    (folder / "model_config.json").write_text(json.dumps(model))
    (folder / "data_config.json").write_text(json.dumps({"node_type": NODE_TYPES, "relation_type": RELATION_TYPES, "emb_dim": DIMS}))
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    return folder


def vectors_of(folder: Path, node_type: str, graph: Path) -> dict[str, np.ndarray]:
    """Node id -> embedding of a release, read with nothing of the package."""
    listed = {int(n["node_index"]): n["node_id"] for n in csv.DictReader((graph / "nodes.csv").open(newline=""))}
    table = pickle.loads((folder / FILES[node_type]).read_bytes())
    return {listed[i]: np.asarray(x) for i, x in zip(table["node_index"], table["embedding"], strict=True)}


@pytest.fixture(scope="module")
def release(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("releases") / "authors", tiny)


@pytest.fixture(scope="module")
def imported(release: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    home = tmp_path_factory.mktemp("homes") / "imported"
    return home, call("import-official", release, "--graph", tiny, "--home", home, "--json")


@pytest.fixture
def home(imported: tuple[Path, Result]) -> Path:
    assert imported[1].code == 0, imported[1]
    return imported[0]


@pytest.fixture
def exported(cli: Cli, home: Path, tmp_path: Path) -> Path:
    result = cli("export-official", "--home", home, "--out", tmp_path / "out", "--json")
    assert result.code == 0 and set(result.json["files"]) == PARTS, result
    return tmp_path / "out"


def made(home: Path) -> dict[str, bytes]:
    """What answers depend on, but for Chroma's own files."""
    kept = (".npy", ".json", ".safetensors", ".parquet")
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if "chroma" not in p.parts and p.suffix in kept}


def test_the_import_says_what_it_made_and_what_it_left_out(imported: tuple[Path, Result]) -> None:
    home, result = imported
    assert result.code == 0, result
    said, manifest = result.json, json.loads((home / "manifest.json").read_text())
    assert (said["home"], said["graph"], said["nodes"], said["bridge"], said["fusion"]) == (str(home), "tiny", 49, "official", "default")
    assert said["bridge_sha256"] == manifest["bridge_sha256"] and said["skipped"] == manifest["skipped"]
    assert said["skipped"]["disease node without a released embedding"] == 1
    indications = said["skipped"]["edge of the relation 'indication', which the released bridge does not know"]
    assert indications > 0 and indications % 2 == 0
    lines = result.err.splitlines()
    assert f"left out: {indications:,} x edge of the relation 'indication', which the released bridge does not know" in lines
    assert any(line.startswith("fusion: default weights") for line in lines) and "49 nodes" in lines[-1]
    assert json.loads((home / "fusion.json").read_text()) == {"bridge_sha256": manifest["bridge_sha256"], "relations": {}}


def test_candidates_come_from_the_released_vectors(cli: Cli, home: Path, release: Path, tiny: Path) -> None:
    from biobridge_rag.bridge.official import load_official
    from biobridge_rag.types import Relation

    result = cli("candidates", "--home", home, "--node", "KINA0", "--to", "drug", "--json")
    assert result.code == 0 and len(result.json["hits"]) == 20, result
    proteins, drugs = (vectors_of(release, t, tiny) for t in ("gene/protein", "drug"))
    bridge = load_official(release)
    carried = bridge.transform(proteins["P00000"][None], Relation("target", "gene/protein", "drug"))[0]
    edges = {r["y_id"] for r in csv.DictReader((tiny / "kg.csv").open(newline="")) if (r["x_id"], r["y_type"]) == ("P00000", "drug")}
    assert known(result.json["hits"]) == edges and edges
    assert sum(hit["parts"]["bridge"] > 0.01 for hit in result.json["hits"]) >= 3
    for hit in result.json["hits"]:
        projected = bridge.project(drugs[hit["id"]][None], "drug")[0]
        cosine = carried @ projected / np.linalg.norm(carried) / np.linalg.norm(projected)
        assert hit["parts"]["bridge"] == pytest.approx(max(float(cosine), 0.0), abs=1e-4)
        assert all(0 <= e["score"] <= 1 + 1e-6 for e in hit["evidence"]) and 0 <= hit["probability"] <= 1


def test_similar_nodes_are_by_the_cosine_of_the_released_vectors(cli: Cli, home: Path, release: Path, tiny: Path) -> None:
    result = cli("candidates", "--home", home, "--node", "KINA0", "--to", "protein", "--relation", "similar to", "--top", "5", "--json")
    assert result.code == 0, result
    x = {id: v / np.linalg.norm(v) for id, v in vectors_of(release, "gene/protein", tiny).items()}
    cosines = {id: float(v @ x["P00000"]) for id, v in x.items() if id != "P00000"}
    assert [h["id"] for h in result.json["hits"]] == sorted(cosines, key=lambda id: -cosines[id])[:5]


def test_a_question_is_answered_from_an_imported_home(cli: Cli, home: Path) -> None:
    result = cli("ask", "Which drugs target KINA0?", "--home", home, "--json")
    assert result.code == 0 and not result.json["abstained"] and result.json["citations"], result


def test_the_doctor_finds_an_imported_home_whole(cli: Cli, home: Path) -> None:
    findings = {f["what"]: f for f in cli("doctor", "--home", home, "--json").json}
    assert findings[f"home {home}"]["ok"] and "49 nodes" in findings[f"home {home}"]["detail"]
    assert findings[f"home {home}"]["detail"].endswith("bridge official")


def test_what_would_have_to_be_encoded_is_one_line(cli: Cli, home: Path, tiny: Path, tmp_path: Path) -> None:
    for option, value in (("--sequence", protein(40)), ("--smiles", "CCOc1ccccc1")):
        result = cli("candidates", "--home", home, option, value, "--to", "protein")
        assert result.code == 2 and "cannot be encoded here" in result.line
    unseen = write_graph(tmp_path / "new", range(20, 23), range(0), range(0), also={"drug": range(20)})
    result = cli("evaluate", "retrieval", "--graph", tiny, "--home", home, "--unseen", unseen)
    assert result.code == 2 and result.err.splitlines()[-1].startswith("biobridge-rag: A protein sequence outside the graph cannot")


def test_importing_again_changes_nothing(cli: Cli, home: Path, release: Path, tiny: Path) -> None:
    before = made(home)
    result = cli("import-official", release, "--graph", tiny, "--home", home)
    assert result.code == 0 and result.out == "" and "indexing" not in result.err and made(home) == before


@pytest.mark.parametrize("stage", ["importing embeddings", "indexing disease.bridge"])
def test_an_import_that_was_killed_goes_on(cli: Cli, home: Path, release: Path, tiny: Path, tmp_path: Path, stage: str) -> None:
    arguments = ("import-official", release, "--graph", tiny, "--home", tmp_path / "killed")
    assert finish(start(stage, *arguments, code=KILLED)).code == -9
    refused = cli("candidates", "--home", tmp_path / "killed", "--node", "KINA0")
    assert refused.code == 1 and "only half built" in refused.line
    assert cli(*arguments).code == 0 and made(tmp_path / "killed") == made(home)
    hits = [cli("candidates", "--home", h, "--node", "KINA0", "--json").json["hits"] for h in (home, tmp_path / "killed")]
    assert hits[0] == hits[1]


def test_homes_are_not_mixed_up(cli: Cli, home: Path, tiny_home: Path, release: Path, tiny: Path, tmp_path: Path) -> None:
    other = write_release(tmp_path / "other", tiny, seed=1)
    refusals = [
        cli("import-official", other, "--graph", tiny, "--home", home),
        cli("import-official", release, "--graph", tiny, "--home", tiny_home),
        cli("build", "--graph", tiny, "--home", home),
    ]
    for result in refusals:
        assert result.code == 2 and "cannot take this" in result.line, result
    assert cli("candidates", "--home", home, "--node", "KINA0", "--json").code == 0


def test_what_is_no_release_or_no_graph_is_one_line(cli: Cli, release: Path, tiny: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "model_config.json" in cli("import-official", tmp_path / "none", "--graph", tiny, "--home", home).line
    assert "does not exist" in cli("import-official", release, "--graph", tmp_path / "none", "--home", home).line
    assert "--graph DIR" in cli("import-official", release, "--home", home).line
    torn = Path(shutil.copytree(release, tmp_path / "torn"))
    (torn / "drug.pkl").write_bytes(pickle.dumps({"node_index": [0], "embedding": print}))
    result = cli("import-official", torn, "--graph", tiny, "--home", home)
    assert result.code == 2 and "nothing of it was run" in result.line and not home.exists()


def test_an_export_comes_back_bit_for_bit(cli: Cli, home: Path, exported: Path, tiny: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert cli("import-official", exported, "--graph", tiny, "--home", again).code == 0
    ours, theirs = made(home), made(again)
    for files in (ours, theirs):
        files["manifest.json"] = json.dumps({k: v for k, v in json.loads(files["manifest.json"]).items() if k != "versions"}).encode()
    assert ours == theirs
    assert cli("export-official", "--home", again, "--out", tmp_path / "twice").code == 0
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "twice").iterdir()}


def test_an_export_holds_the_released_numbers(exported: Path, release: Path, tiny: Path) -> None:
    for node_type in DIMS:
        before, after = vectors_of(release, node_type, tiny), vectors_of(exported, node_type, exported)
        assert before.keys() == after.keys() and all(np.array_equal(before[id], after[id]) for id in before)
    states = [torch.load(folder / "pytorch_model.bin", weights_only=True) for folder in (release, exported)]
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_export_can_keep_the_indices_of_the_graph(cli: Cli, home: Path, exported: Path, tiny: Path, tmp_path: Path) -> None:
    numbered, out = tmp_path / "tiny", tmp_path / "kept"
    numbered.mkdir()
    with (tiny / "nodes.csv").open(newline="") as stream, (numbered / "nodes.csv").open("w", newline="") as copy:
        header, *rows = csv.reader(stream)
        csv.writer(copy).writerows([header, *([str(7 * int(row[0]) + 1000), *row[1:]] for row in rows)])
    assert cli("export-official", "--home", home, "--graph", numbered, "--out", out).code == 0
    for name in ("protein.pkl", "drug.pkl", "disease.pkl"):
        kept, places = (pickle.loads((folder / name).read_bytes()) for folder in (out, exported))
        assert kept["node_index"] == [7 * i + 1000 for i in places["node_index"]] and kept["node_id"] == places["node_id"]
    given, listed = ({(n["node_index"], n["node_id"]) for n in csv.DictReader((f / "nodes.csv").open())} for f in (numbered, out))
    assert len(listed) == 49 and listed < given


def test_an_export_spares_what_is_not_its_own(cli: Cli, home: Path, exported: Path, tmp_path: Path) -> None:
    assert cli("export-official", "--home", home, "--out", exported).code == 0, "an earlier export is replaced"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("kept")
    result = cli("export-official", "--home", home, "--out", mine)
    assert result.code == 2 and "something other than an export" in result.line and len(list(mine.iterdir())) == 1
    assert cli("export-official", "--home", home, "--out", mine, "--overwrite").code == 0
    assert (mine / "thesis.txt").read_text() == "kept" and {p.name for p in mine.iterdir()} == {*PARTS, "thesis.txt"}


def test_a_home_with_the_default_bridge_cannot_be_exported(cli: Cli, tiny_home: Path, tmp_path: Path) -> None:
    result = cli("export-official", "--home", tiny_home, "--out", tmp_path / "out")
    assert result.code == 2 and "default bridge has no such layout" in result.line and not (tmp_path / "out").exists()
    assert "no built home" in cli("export-official", "--home", tmp_path / "none", "--out", tmp_path / "out").line
