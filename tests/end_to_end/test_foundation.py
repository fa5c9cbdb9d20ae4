"""Homes of foundation models: built from weights in a folder, asked with and without them, sharing what was encoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.chemistry import conformer
from biobridge_rag.encoders.cache import load_centre
from biobridge_rag.homes import open_home
from biobridge_rag.types import NodeType
from tests.encoders.test_chemical import SMILES, package, roberta  # noqa: F401
from tests.encoders.test_esm import save_esm2
from tests.encoders.test_language import bert

from .conftest import Result, call, protein, smiles, write_graph

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models with random weights, in the formats of fair-esm and of the hub."""
    folder = tmp_path_factory.mktemp("weights")
    save_esm2(folder / "esm2_tiny.pt")
    roberta(folder / "ChemBERTa-zinc-base-v1")
    bert(folder / "BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext")
    return folder


@pytest.fixture(scope="module")
def encoders(weights: Path) -> list[object]:
    protein_model = ("--protein-encoder", weights / "esm2_tiny.pt")
    return [*protein_model, "--molecule-encoder", "chemberta", "--text-encoder", "biomedbert", "--weights", weights]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny graph in which one drug has more tokens than the molecule model reads."""
    folder = write_graph(tmp_path_factory.mktemp("graphs") / "small", range(20), range(18), range(10))
    return lengthened(folder, 17)


def lengthened(folder: Path, drug: int) -> Path:
    table = folder / "drug.csv"
    table.write_text(table.read_text().replace(f",{smiles(drug)},", f",{'C(O)' * 60}C,"))
    return folder


@pytest.fixture(scope="module")
def built(graph: Path, encoders: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Path]:
    """A home, what its build said, and the cache that it shares."""
    home, cache = tmp_path_factory.mktemp("homes") / "small", tmp_path_factory.mktemp("cache")
    return home, call("build", "--graph", graph, "--home", home, *encoders, "--cache", cache, "--json"), cache


def test_a_home_is_built_and_what_a_model_cannot_read_is_left_out(built: tuple[Path, Result, Path]) -> None:
    home, result, _ = built
    assert result.code == 0, result
    told = result.json
    assert told["nodes"] == 47 and told["skipped"]["drug node that its encoder cannot read"] == 1
    assert "(residues): " in result.err and told["encoders"]["protein"].startswith("esm2_tiny-mean-w1022-s511-")
    opened = open_home(home)
    opened.index.close()
    for node_type, table in opened.tables.items():
        assert np.allclose(np.linalg.norm(table, axis=1), 1.0, atol=1e-4)
        assert load_centre(home / "embeddings", node_type.slug) is not None and np.abs(table.mean(axis=0)).max() < 0.2


def test_a_new_sequence_and_a_new_molecule_are_asked_for(cli: Cli, built: tuple[Path, Result, Path]) -> None:
    """The manifest says where the weights lie. A node's own sequence is as near to it as can be."""
    home = built[0]
    found = cli("candidates", "--home", home, "--sequence", protein(3) + "A", "--to", "gene/protein", "--top", "3", "--json")
    assert found.code == 0 and found.json["hits"][0]["id"] == "P00003", found
    assert cli("candidates", "--home", home, "--smiles", SMILES[0], "--to", "gene/protein", "--top", "3", "--json").code == 0
    opened = open_home(home)
    opened.index.close()
    row = opened.graph.rank_in_type[opened.graph.position(NodeType.PROTEIN, "P00003")]  # type: ignore[index]
    assert np.allclose(opened.encode(NodeType.PROTEIN, [(protein(3),)])[0], opened.tables[NodeType.PROTEIN][row], atol=1e-5)


def test_nodes_are_added_by_the_same_models(cli: Cli, built: tuple[Path, Result, Path], tmp_path: Path) -> None:
    home, file = Path(shutil.copytree(built[0], tmp_path / "own")), tmp_path / "new.fasta"
    file.write_text(f">NEW1 a relative\n{protein(3)}A\n")
    empty = tmp_path / "none"
    empty.mkdir()
    (tmp_path / "new.smi").write_text("CCOC(=O)C1CC1 NEW2\n")
    refused = cli("add", "--home", home, "--smiles", tmp_path / "new.smi", "--weights", empty)
    assert refused.code == 2 and "biobridge-rag fetch weights chemberta" in refused.err.splitlines()[-1]
    assert cli("add", "--home", home, "--fasta", file).code == 0
    opened = open_home(home)
    opened.index.close()
    assert np.allclose(opened.tables[NodeType.PROTEIN][-1], opened.encode(NodeType.PROTEIN, [(protein(3) + "A",)])[0], atol=1e-5)
    near = cli("candidates", "--home", home, "--node", "NEW1", "--to", "gene/protein", "--top", "1", "--json").json["hits"]
    assert near[0]["id"] == "P00003"
    assert cli("add", "--home", home, "--undo").code == 0 and cli("candidates", "--home", home, "--node", "NEW1").code == 2


def test_without_the_weights_the_nodes_still_answer(cli: Cli, built: tuple[Path, Result, Path], weights: Path, tmp_path: Path) -> None:
    home, empty = built[0], tmp_path / "none"
    empty.mkdir()
    known = cli("candidates", "--home", home, "--weights", empty, "--node", "P00003", "--json")
    assert known.code == 0 and any(hit["known"] for hit in known.json["hits"])
    asked = ("candidates", "--home", home, "--smiles", "CCOC(=O)C1CC1", "--to", "gene/protein")
    line = cli(*asked, "--weights", empty).line
    assert "chemberta" in line and "biobridge-rag fetch weights" in line and "--weights" in line
    other = tmp_path / "other"
    shutil.copytree(weights / "ChemBERTa-zinc-base-v1", other / "ChemBERTa-zinc-base-v1")
    file = other / "ChemBERTa-zinc-base-v1" / "tokenizer_config.json"
    file.write_text(file.read_text() + " ")
    assert "built with the encoder" in cli(*asked, "--weights", other).line


def test_the_doctor_looks_for_the_weights(
    cli: Cli, built: tuple[Path, Result, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    well = cli("doctor", "--home", built[0], "--json")
    assert (
        well.code == 0 and {"what": "molecule encoder", "ok": True}.items() <= next(f for f in well.json if "molecule" in f["what"]).items()
    )
    monkeypatch.setenv("BIOBRIDGE_WEIGHTS", str(tmp_path))
    found = cli("doctor", "--home", built[0], "--json")
    ill = [f for f in found.json if not f["ok"]]
    assert found.code == 1 and [f["what"] for f in ill] == ["molecule encoder", "text encoder"]
    assert all("fetch weights" in f["do"] for f in ill)


def test_what_is_in_the_cache_is_not_encoded_again(
    built: tuple[Path, Result, Path], graph: Path, encoders: list[object], tmp_path: Path
) -> None:
    home, _, cache = built
    again = call("build", "--graph", graph, "--home", tmp_path / "again", *encoders, "--cache", cache)
    assert again.code == 0 and "(residues)" not in again.err
    first, second = (sorted((h / "embeddings").glob("*.npy")) for h in (home, tmp_path / "again"))
    assert [f.name for f in first] == [f.name for f in second]
    assert all(np.array_equal(np.load(a), np.load(b)) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--protein-encoder", "esm2_t6_8M_UR50D", "biobridge-rag fetch weights esm2_t6_8M_UR50D"),
        ("--protein-encoder", "esm9", "kmer, esm2_t6_8M_UR50D"),
        ("--text-encoder", "bert9", "minilm-spelled, "),
        ("--molecule-encoder", "unimol", "unimol"),
    ],
)
def test_models_that_are_not_there_are_one_line(cli: Cli, tmp_path: Path, graph: Path, option: str, name: str, said: str) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    result = cli("build", "--graph", graph, "--home", tmp_path / "home", option, name, "--weights", empty)
    assert result.code == 2 and said in result.line and not (tmp_path / "home" / "manifest.json").exists()


def test_a_cache_is_filled_checked_and_mended(cli: Cli, graph: Path, encoders: list[object], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ask = ("embed", "--graph", graph, "--cache", cache, *encoders, "--json")
    first = cli(*ask).json["types"]
    assert first["gene/protein"] == {"values": 20, "encoded": 20, "damaged": 0} and first["drug"]["values"] == 17
    shard = max(cache.rglob("*"), key=lambda f: (f.is_file() and "lock" not in f.name, f.stat().st_size))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    trusting = cli(*ask, "--only-missing").json["types"]
    checked = cli(*ask)
    again = cli(*ask).json["types"]
    assert all(t["damaged"] == 0 for t in trusting.values())
    assert checked.code == 0 and sum(t["encoded"] for t in (*trusting.values(), *checked.json["types"].values())) > 0
    assert all(t["encoded"] == 0 for t in again.values())


def test_conformers_are_made_once(cli: Cli, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A build over a filled cache tries those molecules only that have no vector there: the one that has no conformer."""
    graph, cache, asked = write_graph(tmp_path / "g", range(10), range(8), range(4)), tmp_path / "cache", list[str]()
    table = graph / "drug.csv"
    table.write_text(table.read_text().replace(f",{smiles(7)},", ",C1#CC1,"))

    def counted(value: str, *more: int) -> object:
        asked.append(value)
        return conformer(value, *more)

    monkeypatch.setattr("biobridge_rag.encoders.chemical.conformer", counted)
    options = ("--graph", graph, "--molecule-encoder", "unimol", "--weights", package, "--cache", cache, "--json")
    first = cli("embed", *options)
    assert first.code == 0 and first.json["types"]["drug"] == {"values": 7, "encoded": 7, "damaged": 0}, first
    assert set(asked) == {*map(smiles, range(7)), "C1#CC1"}
    for run, home in ((("build", "--home"), tmp_path / "one"), (("build", "--home"), tmp_path / "two")):
        asked.clear()
        result = cli(*run, home, *options)
        assert result.code == 0 and asked == ["C1#CC1"], result
        assert result.json["nodes"] == 21 and result.json["skipped"]["drug node that its encoder cannot read"] == 1
    asked.clear()
    assert cli("embed", *options, "--only-missing").json["types"]["drug"]["encoded"] == 0 and asked == ["C1#CC1"]


def test_a_cache_must_be_named(cli: Cli, graph: Path) -> None:
    assert "--cache" in cli("embed", "--graph", graph).line


def test_unseen_nodes_that_a_model_cannot_read_are_counted(cli: Cli, built: tuple[Path, Result, Path], graph: Path, tmp_path: Path) -> None:
    also = {"protein": range(20), "disease": range(10)}
    unseen = lengthened(write_graph(tmp_path / "new", range(0), range(18, 20), range(0), also=also), 19)
    found = cli("evaluate", "retrieval", "--graph", graph, "--home", built[0], "--unseen", unseen, "--json")
    assert found.code == 0 and found.json["skipped"]["drug node that its encoder cannot read"] == 1, found
    assert {r["head_type"] for r in found.json["relations"]} == {"drug"}


def test_an_evaluation_takes_the_options_of_a_build(
    cli: Cli, graph: Path, weights: Path, encoders: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other encoders, another bridge, more epochs: each gives another report. A cache is filled once and then used."""
    ask, cache = ("evaluate", "retrieval", "--graph", graph, "--baselines", "", "--json"), tmp_path / "cache"
    usual = cli(*ask).json
    assert usual["encoders"]["protein"].startswith("kmer") and usual["encoders"].keys() == {"protein", "molecule", "text"}
    esm = cli(*ask, "--protein-encoder", weights / "esm2_tiny.pt")
    assert esm.code == 0 and "(residues)" in esm.err and esm.json["relations"] != usual["relations"]
    assert esm.json["encoders"] == {**usual["encoders"], "protein": esm.json["encoders"]["protein"]}
    assert esm.json["encoders"]["protein"].startswith("esm2_tiny-")
    official = [cli(*ask, "--bridge", "official", "--epochs", n).json for n in (1, 2)]
    assert usual["history"] == [] and [len(report["history"]) for report in official] == [1, 2]
    first = cli(*ask, *encoders, "--cache", cache)
    assert first.json["skipped"]["drug node that its encoder cannot read"] == 1
    monkeypatch.setattr("biobridge_rag.encoders.esm.EsmEncoder.encode_batches", lambda *_: pytest.fail("encoded again"))
    again = cli(*ask, *encoders, "--cache", cache)
    assert again.code == 0 and "(residues)" in first.err and "(residues)" not in again.err and again.json == first.json


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--protein-encoder", "esm9", "no protein encoder named 'esm9'. Valid names: kmer"),
        ("--molecule-encoder", "molbert", "no molecule encoder named 'molbert'. Valid names: fingerprint"),
        ("--text-encoder", "bert9", "no text encoder named 'bert9'. Valid names: minilm"),
        ("--bridge", "third", "'bridge' is not valid"),
        ("--epochs", "0", "'epochs' is not valid"),
        ("--weights", "/no/such/folder", "/no/such/folder are not there"),
        ("--ray-address", "auto", "Add --engine ray"),
    ],
)
def test_an_evaluation_with_options_that_cannot_be_used_is_one_line(cli: Cli, graph: Path, option: str, name: str, said: str) -> None:
    result = cli("evaluate", "retrieval", "--graph", graph, option, name)
    assert result.code == 2 and said in result.line


def test_an_evaluation_checks_the_home_against_its_options(
    cli: Cli, built: tuple[Path, Result, Path], graph: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    also = {"protein": range(20), "disease": range(10)}
    unseen = write_graph(tmp_path / "new", range(0), range(18, 20), range(0), also=also)
    ask = ("evaluate", "retrieval", "--graph", graph, "--home", built[0], "--unseen", unseen, "--baselines", "", "--json")
    monkeypatch.chdir(weights)
    found = cli(*ask, "--protein-encoder", "esm2_tiny.pt", "--molecule-encoder", "chemberta")
    assert found.code == 0 and found.json["encoders"]["protein"].startswith("esm2_tiny-"), found
    assert "not 'fingerprint'" in cli(*ask, "--molecule-encoder", "fingerprint").line
