"""The store of embeddings: what is in it is right whatever happened to the process, the disk or the file."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biobridge_rag.encoders import shards as shards_module
from biobridge_rag.encoders.shards import KEY, Layout, scan, shards
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError, HomeMismatchError
from tests.encoders.stored import DIM, WIDE, names, opened, truth

HEAD = 48
ROW = KEY + 4 * DIM


def only_shard(store: EmbeddingStore) -> Path:
    (path,) = shards(store.folder)
    return path


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A closed store with three batches of four rows in one shard."""
    with opened(tmp_path) as store:
        for start in (0, 4, 8):
            store.append(names(start, start + 4), truth(names(start, start + 4)))
    return tmp_path


BATCH = HEAD + 4 * ROW


def change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


# What it keeps


def test_rows_are_there_at_once_and_after_opening_again(three: Path) -> None:
    values = [*names(3, 12), "value 3"]
    with opened(three) as store:
        assert store.missing(names(0, 12)).tolist() == [] and store.damaged == 0
        found = store.read(values)
        assert found.dtype == np.float32 and np.array_equal(found, truth(values))
        store.append(["later"], truth(["later"]))
        assert np.array_equal(store.read(["value 0", "later"]), truth(["value 0", "later"]))
        assert store.verify() == 0
        assert json.loads((store.folder / "encoder.json").read_text()) == {"encoder": "test/encoder v1", "dim": DIM}
        assert store.folder.name.startswith("test-encoder-v1-")
        assert len(shards(store.folder)) == 1  # the next process goes on in a shard that nobody holds


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder, dim = tmp_path_factory.mktemp("store"), data.draw(st.integers(1, 5))
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    expected: dict[str, np.ndarray] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        values = data.draw(st.lists(st.text(max_size=8), max_size=6))
        vectors = data.draw(arrays(np.float32, (len(values), dim), elements=numbers))
        vectors[~vectors.any(axis=1)] = 1.0
        with opened(folder, dim) as store:
            assert [values[i] for i in store.missing(values)] == [v for v in dict.fromkeys(values) if v not in expected]
            store.append(values, vectors)
        for value, vector in zip(values, vectors, strict=True):
            expected.setdefault(value, vector)
    with opened(folder, dim) as store:
        known = list(expected)
        assert np.array_equal(store.read(known), np.array([expected[v] for v in known], dtype=np.float32).reshape(-1, dim))
        assert store.verify() == 0


def test_duplicates_are_kept_once_and_the_first_wins(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.missing(["b", "a", "b", "c", "a"]).tolist() == [0, 1, 3]
        assert store.append(["a", "a", "b"], truth(["x", "y", "z"])) == 2
        size = only_shard(store).stat().st_size
        assert store.append(["b", "a"], truth(["u", "v"])) == 0
        assert only_shard(store).stat().st_size == size == HEAD + 2 * ROW
        assert np.array_equal(store.read(["a", "b", "a"]), truth(["x", "z", "x"]))
        assert store.holds_only(["a", "b", "c"]) and not store.holds_only(["a", "c"])


def test_no_values_make_no_files(tmp_path: Path) -> None:
    with opened(tmp_path / "none") as store:
        assert store.missing([]).shape == (0,) and store.read([]).shape == (0, DIM)
        assert store.append([], np.zeros((0, DIM), np.float32)) == 0
        assert store.verify() == 0
    assert not (tmp_path / "none").exists()


def test_encoders_do_not_see_each_other(three: Path) -> None:
    with opened(three, encoder="test/encoder v2") as other, opened(three, encoder="test encoder v1") as like:
        assert len(other.missing(names(0, 4))) == 4 and len(like.missing(names(0, 4))) == 4


def test_a_full_shard_gets_a_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "LIMIT", 2 * BATCH)
    with opened(tmp_path) as store:
        for start in range(0, 20, 4):
            store.append(names(start, start + 4), truth(names(start, start + 4)))
        assert [p.stat().st_size for p in shards(store.folder)].count(2 * BATCH) == 2 and len(shards(store.folder)) == 3
        assert np.array_equal(store.read(names(0, 20)), truth(names(0, 20)))
    with opened(tmp_path) as store:
        assert np.array_equal(store.read(names(0, 20)), truth(names(0, 20)))


# What it refuses


@pytest.mark.parametrize(
    ("vectors", "word"),
    [
        (np.zeros((2, DIM), np.float32), "a vector of zeros for the value 'a'"),
        (np.array([[1.0] * DIM, [np.nan] * DIM]), "not finite for the value 'b'"),
        (np.array([[1.0] * DIM, [1e39] * DIM]), "not finite for the value 'b'"),
        (np.array([[np.inf] + [1.0] * (DIM - 1), [1.0] * DIM]), "not finite for the value 'a'"),
        (np.ones((2, DIM + 1), np.float32), r"shape \(2, 7\) where \(2, 6\)"),
        (np.ones((3, DIM), np.float32), r"shape \(3, 6\) where \(2, 6\)"),
        (np.ones(DIM, np.float32), r"shape \(6,\)"),
        ([["x"] * DIM] * 2, "no table of numbers"),
    ],
)
def test_what_is_no_vector_is_refused_and_nothing_of_it_kept(three: Path, vectors: Any, word: str) -> None:
    with opened(three) as store:
        before = only_shard(store).read_bytes()
        with pytest.raises(BiobridgeError, match=word):
            store.append(["a", "b"], vectors)
        assert only_shard(store).read_bytes() == before and store.missing(["a", "b"]).tolist() == [0, 1]
        store.append(["a", "b"], truth(["a", "b"]))
        assert np.array_equal(store.read(["a", "b"]), truth(["a", "b"]))


def test_a_value_that_is_not_there_cannot_be_read(three: Path) -> None:
    with opened(three) as store, pytest.raises(HomeError, match="1 of 3 values"):
        store.read(["value 1", "stranger", "value 2"])


def test_another_width_is_refused(three: Path) -> None:
    with pytest.raises(HomeMismatchError, match=r"vectors of 6 numbers for the encoder 'test/encoder v1', not of 8"):
        opened(three, dim=8)


def test_rows_of_another_width_survive_the_loss_of_the_description(three: Path) -> None:
    folder = opened(three).folder
    (folder / "encoder.json").unlink()
    with opened(three, dim=8) as other:
        other.append(["value 1"], truth(["value 1"], 8))
    (folder / "encoder.json").unlink()
    with opened(three) as store:
        assert np.array_equal(store.read(names(0, 12)), truth(names(0, 12)))


def test_a_damaged_description_is_named_and_written_again(three: Path) -> None:
    file = opened(three).folder / "encoder.json"
    file.write_text("{")
    with pytest.raises(HomeError, match=r"encoder\.json is damaged") as error:
        opened(three)
    assert "Delete that file" in error.value.help
    file.unlink()
    with opened(three) as store:
        store.append(["a"], truth(["a"]))
        assert file.exists() and np.array_equal(store.read(["a", "value 1"]), truth(["a", "value 1"]))


# Damage


@pytest.mark.parametrize("cut", sorted({1, HEAD - 1, HEAD, HEAD + 1, HEAD + 4 * KEY, HEAD + 4 * KEY + 3, BATCH - 1}))
def test_a_torn_tail_is_passed_over_left_alone_and_cut_off_by_the_next_writer(three: Path, cut: int) -> None:
    path = only_shard(opened(three))
    with path.open("r+b") as file:
        file.truncate(2 * BATCH + cut)
    with opened(three) as store:
        assert store.missing(names(0, 12)).tolist() == [8, 9, 10, 11]
        assert store.damaged == 0 and path.stat().st_size == 2 * BATCH + cut
        store.append(names(10, 14), truth(names(10, 14)))
        assert path.stat().st_size == 3 * BATCH
    with opened(three) as store:
        assert store.missing(names(0, 14)).tolist() == [8, 9]
        assert np.array_equal(store.read([*names(0, 8), *names(10, 14)]), truth([*names(0, 8), *names(10, 14)]))


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_changed_byte_in_the_vectors_costs_that_batch_alone(three: Path, batch: int) -> None:
    change(only_shard(opened(three)), batch * BATCH + HEAD + 4 * KEY + 7)
    bad, good = names(4 * batch, 4 * batch + 4), [v for v in names(0, 12) if v not in names(4 * batch, 4 * batch + 4)]
    with opened(three) as store:
        assert np.array_equal(store.read(good), truth(good)) and store.damaged == 0
        with pytest.raises(HomeError, match="1 of 2 values"):
            store.read([bad[0], good[0]])
    with opened(three) as store:
        assert store.missing([*good, *bad]).tolist() == [8, 9, 10, 11] and store.damaged == 4
    with opened(three) as store:
        assert store.verify() == 4 and store.verify() == 4
        store.append(bad, truth(bad))
        assert np.array_equal(store.read(names(0, 12)), truth(names(0, 12)))
    with opened(three) as store:
        assert np.array_equal(store.read(names(0, 12)), truth(names(0, 12)))


@pytest.mark.parametrize("at", [HEAD, HEAD + 4 * KEY - 1, 0, 9, 28, 33, 38, 41])
@pytest.mark.parametrize("batch", [0, 1])
def test_a_changed_byte_in_keys_or_header_is_counted_when_opening(three: Path, batch: int, at: int) -> None:
    change(only_shard(opened(three)), batch * BATCH + at)
    bad = names(4 * batch, 4 * batch + 4)
    with opened(three) as store:
        assert store.damaged == 4 == store.verify()
        assert [names(0, 12)[i] for i in store.missing(names(0, 12))] == bad
        store.append(bad, truth(bad))
        assert np.array_equal(store.read(names(0, 12)), truth(names(0, 12)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * BATCH - 1), st.integers(1, 255), st.integers(0, 40))
def test_no_damage_gives_a_wrong_row(at: int, bits: int, cut: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        with opened(Path(place)) as store:
            for start in (0, 4, 8):
                store.append(names(start, start + 4), truth(names(start, start + 4)))
        path = only_shard(store)
        data = bytearray(path.read_bytes())
        data[at] ^= bits
        path.write_bytes(data[: len(data) - cut])
        with opened(Path(place)) as store:
            lost = {names(0, 12)[i] for i in store.missing(names(0, 12))}
            assert len(lost) in (4, 8) if cut else len(lost) == 4 or 44 <= at % BATCH < HEAD
            kept = [v for v in names(0, 12) if v not in lost]
            assert np.array_equal(store.read(kept), truth(kept))
            store.append(names(0, 12), truth(names(0, 12)))
            assert np.array_equal(store.read(names(0, 12)), truth(names(0, 12)))


def test_a_shard_that_was_cut_while_in_use_is_named(three: Path) -> None:
    store = opened(three)
    os.truncate(only_shard(store), 10)
    with pytest.raises(HomeError, match="removed or cut while it was in use"):
        store.read(["value 11"])


def test_a_copy_of_the_first_row_takes_over_when_its_batch_is_damaged(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        one.append(["a", "b"], truth(["a", "b"]))
        two.append(["b", "c"], truth(["b", "c"]))  # two opened the store before: it does not know of b
        paths = shards(one.folder)
    assert len(paths) == 2
    change(paths[0], HEAD + 2 * KEY + 1)
    with opened(tmp_path) as store:
        assert np.array_equal(store.read(["b"]), truth(["b"])) and store.damaged == 2


def test_what_another_wrote_to_a_shard_is_seen_by_who_goes_on_with_it(tmp_path: Path) -> None:
    with opened(tmp_path) as late:
        with opened(tmp_path) as other:
            other.append(["a"], truth(["a"]))
        late.append(["b"], truth(["b"]))
        assert len(shards(late.folder)) == 1 and np.array_equal(late.read(["a", "b"]), truth(["a", "b"]))


# The disk


@pytest.mark.parametrize("after", [0, 1, 2])
def test_no_room_loses_nothing(three: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    real, calls = os.write, [0]

    def full(descriptor: int, data: Any) -> int:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(data)[:20] if calls[0] == after else data)

    with opened(three) as store:
        path = only_shard(store)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(DiskFullError, match="No space left on device") as error:
                store.append(["a"], truth(["a"]))
        assert "Nothing is lost" in error.value.help and path.stat().st_size == 3 * BATCH
        assert store.missing(["a", "value 1"]).tolist() == [0]
        store.append(["a"], truth(["a"]))
        assert np.array_equal(store.read(["a", "value 1"]), truth(["a", "value 1"])) and store.verify() == 0


def test_no_room_even_for_cutting_off_is_cut_off_later(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    class Stuck(shards_module.FileIO):
        def truncate(self, size: int | None = None, /) -> int:
            if size != self.seek(0, os.SEEK_END):
                raise OSError(errno.EIO, "Input/output error")
            return super().truncate(size)

    with opened(three) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            patch.setattr(shards_module, "FileIO", Stuck)
            with pytest.raises(DiskFullError):
                store.append(["a"], truth(["a"]))
        assert np.array_equal(store.read(["value 1"]), truth(["value 1"]))
        store.append(["a", "b"], truth(["a", "b"]))  # the batch that was written whole is found
        assert np.array_equal(store.read(["a", "b"]), truth(["a", "b"])) and store.verify() == 0


def test_a_folder_that_cannot_be_written_can_be_read(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with opened(three) as store:
        with pytest.raises(HomeError, match=r"Cannot write to .*: Permission denied") as error:
            store.append(["a"], truth(["a"]))
        assert "may write to" in error.value.help
        assert np.array_equal(store.read(["value 1"]), truth(["value 1"]))


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="file"):
        opened(tmp_path / "file").append(["a"], truth(["a"]))


# Other processes

CHILD = """
import sys
import tempfile
from pathlib import Path
from tests.encoders.stored import WIDE, names, opened, truth
folder, start, stop, step = Path(sys.argv[1]), *map(int, sys.argv[2:5])
with opened(folder, WIDE) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for at in range(start, stop, step):
        values = names(at, at + step)
        store.append(values, truth(values, WIDE))
        print(at + step, flush=True)
"""


def child(folder: Path, start: int, stop: int, step: int) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", CHILD, str(folder), str(start), str(stop), str(step)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_kill_loses_at_most_the_batch_in_flight(tmp_path: Path) -> None:
    chance, start, step = random.Random(0), 0, 50
    for _ in range(5):
        process = child(tmp_path, start, 10**6, step)
        go(process)
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 8)):
            announced = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
        process.communicate()
        announced = int(rest[-1]) if rest else announced
        with opened(tmp_path, WIDE) as store:
            lost = store.missing(names(0, announced + 2 * step)).tolist()
            start = lost[0]
            assert start in (announced, announced + step) and lost == list(range(start, announced + 2 * step))
            assert store.damaged == 0
            assert np.array_equal(store.read(names(0, start)), truth(names(0, start), WIDE))
            assert len(shards(store.folder)) == 1 and store.verify() == 0


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    """Their values overlap; a third reads while they write. One that starts when the other has ended takes its shard over."""
    both = child(tmp_path, 0, 1600, 40), child(tmp_path, 800, 2400, 40)
    with opened(tmp_path, WIDE) as reader:
        for process in both:
            go(process)
        seen = 0
        while any(process.poll() is None for process in both):
            reader.refresh()
            lost = set(reader.missing(names(0, 2400)).tolist())
            here = [v for i, v in enumerate(names(0, 2400)) if i not in lost]
            assert len(here) >= seen and reader.damaged == 0
            seen = len(here)
            some = here[:: max(len(here) // 20, 1)]
            assert np.array_equal(reader.read(some), truth(some, WIDE))
        assert [process.wait() for process in both] == [0, 0]
        for process in both:
            process.communicate()
        reader.refresh()
        assert np.array_equal(reader.read(names(0, 2400)), truth(names(0, 2400), WIDE))
        assert reader.verify() == 0 and len(shards(reader.folder)) <= 2
    layout = Layout.of("test/encoder v1", WIDE)
    assert sum(batch.rows for path in shards(reader.folder) for batch in scan(path, 0, layout).batches) >= 2400
