"""Adding to a built home: what is found afterwards, what is recognised, taking back bit for bit, and breaking off at every step."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from biobridge_rag import adding, embedding, homes
from biobridge_rag.adding import Given, Report, add_to_home, additions, undo
from biobridge_rag.assembly import Engine, open_engine
from biobridge_rag.bridge import training
from biobridge_rag.building import DEFAULT_ENCODERS, BuildOptions, build_home
from biobridge_rag.chemistry import write_sdf
from biobridge_rag.cli_add import add as add_command
from biobridge_rag.config import Settings
from biobridge_rag.encoders import make_encoder
from biobridge_rag.errors import FileError, HomeError, HomeLockedError, HomeMismatchError, InputError, MoleculeError, SequenceError
from biobridge_rag.graph.extending import shortened
from biobridge_rag.graph.starter import load_starter
from biobridge_rag.homes import aligner_of, open_home
from biobridge_rag.retrieval.retriever import SIMILAR
from biobridge_rag.store.manifest import Manifest, read_manifest, writing
from biobridge_rag.types import KnowledgeGraph, Modality, Node, NodeType, Relation

PROTEIN, DRUG, DISEASE = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CHAINS = ("c1ccccc1", "C1CCNCC1")


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


def mutant(sequence: str, seed: int, share: float = 0.1) -> str:
    rng, out = random.Random(seed), list(sequence)
    for at in rng.sample(range(len(out)), int(share * len(out))):
        out[at] = rng.choice(RESIDUES)
    return "".join(out)


def family(i: int) -> str:
    """The sequence of protein i: four mutants of each of two ancestors."""
    ancestor = "".join(random.Random(i // 4).choices(RESIDUES, k=90))
    return mutant(ancestor, 100 + i)


def small_graph() -> KnowledgeGraph:
    """8 proteins and 8 drugs in two families, which have their edges among themselves."""
    proteins = tuple(Node(f"P{i}", PROTEIN, f"KIN{i}", source="made", values=(family(i),)) for i in range(8))
    drugs = tuple(Node(f"D{i}", DRUG, f"drugomab {i}", source="made", values=("C" * (i % 4 + 1) + CHAINS[i // 4],)) for i in range(8))
    relations = tuple(sorted((Relation("target", PROTEIN, DRUG), Relation("target", DRUG, PROTEIN)), key=lambda r: r.key))
    pairs = [(p, d) for p in range(8) for d in range(8) if p // 4 == d // 4 and (p + d) % 3]
    edges = sorted([(1, p, 8 + d) for p, d in pairs] + [(0, 8 + d, p) for p, d in pairs])
    r, h, t = np.array(edges).T
    return KnowledgeGraph(
        "small", proteins + drugs, relations, h.astype(np.int32), r.astype(np.int16), t.astype(np.int32), np.zeros(len(r), np.int16), ("s",)
    )


OPTIONS = BuildOptions({Modality.PROTEIN: "kmer", Modality.MOLECULE: "fingerprint"}, epochs=1)


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Any:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("homes") / "small"
    build_home(small_graph(), path, OPTIONS, silent)
    return path


@pytest.fixture
def home(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "home"))


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("homes") / "starter"
    build_home(load_starter(), path, BuildOptions(DEFAULT_ENCODERS), silent)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Given:
    """A new protein and a new drug for the small graph, with edges."""
    return Given(
        fasta=[write(tmp_path / "p.fasta", f">NEW1 a new kinase\n{mutant(family(0), 7)}\n")],
        smiles=[write(tmp_path / "m.smi", "CCCCCCc1ccccc1 new drug\n")],
        triples=[write(tmp_path / "t.tsv", "head\trelation\ttail\nNEW1\ttarget\tnew_drug\nD0\ttarget\tNEW1\n")],
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def contents(path: Path, records: bool = True) -> dict[str, bytes]:
    """All files but Chroma's own and the lock; without the records of additions, which hold the time, where they are not wanted."""
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and "chroma" not in p.parts and p.name != ".lock" and (records or p.parent.name != "additions")
    }


def counts(path: Path) -> dict[str, int]:
    opened = open_home(path)
    found = opened.index.counts()
    opened.index.close()
    return found


def manifest_of(path: Path) -> Manifest:
    manifest = read_manifest(path)
    assert manifest is not None
    return manifest


def asked(engine: Engine, node: str, to: str, relation: str | None = None, top: int = 10) -> list[dict[str, Any]]:
    return [hit.to_dict() for hit in engine.candidates(node=node, to=to, relation=relation, top=top).hits]


def ids(hits: list[dict[str, Any]]) -> list[str]:
    return [hit["id"] for hit in hits]


# --- the starter home -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def yours(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A mutated ABL1, a relative of imatinib, a disease, edges among them and to old nodes, and two doubles of old nodes."""
    folder, graph = tmp_path_factory.mktemp("yours"), load_starter()
    abl = graph.nodes[graph.position(PROTEIN, "P00519")]  # type: ignore[index]
    header = "sp|Q0TEST|ABLX_HUMAN Mutant kinase X OS=Homo sapiens OX=9606 GN=ABLX PE=1 SV=1"
    return Given(
        [write(folder / "p.fasta", f">{header}\n{mutant(abl.values[0], 0)}\n>MYABL again\n{abl.values[0]}\n>dna\n{'ACGT' * 30}\n")],
        [write(folder / "m.smi", "Cc1ccc(NC(=O)c2ccc(CN3CCN(CC)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1\tMY-1\tethylimatinib\n")],
        [
            write(
                folder / "d.csv", "id,type,name,description,synonyms\nX:1,disease,Testitis major,Too many white blood cells.,big testitis\n"
            )
        ],
        [
            write(
                folder / "t.csv",
                "head,relation,tail,source\nMY-1,target,Q0TEST,my assay\nMY-1,indication,X:1,\nX:1,associated with,MYABL,\n",
            )
        ],
    )


@pytest.fixture(scope="module")
def added(starter: Path, yours: Given, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    path = Path(shutil.copytree(starter, tmp_path_factory.mktemp("added") / "starter"))
    return path, add_to_home(path, yours, silent)


@pytest.fixture(scope="module")
def engine(added: tuple[Path, Report]) -> Any:
    opened = open_engine(Settings(home=added[0]))
    yield opened
    opened.close()


def test_the_report_counts_everything(added: tuple[Path, Report]) -> None:
    path, report = added
    assert report.to_dict() == {
        "home": str(path),
        "addition": 1,
        "nodes": {"added": {"gene/protein": 1, "drug": 1, "disease": 1}, "already": 0, "recognised": 1},
        "edges": {"added": 3, "already": 0},
        "left_out": {"protein sequence that cannot be used": 1},
    }
    text = "\n".join(report.lines)
    assert "MYABL is ABL1 (P00519)" in text and "'dna' looks like DNA" in text and "not trained again: new edges count" in text


def test_a_new_protein_finds_its_relatives_drugs(engine: Engine) -> None:
    hits = asked(engine, "Q0TEST", "drug", "target")
    assert ids(hits)[0] == "MY-1" and hits[0]["known"] and hits[0]["evidence"][0]["source"] == "my assay"
    assert {"DB00619", "DB01254", "DB06616", "DB08901"} <= set(ids(hits)[1:7]), "ABL1's drugs"
    assert not any(hit["known"] for hit in hits[1:])
    assert any("identical over" in e["text"] and "ABL1" in e["text"] for e in hits[1]["evidence"])


def test_new_nodes_are_found_as_tails(engine: Engine) -> None:
    assert "X:1" in ids(asked(engine, "ABL1", "disease", "associated with", 4)), "a new edge of an old node"
    predicted = next(hit for hit in asked(engine, "Q0TEST", "disease", "associated with", 5) if hit["id"] == "X:1")
    assert not predicted["known"] and any("ABL1 is associated with Testitis" in e["text"] for e in predicted["evidence"])
    near = asked(engine, "LCK", "drug", "target", 100)
    assert any(hit["id"] == "MY-1" and not hit["known"] for hit in near), "through the new analogue of the query"


def test_new_nodes_are_similar_to_old_ones_both_ways(engine: Engine) -> None:
    assert ids(asked(engine, "ABL1", "gene/protein", SIMILAR, 3))[0] == "Q0TEST"
    assert ids(asked(engine, "Q0TEST", "gene/protein", SIMILAR, 3))[0] == "P00519"
    assert ids(asked(engine, "imatinib", "drug", SIMILAR, 3))[0] == "MY-1"
    assert ids(asked(engine, "MY-1", "drug", SIMILAR, 3))[0] == "DB00619"


@pytest.mark.parametrize(
    ("text", "node"), [("ABLX", "Q0TEST"), ("mutant kinase x", "Q0TEST"), ("q0test", "Q0TEST"), ("big testitis", "X:1")]
)
def test_new_nodes_are_linked_by_name_synonym_and_id(engine: Engine, text: str, node: str) -> None:
    assert engine.reader.node(text).type is not None and engine.reader.node(text).node.id == node  # type: ignore[union-attr]


def test_a_sequence_that_was_added_is_recognised_in_a_question(engine: Engine) -> None:
    position = engine.graph.position(PROTEIN, "Q0TEST")
    assert position is not None
    assert engine.reader.sequence(engine.graph.nodes[position].values[0]).node == engine.graph.nodes[position]


@pytest.mark.slow
def test_the_tables_grow_and_keep_their_rows(starter: Path, added: tuple[Path, Report], engine: Engine) -> None:
    before, home = open_home(starter), engine.home
    try:
        for node_type, old in before.tables.items():
            n, extra = len(old), int(node_type in (PROTEIN, DRUG, DISEASE))
            assert len(home.tables[node_type]) == n + extra
            for new, kept in ((home.tables, before.tables), (home.projections, before.projections)):
                assert np.array_equal(new[node_type][:n], kept[node_type])
                assert np.allclose(np.linalg.norm(new[node_type], axis=1), 1, atol=1e-5)
            among, kept_among = home.likeness[node_type].table_among, before.likeness[node_type].table_among
            assert among is not None and kept_among is not None and np.array_equal(among[:n, :n], kept_among)
            assert np.array_equal(among, among.T) and np.allclose(np.diagonal(among), 1, atol=1e-3) and among.dtype == np.float16
    finally:
        before.index.close()
    aligner = aligner_of(engine.graph, PROTEIN, make_encoder(Modality.PROTEIN, "kmer"))
    assert aligner is not None
    assert np.array_equal(home.likeness[PROTEIN].table_among, aligner.table(silent)), "as a build would align them"  # type: ignore[arg-type]


def test_the_starter_home_stays_in_use(added: tuple[Path, Report]) -> None:
    path = added[0]
    build_home(load_starter(), path, BuildOptions(DEFAULT_ENCODERS), silent)
    manifest = manifest_of(path)
    assert manifest.additions == 1 and manifest.built_sha256 == load_starter().sha256 != manifest.graph_sha256
    for _ in range(2):
        opened = open_engine(Settings(home=path, graph="starter"))
        assert ids(asked(opened, "ABLX", "drug", "target", 1)) == ["MY-1"]
        opened.close()


def test_a_page_opened_before_does_not_trip_over_new_nodes(added: tuple[Path, Report]) -> None:
    """It holds the graph of before, while the index holds more."""
    opened = open_home(added[0])
    try:
        before = additions(added[0])[0]["before"]
        graph = shortened(opened.graph, before["n_nodes"], before["n_edges"], before["n_sources"])
        tables = {t: x[: len(graph.by_type[t])] for t, x in opened.tables.items()}
        projections = {t: x[: len(graph.by_type[t])] for t, x in opened.projections.items()}
        likeness = {t: like.kept(np.arange(len(graph.by_type[t]))) for t, like in opened.likeness.items()}
        old = Engine(replace(opened, graph=graph, tables=tables, projections=projections, likeness=likeness), Settings(home=added[0]))
        assert "MY-1" not in ids(asked(old, "imatinib", "drug", SIMILAR, 3))
        assert "X:1" not in ids(asked(old, "ABL1", "disease"))
    finally:
        opened.index.close()


@pytest.mark.slow
def test_undoing_gives_the_home_back_bit_for_bit(starter: Path, yours: Given, tmp_path: Path) -> None:
    path = Path(shutil.copytree(starter, tmp_path / "home"))
    opened = open_engine(Settings(home=path))
    questions = [
        ("ABL1", "drug", "target"),
        ("imatinib", "drug", SIMILAR),
        ("imatinib", "gene/protein", "target"),
        ("leukemia", "drug", None),
    ]
    before, answers, held = contents(path), [asked(opened, *q) for q in questions], opened.home.index.counts()
    opened.close()
    add_to_home(path, yours, silent)
    assert contents(path).keys() != before.keys() and counts(path) != held
    record = undo(path, None, silent)
    assert record["number"] == 1 and record["nodes"] == [["gene/protein", "Q0TEST"], ["drug", "MY-1"], ["disease", "X:1"]]
    assert contents(path) == before and counts(path) == held and additions(path) == []
    opened = open_engine(Settings(home=path))
    assert [asked(opened, *q) for q in questions] == answers
    opened.close()


# --- the small home -------------------------------------------------------------------------------------------------------------------


def test_adding_again_changes_nothing(home: Path, files: Given) -> None:
    assert add_to_home(home, files, silent).number == 1
    before = contents(home)
    again = add_to_home(home, files, silent)
    assert (again.number, again.nodes, again.already, again.edges, again.known_edges) == (None, {}, 2, 0, 2)
    assert "Nothing new" in again.lines[-1] and contents(home) == before


def test_doubles_are_recognised(home: Path, tmp_path: Path) -> None:
    given = Given(
        fasta=[write(tmp_path / "p.fasta", f">P0\n{family(0)}\n>P1\n{mutant(family(1), 3)}\n>ALIAS\n{family(2).lower()}\n")],
        smiles=[write(tmp_path / "m.smi", "C1=CC=CC=C1C kekule\nCc1ccccc1.Cl salt\n")],
        triples=[write(tmp_path / "t.csv", "head,relation,tail\nALIAS,target,D5\nALIAS,target,salt\nP1,target,D0\n")],
    )
    report = add_to_home(home, given, silent)
    assert (report.nodes, report.already, report.recognised, report.edges, report.known_edges) == ({}, 1, 3, 1, 1)
    assert set(report.left_out) == {
        "id that stands for another node of the graph or of the files",
        "edge to an id that stands for two nodes",
    }
    assert any("ALIAS is KIN2 (P2)" in line for line in report.lines) and any("kekule is drugomab 0 (D0)" in line for line in report.lines)
    opened = open_engine(Settings(home=home))
    assert next(hit for hit in asked(opened, "P2", "drug", "target") if hit["id"] == "D5")["known"]
    assert next(hit for hit in asked(opened, "D5", "gene/protein", "target") if hit["id"] == "P2")["known"], "the other way round too"
    opened.close()


def test_additions_are_listed_and_undone_in_reverse_order(home: Path, files: Given, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no additions"):
        undo(home, None, silent)
    states = [contents(home)]
    add_to_home(home, files, silent)
    states.append(contents(home))
    add_to_home(home, Given(triples=[write(tmp_path / "more.csv", "head,relation,tail\nNEW1,target,D1\n")]), silent)
    first, second = additions(home)
    assert [f["option"] for f in first["files"]] == ["fasta", "smiles", "triples"] and len(first["files"][0]["sha256"]) == 64
    assert first["nodes"] == [["gene/protein", "NEW1"], ["drug", "new_drug"]] and first["counts"]["edges"] == {"added": 2, "already": 0}
    assert second["edges"] == [["gene/protein", "NEW1", "target", "drug", "D1", "added: more.csv"]]
    assert first["after"] == second["before"]
    with pytest.raises(InputError, match=r"Addition 1 is not the last.* in this order: 2"):
        undo(home, 1, silent)
    for wrong in (0, 3):
        with pytest.raises(InputError, match=f"no addition {wrong}"):
            undo(home, wrong, silent)
    assert undo(home, 2, silent)["number"] == 2 and contents(home) == states[1]
    assert undo(home, 1, silent)["number"] == 1 and contents(home) == states[0]


@pytest.mark.parametrize(("name", "text", "error", "word"), [
    ("fasta", f">g\n{'ACGT' * 30}\n", SequenceError, "looks like DNA or RNA"),
    ("fasta", "\0\0", FileError, "binary"),
    ("fasta", "", FileError, "empty"),
    ("smiles", "C1CC ring\n", MoleculeError, "RDKit cannot read"),
    ("smiles", "CCO\n", FileError, "holds nothing that can be added.* row without an id"),
    ("csv", "id,name\nA,b\n", FileError, "no column type"),
    ("triples", "head,relation,tail\nP0,cures,D0\n", InputError, "no relation 'cures'. It has: target"),
    ("triples", "head,relation,tail\nP0,target,P1\n", InputError, "from protein to protein"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_changes_nothing(
    home: Path, files: Given, tmp_path: Path, name: str, text: str, error: type[InputError], word: str
) -> None:
    before = contents(home)
    for given in (Given(), files):
        with pytest.raises(error, match=word) as found:
            add_to_home(home, replace(given, **{name: [write(tmp_path / "bad", text)]}), silent)
        assert contents(home) == before and "\n" not in str(found.value)


def test_nothing_and_missing_files_and_homes(home: Path, files: Given, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to add"):
        add_to_home(home, Given(), silent)
    with pytest.raises(FileError, match="No such file"):
        add_to_home(home, Given(fasta=[tmp_path / "none.fasta"]), silent)
    with pytest.raises(InputError, match="no built home"):
        add_to_home(tmp_path / "nowhere", files, silent)
    assert not (tmp_path / "nowhere").exists()
    with writing(home), pytest.raises(HomeLockedError):
        add_to_home(home, files, silent)


def test_types_that_the_home_does_not_hold_are_left_out(home: Path, tmp_path: Path) -> None:
    given = Given(csv=[write(tmp_path / "n.csv", "id,type,name,value\nX,disease,fever,Hot.\nN,drug,n,CCCCO\n")])
    report = add_to_home(home, given, silent)
    assert report.nodes == {"drug": 1} and report.left_out == {"node of a type that the graph has no nodes of": 1}


def test_released_vectors_cannot_be_added_to(home: Path, files: Given) -> None:
    data = json.loads((home / "manifest.json").read_text())
    released = f"released-gene-protein-{'0' * 16}-{data['dims']['protein']}"
    data["encoders"]["protein"] = data["encoder_names"]["protein"] = released
    (home / "manifest.json").write_text(json.dumps(data))
    before = contents(home)
    with pytest.raises(InputError, match="protein sequence outside the graph cannot be encoded here"):
        add_to_home(home, files, silent)
    assert contents(home) == before
    (files.triples[0]).write_text("head,relation,tail\nP0,target,D5\n")
    assert add_to_home(home, Given(triples=files.triples), silent).edges == 1, "edges among its nodes need no encoder"


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Tables of all pairs only for types of at most so many nodes."""
    for module in (adding, embedding, homes, training):
        monkeypatch.setattr(module, "MAX_PAIRS", most)


def likenesses(path: Path) -> dict[NodeType, str]:
    opened = open_home(path)
    opened.index.close()
    assert all((like.table_among is None) == (len(like.table) > homes.MAX_PAIRS) for like in opened.likeness.values())
    return {t: like.method for t, like in opened.likeness.items()}


@pytest.mark.parametrize("most", [8, 4])
def test_a_type_grows_where_not_all_pairs_are_compared(tmp_path: Path, files: Given, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """8 nodes of a type and more: the limit is passed by the first addition, or was passed when the home was built."""
    limited(monkeypatch, most)
    home = tmp_path / "home"
    build_home(small_graph(), home, OPTIONS, silent)
    built, held, tables = contents(home), counts(home), sorted((home / "similarities").glob("*"))
    assert likenesses(home)[PROTEIN] == ("alignment" if most == 8 else "cosine") and len(tables) == (2 if most == 8 else 0)
    opened = open_engine(Settings(home=home))
    answers = [asked(opened, "P0", "gene/protein", SIMILAR), asked(opened, "P0", "drug", "target")]
    opened.close()

    report = add_to_home(home, files, silent)
    once = contents(home)
    assert any("no longer by alignment" in line for line in report.lines) == (most == 8)
    more = Given([write(tmp_path / "q.fasta", f">NEW2\n{mutant(family(4), 9)}\n")])
    assert not any("alignment" in line for line in add_to_home(home, more, silent).lines)
    assert likenesses(home)[PROTEIN] == "cosine" and sorted((home / "similarities").glob("*")) == tables
    assert {name: data for name, data in contents(home).items() if "similar" in name}.items() <= built.items(), "no table has grown"
    opened = open_engine(Settings(home=home))
    assert (
        ids(asked(opened, "P0", "gene/protein", SIMILAR, 4))[0] == "NEW1"
        and ids(asked(opened, "NEW2", "gene/protein", SIMILAR, 4))[0] == "P4"
    )
    assert asked(opened, "NEW1", "drug", "target", 1)[0]["id"] in ("new_drug", "D0")
    found = opened.candidates(sequence=mutant(family(0), 11), to="drug", relation="target", top=4)
    assert {hit.node.id for hit in found.hits} <= {"D0", "D1", "D2", "D3", "new_drug"}
    opened.close()
    assert build_home(small_graph(), home, OPTIONS, silent).additions == 2

    assert undo(home, None, silent)["number"] == 2 and contents(home) == once
    assert undo(home, None, silent)["number"] == 1 and contents(home) == built and counts(home) == held
    assert likenesses(home)[PROTEIN] == ("alignment" if most == 8 else "cosine")
    opened = open_engine(Settings(home=home))
    assert [asked(opened, "P0", "gene/protein", SIMILAR), asked(opened, "P0", "drug", "target")] == answers
    opened.close()


def test_passing_the_limit_broken_off_is_carried_on(home: Path, files: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 8)
    before = contents(home)
    n = steps(lambda progress: add_to_home(Path(shutil.copytree(home, tmp_path / "other")), files, progress))
    for work, step, left in ((add_to_home, n - 6, 1), (undo, n - 8, 0)):
        with pytest.raises(Killed):
            work(home, files if work is add_to_home else None, killing(step))  # type: ignore[operator]
        assert not opens(home) and len(additions(home)) == left and opens(home)
    assert contents(home) == before


# --- packed files ---------------------------------------------------------------------------------------------------------------------


def packed(path: Path) -> Path:
    """The same file as .gz in two members, as bgzip writes them."""
    data = path.read_bytes()
    out = path.with_name(path.name + ".gz")
    out.write_bytes(gzip.compress(data[:20]) + gzip.compress(data[20:]))
    return out


def test_gzipped_files_are_read_as_plain_ones(small: Path, files: Given, tmp_path: Path) -> None:
    sdf = write(tmp_path / "s.sdf", write_sdf([("CCCCCCCN", {"name": "amine"})]))
    plain = replace(files, smiles=[*files.smiles, sdf], csv=[write(tmp_path / "n.csv", "id,type,name,value\nX,drug,other,CCCCO\n")])
    zipped = Given(*([packed(path) for path in getattr(plain, option)] for option in ("fasta", "smiles", "csv", "triples")))
    unnamed = replace(zipped, fasta=[Path(shutil.copy(zipped.fasta[0], tmp_path / "named.fasta"))])
    graphs = []
    for number, given in enumerate((plain, zipped, unnamed)):
        home = Path(shutil.copytree(small, tmp_path / str(number)))
        report = add_to_home(home, given, silent)
        assert report.nodes == {"gene/protein": 1, "drug": 3} and report.edges == 2 and not report.left_out
        opened = open_home(home)
        opened.index.close()
        graphs.append([(node.id, node.values) for node in opened.graph.nodes])
    assert graphs[0] == graphs[1] == graphs[2]
    record = additions(tmp_path / "1")[0]["files"][0]
    assert record["name"] == "p.fasta.gz" and record["sha256"] == hashlib.sha256(zipped.fasta[0].read_bytes()).hexdigest()


@pytest.mark.parametrize(("spoil", "word"), [
    (lambda data: data[:-12], "p.fasta.gz is cut off"),
    (lambda data: data[:5], "p.fasta.gz is cut off"),
    (lambda data: data[:-6] + bytes(6), "damaged gzip file"),
    (lambda data: data[:10] + bytes(len(data) - 10), "damaged gzip file"),
    (lambda data: data + b"more", "damaged gzip file"),
    (lambda data: gzip.compress(data), "binary"),
    (lambda _: gzip.compress(b""), "empty"),
    (lambda _: gzip.compress(b">A\n" + b"A" * 2_000_000), "at most 1 MB are read"),
])  # fmt: skip
def test_a_bad_gzip_file_is_one_line(
    home: Path, files: Given, spoil: Callable[[bytes], bytes], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file that unpacks to more than may be read is not unpacked beyond that."""
    monkeypatch.setattr(adding, "MAX_BYTES", 1_000_000)
    before, file = contents(home), packed(files.fasta[0])
    file.write_bytes(spoil(gzip.compress(files.fasta[0].read_bytes())))
    with pytest.raises(FileError, match=word) as found:
        add_to_home(home, Given(fasta=[file]), silent)
    assert contents(home) == before and "\n" not in str(found.value)


# --- broken off, built again, damaged -------------------------------------------------------------------------------------------------


def killing(at: int) -> Callable[[str, int, int], None]:
    left = at

    def progress(_stage: str, _done: int, _total: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return progress


def opens(path: Path) -> bool:
    """Whether the home opens; where it does not, the error says how to go on."""
    try:
        open_home(path).index.close()
    except HomeError as error:
        assert "broken off" in error.message and f"add --list --home {path}" in error.help
        return False
    return True


def steps(work: Callable[[Callable[[str, int, int], None]], object]) -> int:
    told: list[str] = []
    work(lambda stage, _done, _total: told.append(stage))
    return len(told)


@pytest.mark.parametrize(
    ("last", "stride"), [("add", 6), pytest.param("add", 1, marks=pytest.mark.slow), pytest.param("undo", 1, marks=pytest.mark.slow)]
)
def test_broken_off_at_any_step(small: Path, tmp_path: Path, files: Given, last: str, stride: int) -> None:
    """Each step is tried with a stride of 1; what is left opens as before or after, or says what to run, which carries it on."""
    whole = Path(shutil.copytree(small, tmp_path / "whole"))
    n = steps(lambda progress: add_to_home(whole, files, progress))
    states, held = (contents(small), contents(whole, records=False)), (counts(small), counts(whole))
    start = small
    if last == "undo":
        start = Path(shutil.copytree(whole, tmp_path / "start"))
        n = steps(lambda progress: undo(whole, None, progress))
    home, seen = tmp_path / "home", set()
    for at in [*range(0, n, stride), n - 1]:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(start, home)
        with pytest.raises(Killed):
            if last == "add":
                add_to_home(home, files, killing(at))
            else:
                undo(home, None, killing(at))
        opened = opens(home)
        done = len(additions(home))
        seen.add((opened, done))
        assert opens(home) and counts(home) == held[done] and contents(home, records=False) == states[done]
        assert not [name for name in contents(home) if "staging" in name or "pending" in name]
    assert seen == {(True, 0), (False, int(last == "add")), (True, 1)}


@pytest.mark.slow
def test_a_process_that_dies_is_carried_on_by_the_next(home: Path, files: Given) -> None:
    code = """
import os, sys
from pathlib import Path
from biobridge_rag import adding, embedding, homes
def progress(stage, done, total):
    if stage.startswith("putting") and done == 4:
        os._exit(9)
adding.add_to_home(Path(sys.argv[1]), adding.Given([Path(sys.argv[2])], [Path(sys.argv[3])], [], [Path(sys.argv[4])]), progress)
"""
    arguments = [str(home), *map(str, (files.fasta[0], files.smiles[0], files.triples[0]))]
    assert subprocess.run([sys.executable, "-c", code, *arguments], timeout=120).returncode == 9
    assert not opens(home)
    again = add_to_home(home, files, silent)
    assert (again.number, again.already, again.known_edges) == (None, 2, 2) and opens(home)


def test_a_build_carries_on_what_was_broken_off(home: Path, files: Given) -> None:
    n = steps(lambda progress: add_to_home(Path(shutil.copytree(home, home.parent / "other")), files, progress))
    with pytest.raises(Killed):
        add_to_home(home, files, killing(n - 6))
    assert not opens(home)
    manifest = build_home(small_graph(), home, OPTIONS, silent)
    assert manifest.additions == 1 and manifest == read_manifest(home) and opens(home)


@pytest.mark.parametrize("file", ["embeddings/drug-*.npy", "projections/drug.npy", "similarities/gene-protein.npy"])
def test_a_build_mends_a_home_with_additions(home: Path, files: Given, file: str) -> None:
    add_to_home(home, files, silent)
    before = contents(home)
    next(iter(home.glob(file))).write_bytes(b"torn")
    build_home(small_graph(), home, OPTIONS, silent)
    opened = open_engine(Settings(home=home))
    assert "NEW1" in ids(asked(opened, "new_drug", "gene/protein", "target"))
    opened.close()
    assert contents(home).keys() == before.keys() and undo(home, None, silent)["number"] == 1 and opens(home)


def test_a_build_does_not_train_or_replace_what_was_added_to(home: Path, files: Given) -> None:
    add_to_home(home, files, silent)
    before = contents(home)
    with pytest.raises(HomeMismatchError, match=r"holds 1 additions.* Undo them first"):
        build_home(small_graph(), home, replace(OPTIONS, train=True), silent)
    with pytest.raises(HomeMismatchError, match="another version"):
        build_home(small_graph().without_heads([0]), home, OPTIONS, silent)
    assert contents(home) == before
    (home / "graph" / "nodes.parquet").write_bytes(b"torn")
    with pytest.raises(HomeError, match="which holds 1 additions, is damaged"):
        build_home(small_graph(), home, OPTIONS, silent)


@pytest.mark.parametrize("damage", ["gone", "torn", "other"])
def test_a_damaged_record_is_one_line(home: Path, files: Given, damage: str) -> None:
    add_to_home(home, files, silent)
    record = home / "additions" / "1.json"
    if damage == "gone":
        record.unlink()
    else:
        record.write_text("{" if damage == "torn" else json.dumps({**json.loads(record.read_text()), "number": 2}))
    for call in (lambda: additions(home), lambda: undo(home, None, silent)):
        with pytest.raises(HomeError, match=r"1.json is missing or damaged"):
            call()
    assert opens(home)


def test_a_damaged_journal_is_one_line(home: Path) -> None:
    (home / "additions").mkdir()
    (home / "additions" / "pending.json").write_text("{")
    for call in (lambda: open_home(home), lambda: additions(home)):
        with pytest.raises(HomeError, match=r"pending.json is damaged"):
            call()


# --- the command ----------------------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> Any:
    app = typer.Typer()
    app.command("add")(add_command)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["add", *map(str, arguments)])


def test_the_command_adds_lists_and_undoes(home: Path, files: Given) -> None:
    given = ["--fasta", files.fasta[0], "--smiles", files.smiles[0], "--triples", files.triples[0]]
    found = command("--home", home, *given, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == {
        "home": str(home), "addition": 1, "nodes": {"added": {"gene/protein": 1, "drug": 1}, "already": 0, "recognised": 0},
        "edges": {"added": 2, "already": 0}, "left_out": {},
    }  # fmt: skip
    assert "not trained again: new edges" in found.stderr
    listed = command("--home", home, "--list", "--json")
    assert [a["number"] for a in json.loads(listed.stdout)["additions"]] == [1] and "p.fasta" in listed.stderr
    undone = command("--home", home, "--undo", 1, "--json")
    assert json.loads(undone.stdout) == {"home": str(home), "undone": 1, "nodes": 2, "edges": 2}
    assert command("--home", home, "--list").stdout == ""


@pytest.mark.parametrize(("arguments", "word"), [
    (["--list", "--undo"], "one of them"), (["3"], "says nothing without --undo"), ([], "nothing to add"),
    (["--list", "--graph", "elsewhere"], "built with the graph 'small', not 'elsewhere'"),
])  # fmt: skip
def test_the_command_refuses_what_makes_no_sense(home: Path, arguments: list[str], word: str) -> None:
    found = command("--home", home, *arguments)
    assert isinstance(found.exception, InputError) and word in str(found.exception)
