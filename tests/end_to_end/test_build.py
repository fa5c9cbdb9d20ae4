"""`build`: once, again, with other options, broken off at any point, by two processes at once, and on a full disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from biobridge_rag import embedding, homes
from biobridge_rag.bridge import training
from biobridge_rag.encoders.alignment import SequenceAligner
from biobridge_rag.errors import HomeError
from biobridge_rag.homes import open_home
from biobridge_rag.types import NodeType

from .conftest import Result, call, finish, known, protein, start, write_graph

Cli = Callable[..., Result]
STAGES = ["graph", "embeddings", "bridge", "index"]

# The command line, which at the first progress of one stage waits for a line on stdin or sends itself a signal.
DISTURBED = """
import os, signal, sys
from biobridge_rag import cli
stage, action = sys.argv.pop(1), sys.argv.pop(1)
shown, todo = cli.Progress.__call__, [action]
def watch(self, name, done, total):
    shown(self, name, done, total)
    if name == stage and todo:
        todo.clear()
        if action == "wait":
            print("waiting", file=sys.stderr, flush=True)
            sys.stdin.readline()
        else:
            os.kill(os.getpid(), getattr(signal, action))
cli.Progress.__call__ = watch
cli.main()
"""


class Undisturbed(NamedTuple):
    """A home that one process built while another was refused, and what both and a question of the meantime said."""

    graph: Path
    home: Path
    built: Result
    refused: Result
    asked: Result


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph of proteins and drugs alone, which needs no text encoder."""
    return write_graph(tmp_path_factory.mktemp("graphs") / "pairs", range(20), range(20), range(0))


@pytest.fixture(scope="module")
def undisturbed(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    home = tmp_path_factory.mktemp("homes") / "pairs"
    first = start("training relations", "wait", "build", "--graph", pairs, "--home", home, code=DISTURBED, stdin=subprocess.PIPE)
    try:
        assert first.stderr is not None and first.stdin is not None
        while (line := first.stderr.readline()) != "waiting\n":
            assert line, "the build ended before it trained"
        refused = call("build", "--graph", pairs, "--home", home, "--json")
        asked = call("candidates", "--home", home, "--node", "KINA0", "--json")
        first.stdin.write("\n")
        first.stdin.flush()
        built = finish(first)
    finally:
        first.kill()
    assert built.code == 0, built
    return Undisturbed(pairs, home, built, refused, asked)


@pytest.fixture
def copy(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed.home, tmp_path / "copy"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(home: Path) -> dict[str, str]:
    """Hashes of everything that answers depend on, but for Chroma's own files."""
    files = [
        p for p in home.rglob("*") if p.is_file() and "chroma" not in p.parts and p.suffix in (".npy", ".json", ".safetensors", ".parquet")
    ]
    return {str(p.relative_to(home)): sha256(p) for p in files}


def answers(cli: Cli, home: Path) -> list[Any]:
    return [cli("candidates", "--home", home, "--node", node, "--json").json["hits"] for node in ("KINA0", "TRAN17")]


def test_the_build_says_what_it_made_and_nothing_else_on_stdout(tiny_built: tuple[Path, Result]) -> None:
    home, result = tiny_built
    said = result.json
    manifest = json.loads((home / "manifest.json").read_text())
    assert result.code == 0 and set(said) == {
        "home",
        "graph",
        "nodes",
        "edges",
        "skipped",
        "encoders",
        "bridge",
        "bridge_sha256",
        "seconds",
    }
    assert (said["home"], said["graph"], said["nodes"], said["bridge"]) == (str(home), "tiny", 50, "default")
    assert said["bridge_sha256"] == manifest["bridge_sha256"] == sha256(home / "bridge" / "model.safetensors")
    assert manifest["stages"] == STAGES and manifest["encoder_names"] == {
        "protein": "kmer",
        "molecule": "fingerprint",
        "text": "minilm-spelled",
    }
    assert "50 nodes" in result.err.splitlines()[-1] and "training relations: 6 of 6" in result.err
    assert {p.name for p in home.iterdir()} == {
        "manifest.json", "graph", "embeddings", "similarities", "bridge", "fusion.json", "projections", "chroma", ".lock",
    }  # fmt: skip


def similarities(home: Path) -> dict[str, np.ndarray]:
    return {p.stem: np.load(p) for p in sorted((home / "similarities").iterdir())}


def test_the_home_holds_the_similarities_of_all_types(tiny_home: Path) -> None:
    """Of proteins by alignment, of the others the cosines of their vectors."""
    found, home = similarities(tiny_home), open_home(tiny_home)
    home.index.close()
    assert {name: (table.shape, table.dtype) for name, table in found.items()} == {
        name: ((n, n), np.float16) for name, n in (("gene-protein", 20), ("drug", 20), ("disease", 10))
    }
    assert np.array_equal(found["gene-protein"], SequenceAligner([protein(i) for i in range(20)]).table(lambda *_: None))
    for node_type in (NodeType.DRUG, NodeType.DISEASE):
        x = home.tables[node_type]
        assert np.allclose(found[node_type.slug], x @ x.T, atol=2e-3)
    assert {t.slug: like.method for t, like in home.likeness.items()} == {
        "gene-protein": "alignment",
        "drug": "cosine",
        "disease": "cosine",
    }
    assert all(np.array_equal(like.among(np.arange(10)), found[t.slug][:10, :10]) for t, like in home.likeness.items())


@pytest.mark.parametrize("damage", ["gone", "truncated", "of fewer nodes"])
@pytest.mark.parametrize("name", ["gene-protein", "drug"])
def test_damaged_similarities_are_reported_in_one_line_and_made_again(
    cli: Cli, copy: Path, undisturbed: Undisturbed, damage: str, name: str
) -> None:
    """Nothing is encoded or trained for it. Cosines that are gone are computed where they are needed, so no damage is reported."""
    file, before = copy / "similarities" / f"{name}.npy", made(copy)
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(whole[: len(whole) // 2])
    else:
        np.save(file, np.load(file)[:-1, :-1])
    if (damage, name) == ("gone", "drug"):
        assert answers(cli, copy) == answers(cli, undisturbed.home)
        return
    with pytest.raises(HomeError) as error:
        open_home(copy)
    assert len(str(error.value).splitlines()) == 1 and str(copy) in str(error.value) and "build" in str(error.value.help)
    result = cli("build", "--graph", undisturbed.graph, "--home", copy)
    assert result.code == 0 and "training" not in result.err and "encoding" not in result.err
    assert ("aligning sequences: 20 of 20" in result.err) == (name == "gene-protein")
    assert file.read_bytes() == whole and made(copy) == before
    open_home(copy).index.close()


def test_a_type_with_too_many_nodes_is_compared_by_cosines_alone(
    cli: Cli, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 proteins and 20 drugs: at 20 all are compared, at 19 none, and the home answers by the vectors."""
    question = ("candidates", "--sequence", protein(3)[:60] + protein(4)[60:], "--to", "gene/protein", "--json")
    for limit, files, method in ((20, {"drug", "gene-protein"}, "alignment"), (19, set(), "cosine")):
        for module in (embedding, homes, training):
            monkeypatch.setattr(module, "MAX_PAIRS", limit)
        home = tmp_path / str(limit)
        result = cli("build", "--graph", undisturbed.graph, "--home", home)
        assert result.code == 0 and ("aligning" in result.err) == (method == "alignment")
        assert set(similarities(home)) == files
        opened = open_home(home)
        opened.index.close()
        assert opened.likeness[NodeType.PROTEIN].method == method
        assert (opened.likeness[NodeType.PROTEIN].table_among is None) == (not files)
        assert method in cli(*question, "--home", home).json["notes"][0]
        assert all(known(hits) for hits in answers(cli, home))


def test_a_second_process_is_refused_and_the_first_goes_on_unharmed(undisturbed: Undisturbed) -> None:
    assert undisturbed.refused.code == 1
    assert f"Another process is building {undisturbed.home}" in undisturbed.refused.line
    assert undisturbed.asked.code == 1 and "only half built (graph, embeddings done)" in undisturbed.asked.line
    assert json.loads((undisturbed.home / "manifest.json").read_text())["stages"] == STAGES


def test_building_again_changes_nothing(cli: Cli, copy: Path, undisturbed: Undisturbed) -> None:
    before, stamps = made(copy), {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file() and p.suffix != ".sqlite3"}
    counts = chroma_counts(copy)
    for _ in range(2):
        result = cli("build", "--graph", undisturbed.graph, "--home", copy, "--json")
        assert result.code == 0 and result.json["bridge_sha256"] == json.loads((copy / "manifest.json").read_text())["bridge_sha256"]
        assert "training" not in result.err and "indexing" not in result.err
    assert made(copy) == before and chroma_counts(copy) == counts == dict.fromkeys(counts, 20) and len(counts) == 4
    changed = [
        p for p, stamp in stamps.items() if p.exists() and p.stat().st_mtime_ns != stamp and "chroma" not in p.parts and p.name != ".lock"
    ]
    assert changed == []


def chroma_counts(home: Path) -> dict[str, int]:
    from biobridge_rag.store.index import NodeIndex

    index = NodeIndex(home / "chroma")
    try:
        return index.counts()
    finally:
        index.close()


def test_any_chroma_client_reads_the_home(undisturbed: Undisturbed, tmp_path: Path) -> None:
    import chromadb

    folder = shutil.copytree(undisturbed.home / "chroma", tmp_path / "chroma")
    client = chromadb.PersistentClient(path=str(folder))
    assert {c.name for c in client.list_collections()} == {f"{t}.{s}" for t in ("gene-protein", "drug") for s in ("frozen", "bridge")}
    found = client.get_collection("drug.frozen").get(ids=["DB90003"], include=["documents", "metadatas"])
    assert found["documents"] == ["kinasemab-3. Acts on the kinase family."]
    assert found["metadatas"] is not None and found["metadatas"][0]["name"] == "kinasemab-3" and found["metadatas"][0]["type"] == "drug"


def test_kill_and_ctrl_c_at_any_stage_lose_nothing(cli: Cli, undisturbed: Undisturbed, tmp_path: Path) -> None:
    home = tmp_path / "home"
    arguments = ("build", "--graph", undisturbed.graph, "--home", home, "--json")
    for stage, sign, code, stages in (
        ("encoding drug (characters)", "SIGKILL", -signal.SIGKILL, ["graph"]),
        ("aligning sequences", "SIGKILL", -signal.SIGKILL, ["graph"]),
        ("learning fusion", "SIGINT", 130, STAGES[:2]),
        ("indexing drug.frozen", "SIGKILL", -signal.SIGKILL, STAGES[:3]),
    ):
        result = finish(start(stage, sign, *arguments, code=DISTURBED))
        assert result.code == code and result.out == ""
        assert json.loads((home / "manifest.json").read_text())["stages"] == stages
        if sign == "SIGINT":
            assert result.err.splitlines()[-1] == "biobridge-rag: stopped. The same command goes on where it stopped."
    last = call(*arguments)
    assert (
        last.code == 0
        and not any(w in last.err for w in ("encoding", "aligning", "training"))
        and "indexing drug.bridge: 20 of 20" in last.err
    )
    assert last.json["bridge_sha256"] == undisturbed.built.err.splitlines()[-1].split()[-1] + last.json["bridge_sha256"][16:]
    assert made(home) == made(undisturbed.home)
    assert chroma_counts(home) == {f"{t}.{s}": 20 for t in ("gene-protein", "drug") for s in ("frozen", "bridge")}
    assert answers(cli, home) == answers(cli, undisturbed.home)
    assert not list(home.rglob("*.tmp")) and not list(home.rglob("*.part"))


def test_the_seed_changes_the_bridge(cli: Cli, undisturbed: Undisturbed, tmp_path: Path) -> None:
    result = cli("build", "--graph", undisturbed.graph, "--home", tmp_path / "home", "--seed", "1", "--json")
    usual = json.loads((undisturbed.home / "manifest.json").read_text())
    assert result.code == 0 and json.loads((tmp_path / "home" / "manifest.json").read_text())["seed"] == 1
    assert result.json["bridge_sha256"] != usual["bridge_sha256"]


def test_the_bridge_and_the_epochs_are_those_asked_for(cli: Cli, undisturbed: Undisturbed, tmp_path: Path) -> None:
    hashes = set()
    for epochs in (1, 2):
        home = tmp_path / str(epochs)
        result = cli("build", "--graph", undisturbed.graph, "--home", home, "--bridge", "official", "--epochs", epochs, "--json")
        assert result.code == 0 and result.json["bridge"] == "official"
        assert json.loads((home / "manifest.json").read_text())["epochs"] == epochs
        assert json.loads((home / "bridge" / "config.json").read_text())["kind"] == "official"
        assert answers(cli, home) != answers(cli, undisturbed.home)
        hashes.add(result.json["bridge_sha256"])
    assert len(hashes) == 2


def test_train_trains_a_finished_home_again(cli: Cli, copy: Path, undisturbed: Undisturbed) -> None:
    result = cli("build", "--graph", undisturbed.graph, "--home", copy, "--train", "--json")
    assert result.code == 0 and "training relations" in result.err
    assert json.loads((copy / "manifest.json").read_text())["stages"] == STAGES
    assert answers(cli, copy)


def test_the_starter_home_takes_the_bridge_that_ships(starter_home: Path) -> None:
    shipped = Path(__file__).parents[2] / "biobridge_rag" / "graph" / "starter" / "bridge"
    if not shipped.is_dir():
        pytest.skip("the package holds no trained bridge")
    assert sha256(starter_home / "bridge" / "model.safetensors") == sha256(shipped / "model.safetensors")
    assert "training" not in (starter_home.parent / "first.err").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--seed", "1"), "seed is 0, not 1"), (("--epochs", "9"), "epochs is 2, not 9"),
        (("--bridge", "official"), "bridge kind is 'default', not 'official'"),
        (("--graph", "starter"), "holds the graph 'pairs', not 'starter'"),
    ],
)  # fmt: skip
def test_a_home_of_something_else_is_refused_and_left_alone(
    cli: Cli, undisturbed: Undisturbed, arguments: tuple[str, ...], says: str
) -> None:
    before = made(undisturbed.home)
    result = cli("build", "--graph", undisturbed.graph, "--home", undisturbed.home, *arguments)
    assert result.code == 2 and says in result.line and "Choose another --home" in result.line
    assert made(undisturbed.home) == before


def test_the_same_name_with_other_content_is_refused(cli: Cli, undisturbed: Undisturbed, tmp_path: Path) -> None:
    other = write_graph(tmp_path / "pairs", range(20), range(20), range(0), seed=5)
    result = cli("build", "--graph", other, "--home", undisturbed.home)
    assert result.code == 2 and "the graph 'pairs' in another version" in result.line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, made with 40 kB of room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root and mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_the_next_build_goes_on(cli: Cli, undisturbed: Undisturbed, small_disk: Path) -> None:
    home, lines, stages = small_disk / "home", [], []
    arguments = ("build", "--graph", undisturbed.graph, "--home", home, "--json")
    for size in ("40k", "300k", "900k", "1500k", "2m", "2500k", "3m", "3500k", "4m", "5m"):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(small_disk)], check=True)
        result = cli(*arguments)
        if result.code == 0:
            break
        errors = [line for line in result.err.splitlines() if line.startswith("biobridge-rag: ")]
        assert result.code == 1 and result.out == "" and len(errors) == 1 and result.err.splitlines()[-1] == errors[0], result
        assert "goes on where it stopped" in errors[0] or "build again" in errors[0], errors
        lines.append(errors[0])
        stages.append(json.loads((home / "manifest.json").read_text())["stages"] if (home / "manifest.json").exists() else [])
    assert len(lines) >= 4 and stages == sorted(stages, key=len) and ["graph"] in stages and STAGES[:3] in stages, (lines, stages)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    result = cli(*arguments)
    assert result.code == 0, result
    manifest = json.loads((home / "manifest.json").read_text())
    assert manifest["stages"] == STAGES
    assert [known(hits) for hits in answers(cli, home)] == [known(hits) for hits in answers(cli, undisturbed.home)]
