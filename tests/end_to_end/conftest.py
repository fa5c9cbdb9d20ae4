"""A tiny graph in PrimeKG's layout, homes built from it and from the starter graph, and the command line in process and out of it.

Knows: the file layout and the commands. Does not know: how anything is computed.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
KINDS = ("kinase", "receptor", "channel", "transferase")
SCAFFOLDS = ("c1ccccc1", "C1CCNCC1", "c1ccc2[nH]ccc2c1", "S(=O)(=O)N")
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line of an error; fails where there is more, or where stdout holds anything."""
        lines = self.err.splitlines()
        assert self.out == "" and len(lines) == 1 and lines[0].startswith("biobridge-rag: "), self
        assert "Traceback" not in self.err and 20 < len(lines[0]) < 800, self
        return lines[0]


def environment(**more: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests, on one core, with compiled modules kept."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BIOBRIDGE_")}
    for name in ("OPENAI_API_KEY", "PYTHONDONTWRITEBYTECODE"):
        kept.pop(name, None)
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def start(*arguments: object, code: str = "from biobridge_rag.cli import main; main()", **more: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(), **more}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=given.pop("cwd", ROOT), **given)


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Result:
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert TRACEBACK not in (err or ""), err
    return Result(process.returncode, out or "", err or "")


def call(*arguments: object, **more: Any) -> Result:
    """Runs the command line in a process of its own and waits for it."""
    return finish(start(*arguments, **more))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs the command line in this process, through the same function as the console script."""

    def run(*arguments: object) -> Result:
        from biobridge_rag import cli as commands

        capsys.readouterr()
        code = commands._run(lambda: commands.app(args=[str(a) for a in arguments], standalone_mode=False))
        captured = capsys.readouterr()
        assert TRACEBACK not in captured.err, captured.err
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [k for k in os.environ if k.startswith("BIOBRIDGE_") or k == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)


def known(hits: list[dict[str, Any]]) -> set[str]:
    """The ids of the hits that are edges of the graph."""
    return {hit["id"] for hit in hits if hit["known"]}


def protein(i: int) -> str:
    """The sequence of protein i: five mutants of each of four ancestors."""
    rng = random.Random(i // 5)
    ancestor = [rng.choice(RESIDUES) for _ in range(120)]
    rng = random.Random(1000 + i)
    for at in rng.sample(range(120), 20):
        ancestor[at] = rng.choice(RESIDUES)
    return "M" + "".join(ancestor)


def smiles(i: int) -> str:
    """The structure of drug i: five chain lengths on each of four scaffolds."""
    return "C" * (i % 5 + 1) + "OCC" + SCAFFOLDS[i // 5]


def write_graph(
    directory: Path, proteins: range, drugs: range, diseases: range, seed: int = 0, also: dict[str, range] | None = None
) -> Path:
    """Nodes in PrimeKG's layout, and edges among them; `also` (protein, drug, disease) are nodes that edges may lead to but that
    are not listed. Proteins of one family share most of their drugs and diseases."""
    directory.mkdir(parents=True, exist_ok=True)
    index: dict[tuple[str, str], int] = {}
    nodes, tables = [], {"protein": [], "drug": [], "disease": []}  # type: ignore[var-annotated]
    for i in proteins:
        node = (f"P{i:05d}", "gene/protein", f"{KINDS[i // 5 % 4].upper()[:4]}{i}")
        nodes.append((*node, "UniProt"))
        tables["protein"].append((node[0], len(nodes) - 1, node[2], "gene/protein", "UniProt", protein(i)))
    for i in drugs:
        node = (f"DB9{i:04d}", "drug", f"{KINDS[i // 5 % 4]}mab-{i}")
        nodes.append((*node, "DrugBank"))
        tables["drug"].append((len(nodes) - 1, node[0], node[2], smiles(i), f"Acts on the {KINDS[i // 5 % 4]} family."))
    for i in diseases:
        node = (f"MONDO{i}", "disease", f"{KINDS[i % 4]} deficiency {i}")
        nodes.append((*node, "MONDO"))
        tables["disease"].append((len(nodes) - 1, node[0], node[2], f"Too little of the {KINDS[i % 4]}."))
    index = {(n[1], n[0]): k for k, n in enumerate(nodes)}
    also = also or {}
    rng = random.Random(seed)
    edges = []
    for p in sorted({*proteins, *also.get("protein", ())}):
        for d in sorted({*drugs, *also.get("drug", ())}):
            if rng.random() < (0.75 if p // 5 == d // 5 else 0.03):
                edges.append(("target", f"P{p:05d}", "gene/protein", f"DB9{d:04d}", "drug"))
        for s in sorted({*diseases, *also.get("disease", ())}):
            if rng.random() < (0.7 if p // 5 == s % 4 else 0.05):
                edges.append(("associated with", f"P{p:05d}", "gene/protein", f"MONDO{s}", "disease"))
    for d in sorted({*drugs, *also.get("drug", ())}):
        for s in sorted({*diseases, *also.get("disease", ())}):
            if rng.random() < (0.6 if d // 5 == s % 4 else 0.05):
                edges.append(("indication", f"DB9{d:04d}", "drug", f"MONDO{s}", "disease"))
    listed = {(n[1], n[0]) for n in nodes}
    if also:  # a cut: only edges with one unlisted end
        edges = [e for e in edges if ((e[2], e[1]) in listed) != ((e[4], e[3]) in listed)]
    rows = [(f"raw {r}", r, index.get((xt, x), -1), x, xt, x, "s", index.get((yt, y), -1), y, yt, y, "s") for r, x, xt, y, yt in edges]
    rows += [(*r[:2], *r[7:], *r[2:7]) for r in rows]
    _table(directory, "nodes", "node_index,node_id,node_type,node_name,node_source", [(k, *n) for k, n in enumerate(nodes)])
    _table(directory, "kg", "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source", rows)
    _table(directory, "protein", "node_id,node_index,node_name,node_type,node_source,sequence", tables["protein"])
    _table(directory, "drug", "node_index,drugbank_id,node_name,smiles,description", tables["drug"])
    _table(directory, "disease", "node_index,mondo_id,mondo_name,definition", tables["disease"])
    return directory


def _table(directory: Path, stem: str, header: str, rows: list[tuple[Any, ...]]) -> None:
    with (directory / f"{stem}.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([header.split(","), *rows])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 proteins, 20 drugs and 10 diseases in PrimeKG's layout."""
    return write_graph(tmp_path_factory.mktemp("graphs") / "tiny", range(20), range(20), range(10))


@pytest.fixture(scope="session")
def tiny_built(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A home of the tiny graph, built once by the real command line, and what the build said."""
    home = tmp_path_factory.mktemp("homes") / "tiny"
    return home, call("build", "--graph", tiny, "--home", home, "--json")


@pytest.fixture(scope="session")
def tiny_home(tiny_built: tuple[Path, Result]) -> Path:
    assert tiny_built[1].code == 0, tiny_built[1]
    return tiny_built[0]


@pytest.fixture
def own_home(tiny_home: Path, tmp_path: Path) -> Path:
    """A copy of the tiny home that a test may damage."""
    return Path(shutil.copytree(tiny_home, tmp_path / "own"))


@pytest.fixture(scope="session")
def starter_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter home, built as the first question builds it; the question's answer lies beside it."""
    home = tmp_path_factory.mktemp("homes") / "starter"
    result = call("candidates", "--home", home, "--node", "ABL1", "--top", "5", "--json")
    assert result.code == 0, result
    (home.parent / "first.json").write_text(result.out)
    (home.parent / "first.err").write_text(result.err)
    return home


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    """Threads that wait for each other cost minutes on a busy machine; the processes that are started use one core as well."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)
