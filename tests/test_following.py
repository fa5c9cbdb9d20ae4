"""The further processes of a build under torchrun. That two processes train what one does is tested with the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biobridge_rag import following
from biobridge_rag.building import DEFAULT_ENCODERS, BuildOptions, OfficialTraining
from biobridge_rag.errors import InputError
from biobridge_rag.graph.starter import load_starter
from biobridge_rag.homes import STAGES
from biobridge_rag.store.manifest import Manifest, write_manifest


def manifest(stages: tuple[str, ...]) -> Manifest:
    return Manifest("starter", "x", {}, {}, {}, "official", 0, 1, stages=stages)


def test_the_rank_is_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert following.rank() == 0
    monkeypatch.setenv("RANK", "3")
    assert following.rank() == 3


def test_only_the_official_bridge_is_trained_in_several_processes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--bridge official"):
        following.follow(load_starter(), tmp_path, BuildOptions(DEFAULT_ENCODERS), lambda *_: None)


@pytest.mark.parametrize("train", [False, True])
def test_it_waits_for_the_embeddings_and_trains_with_the_options_of_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: bool
) -> None:
    waits, calls = [], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        write_manifest(tmp_path, manifest(STAGES[: len(waits)]))

    def record(*_: Any, **options: Any) -> None:
        calls.append(options)

    monkeypatch.setattr(following.time, "sleep", sleep)
    monkeypatch.setattr(following, "embed", lambda *_: {})
    monkeypatch.setattr("biobridge_rag.bridge.official_training.train_official", record)
    options = BuildOptions(DEFAULT_ENCODERS, "official", 3, "cpu", 5, train, OfficialTraining(patience=2, balance=0.5))
    following.follow(load_starter(), tmp_path, options, lambda *_: None)
    assert len(waits) == 2
    wanted = {"epochs": 3, "seed": 5, "device": "cpu", "patience": 2, "balance": 0.5, "checkpoints": tmp_path / "bridge" / "training"}
    assert [{key: call[key] for key in wanted} for call in calls] == [wanted] and "negatives" not in calls[0]


def test_a_finished_home_needs_no_help_unless_it_is_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    write_manifest(tmp_path, manifest(STAGES))
    monkeypatch.setattr(following, "embed", lambda *_: {})
    monkeypatch.setattr("biobridge_rag.bridge.official_training.train_official", lambda *_, **__: calls.append("trained"))
    for train in (False, True):
        following.follow(load_starter(), tmp_path, BuildOptions(DEFAULT_ENCODERS, "official", train=train), lambda *_: None)
    assert calls == ["trained"]
