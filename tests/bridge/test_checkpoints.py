"""Checkpoints: whole or not at all, of the same run or refused, and nothing in them is run."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from biobridge_rag.bridge.checkpoints import CHECKPOINT, RECORD, EpochRow, read_checkpoint, write_checkpoint, write_record
from biobridge_rag.errors import DiskFullError, HomeError, HomeMismatchError

RUN = {"seed": 1, "patience": None, "graph": "a" * 64}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state = {"network": {"w": torch.arange(3.0)}, "epoch": 2, "best": {"mrr": 0.5, "epoch": None}}
    assert read_checkpoint(tmp_path / "a", RUN) is None
    write_checkpoint(tmp_path / "a", RUN, state)
    read = read_checkpoint(tmp_path / "a", RUN)
    assert torch.equal(read["network"]["w"], torch.arange(3.0)) and read["epoch"] == 2 and read["best"] == state["best"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == [CHECKPOINT]


def test_a_checkpoint_of_another_run_names_what_differs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, RUN, {})
    with pytest.raises(HomeMismatchError, match=r"graph aaaaaaaaaaaa, not bbbbbbbbbbbb, seed 1, not 2\.") as caught:
        read_checkpoint(tmp_path, {**RUN, "seed": 2, "graph": "b" * 64})
    assert "Delete" in caught.value.help


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path, damage: bytes | None) -> None:
    write_checkpoint(tmp_path, RUN, {"w": torch.zeros(1000)})
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:900] if damage is None else damage)
    with pytest.raises(HomeError, match="damaged"):
        read_checkpoint(tmp_path, RUN)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was run"),)

    for content in (pickle.dumps(Evil()), None):
        if content is None:
            torch.save({"version": 1, "run": RUN, "state": Evil()}, tmp_path / CHECKPOINT)
        else:
            (tmp_path / CHECKPOINT).write_bytes(content)
        with pytest.raises(HomeError, match="damaged"):
            read_checkpoint(tmp_path, RUN)
    assert not (tmp_path / "was run").exists()


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch) -> None:
    write_checkpoint(tmp_path, RUN, {"epoch": 1})
    (tmp_path / (CHECKPOINT + ".tmp")).write_bytes(b"half of one")  # what a killed run leaves

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="no room"):
        write_checkpoint(tmp_path, RUN, {"epoch": 2})
    monkeypatch.undo()
    assert read_checkpoint(tmp_path, RUN) == {"epoch": 1}
    write_checkpoint(tmp_path, RUN, {"epoch": 2})
    assert read_checkpoint(tmp_path, RUN) == {"epoch": 2} and not (tmp_path / (CHECKPOINT + ".tmp")).exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="cannot be written"):
        write_checkpoint(tmp_path / "file" / "below", RUN, {})


def test_a_full_disk_inside_torch_is_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    from biobridge_rag.bridge import checkpoints

    class Full(type(Path())):
        def open(self, *_, **__):
            return Path("/dev/full").open("wb", buffering=0)

    with pytest.raises(DiskFullError):
        checkpoints._write(Full("/tmp/never-made.pt"), lambda stream: torch.save({"w": torch.zeros(10**6)}, stream))


def test_the_record_holds_a_row_an_epoch(tmp_path: Path) -> None:
    write_record(tmp_path, RUN, [EpochRow(1, 10, 2.5, None, 0.1, 1e-3), EpochRow(2, 20, 2.0, 0.25, 0.1, 0.0)], 2)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["best_epoch"] == 2 and record["run"]["seed"] == 1
    assert [(e["epoch"], e["loss"], e["validation_mrr"]) for e in record["epochs"]] == [(1, 2.5, None), (2, 2.0, 0.25)]
