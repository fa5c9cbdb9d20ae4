"""The command `replay`: its exit codes, its lines, its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from biobridge_rag.cli import main
from biobridge_rag.qa.bundles import save_bundle
from tests.qa.small_engine import SmallEngine
from tests.qa.test_bundles import Model, edited, talk

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(tmp_path: Path) -> SmallEngine:
    return SmallEngine(tmp_path)


@pytest.fixture
def run(engine: SmallEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr("biobridge_rag.cli_replay.opened_engine", lambda *_, **__: engine)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["biobridge-rag", "replay", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return call


def test_the_same_is_exit_0(run: Run, engine: SmallEngine, tmp_path: Path) -> None:
    save_bundle(talk(engine, "Which drugs target EGFR?", "the second one"), tmp_path / "a.json")
    assert run(tmp_path / "a.json") == (0, "2 turns asked again: the same.\n", "")
    code, out, _ = run(tmp_path / "a.json", "--json")
    assert code == 0 and json.loads(out) == {"turns": 2, "same": True, "recorded": False, "differences": [], "around": []}


def test_a_difference_is_exit_1_and_listed(run: Run, engine: SmallEngine, tmp_path: Path) -> None:
    bundle = edited(talk(engine, "hello", "Which drugs target EGFR?"), text="Something else.")
    save_bundle(bundle, tmp_path / "a.json")
    code, out, _ = run(tmp_path / "a.json")
    assert code == 1 and out.startswith("turn 1, text:\n  recorded: Something else.\n  now:      ")
    assert out.endswith("2 turns asked again: 1 with differences.\n")
    code, out, _ = run(tmp_path / "a.json", "--json")
    assert code == 1 and [d["field"] for d in json.loads(out)["differences"]] == ["text"]


def test_bad_input_is_exit_2_and_one_line(run: Run, engine: SmallEngine, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    save_bundle(talk(engine, "Which drugs target EGFR?", model=Model("Gefitinib targets EGFR [2].")), tmp_path / "m.json")
    for arguments in (
        [tmp_path / "none.json"], [tmp_path / "x.json"], [tmp_path / "m.json"], [tmp_path / "m.json", "--recorded", "--llm", "x"]
    ):  # fmt: skip
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and len(err.splitlines()) == 1, (arguments, err)
    code, out, _ = run(tmp_path / "m.json", "--recorded")
    assert code == 0 and out == "1 turn asked again: the same.\n"
