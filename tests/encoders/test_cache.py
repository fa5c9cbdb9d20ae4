"""Tables made by way of a store: encoded once, in blocks or in the encoder's own batches, and gone on with after anything."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag.encoders import cache
from biobridge_rag.encoders.cache import BatchEncoder, cached_embeddings, content_key, encode_groups, fill, save_array
from biobridge_rag.encoders.shards import shards
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError
from biobridge_rag.types import Encoder, Modality
from tests.encoders.stored import DIM, names, truth


class Blocks:
    """An encoder of plain blocks that notes how many values it is given."""

    id, modality, dim = "blocks-v1", Modality.TEXT, DIM

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def encode(self, values: Sequence[str]) -> np.ndarray:
        self.sizes.append(len(values))
        return truth(values)


class Streaming(Blocks):
    """An encoder that gives batches of its own, the longest values first; stop: after so many batches it fails."""

    id, modality = "streaming-v1", Modality.PROTEIN

    def __init__(self, size: int = 10, stop: int | None = None) -> None:
        super().__init__()
        self.size, self.stop = size, stop

    def encode(self, values: Sequence[str]) -> np.ndarray:
        raise AssertionError("it has batches of its own")

    def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.argsort([-len(v) for v in values], kind="stable")
        for n, start in enumerate(range(0, len(order), self.size)):
            if n == self.stop:
                raise KeyboardInterrupt
            places = order[start : start + self.size]
            self.sizes.append(len(places))
            yield places, truth([values[i] for i in places])


class Told:
    """A progress callback that keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.calls.append((stage, done, total))


def store_of(folder: Path, encoder: Encoder) -> EmbeddingStore:
    return EmbeddingStore(folder, encoder.id, encoder.dim)


def single(start: int, stop: int) -> list[tuple[str, ...]]:
    return [(value,) for value in names(start, stop)]


@pytest.mark.parametrize("encoder", [Blocks(), Streaming(7), Streaming(300)], ids=["blocks", "small batches", "large batches"])
def test_what_is_missing_is_encoded_once_and_counted_in_characters(tmp_path: Path, encoder: Blocks) -> None:
    assert isinstance(encoder, BatchEncoder) == isinstance(encoder, Streaming)
    values, told = [*names(0, 1100), *names(5, 15)], Told()
    with store_of(tmp_path, encoder) as store:
        store.append(values[:100], truth(values[:100]))
        assert fill(store, encoder, values, told, "encoding gene-protein") == 1000 == sum(encoder.sizes)
        assert np.array_equal(store.read(values), truth(values))
        assert fill(store, encoder, values, told) == 0 and sum(encoder.sizes) == 1000
    unit = "residues" if isinstance(encoder, Streaming) else "characters"
    total = sum(map(len, values[100:1100]))
    assert {(stage, n) for stage, _, n in told.calls} == {(f"encoding gene-protein ({unit})", total)}
    done = [n for _, n, _ in told.calls]
    assert done[0] == 0 and done[-1] == total and done == sorted(set(done)) and len(done) == 1 + len(encoder.sizes)


def test_plain_encoders_get_blocks_and_any_sequence_will_do(tmp_path: Path) -> None:
    class Lazy(Sequence[str]):
        def __len__(self) -> int:
            return 2500

        def __getitem__(self, at: Any) -> Any:
            if not 0 <= at < 2500:
                raise IndexError
            return f"value {at}"

    encoder = Blocks()
    with store_of(tmp_path, encoder) as store:
        fill(store, encoder, Lazy())
        assert encoder.sizes == [1024, 1024, 452] and np.array_equal(store.read(Lazy()), truth(names(0, 2500)))


def appended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is added to stores from now on."""
    sizes, real = list[int](), EmbeddingStore.append

    def noting(self: EmbeddingStore, values: Sequence[str], vectors: np.ndarray) -> int:
        sizes.append(len(values))
        return real(self, values, vectors)

    monkeypatch.setattr(EmbeddingStore, "append", noting)
    return sizes


def test_small_batches_are_grouped_by_rows_or_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = appended(monkeypatch)
    with store_of(tmp_path / "rows", Streaming()) as store:
        fill(store, Streaming(100), names(0, 750))
    assert sizes == [300, 300, 150]
    sizes.clear()
    clock = iter(range(0, 10**6, 4))
    monkeypatch.setattr(cache.time, "monotonic", lambda: float(next(clock)))
    with store_of(tmp_path / "time", Streaming()) as store:
        fill(store, Streaming(10), names(0, 100))
    assert sizes == [30, 30, 30, 10]


def test_an_interruption_keeps_what_was_finished(tmp_path: Path) -> None:
    with store_of(tmp_path, Streaming()) as store, pytest.raises(KeyboardInterrupt):
        fill(store, Streaming(stop=30), names(0, 1000))
    rest = Streaming()
    with store_of(tmp_path, rest) as store:
        assert fill(store, rest, names(0, 1000)) == 700
        assert np.array_equal(store.read(names(0, 1000)), truth(names(0, 1000)))


def test_a_row_too_few_or_too_wide_is_an_error(tmp_path: Path) -> None:
    class Forgetful(Streaming):
        def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield np.array([0, 1]), truth([values[0], values[1]])

    class Wide(Streaming):
        def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield np.array([0, 1]), truth([values[0], values[1]])
            yield np.array([2]), truth([values[2]], DIM + 1)

    with store_of(tmp_path, Streaming()) as store:
        with pytest.raises(BiobridgeError, match="no vector for 8 of 10 values"):
            fill(store, Forgetful(), names(0, 10))
        with pytest.raises(BiobridgeError, match=r"shape \(1, 7\)"):
            fill(store, Wide(), names(20, 30))
        assert store.missing(names(0, 30)).tolist() == [*range(2, 20), *range(22, 30)]


def test_no_room_while_filling_says_to_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    encoder, groups = Blocks(), single(0, 3000)
    with monkeypatch.context() as patch:
        real, calls = os.write, [0]
        patch.setattr(os, "write", lambda fd, data: real(fd, data) if (calls.append(0) or len(calls)) < 6 else full())
        with pytest.raises(DiskFullError, match="No space left on device") as error:
            cached_embeddings(tmp_path, "disease", encoder, groups)
    assert "Nothing is lost" in error.value.help and "run the same command again" in error.value.help
    again = Blocks()
    assert np.array_equal(cached_embeddings(tmp_path, "disease", again, groups), truth(names(0, 3000)))
    assert sum(again.sizes) == 3000 - 1024


# Tables


def test_a_table_is_an_ordinary_memory_mapped_npy_and_leaves_nothing_else(tmp_path: Path) -> None:
    groups = single(0, 1500)
    (tmp_path / "disease-0123456789abcdef.part").mkdir()
    (tmp_path / "disease-0123456789abcdef.part" / "000000000.npy").write_bytes(b"old")
    table = cached_embeddings(tmp_path, "disease", Blocks(), groups)
    assert isinstance(table, np.memmap) and table.dtype == np.float32 and np.array_equal(table, truth(names(0, 1500)))
    assert [p.name for p in tmp_path.iterdir()] == [f"disease-{content_key('blocks-v1', groups)}.npy"]
    save_array(tmp_path / "same", np.asarray(table))
    np.save(tmp_path / "plain.npy", table)
    assert (tmp_path / "same").read_bytes() == (tmp_path / "plain.npy").read_bytes() == Path(str(table.filename)).read_bytes()


def test_no_nodes_give_an_empty_table(tmp_path: Path) -> None:
    assert cached_embeddings(tmp_path, "disease", Blocks(), []).shape == (0, DIM)
    assert cached_embeddings(tmp_path, "disease", Blocks(), []).shape == (0, DIM)


def test_several_values_of_a_node_are_averaged_as_without_a_store(tmp_path: Path) -> None:
    groups = [tuple(names(i, i + 1 + i % 3)) for i in range(2100)]
    encoder = Blocks()
    table = cached_embeddings(tmp_path, "disease", encoder, groups)
    assert sum(encoder.sizes) == len({v for g in groups for v in g})
    assert np.allclose(table, encode_groups(Blocks(), groups), rtol=1e-6)
    assert np.allclose(np.linalg.norm(table[1::3], axis=1), 1.0, atol=1e-6)


def test_a_shared_store_spares_the_next_build_all_that_was_encoded(tmp_path: Path) -> None:
    shared, first, second = tmp_path / "shared", Blocks(), Blocks()
    cached_embeddings(tmp_path / "one", "disease", first, single(0, 50), store_folder=shared)
    table = cached_embeddings(tmp_path / "two", "drug", second, single(30, 60), store_folder=shared)
    assert (first.sizes, second.sizes) == ([50], [10]) and np.array_equal(table, truth(names(30, 60)))
    with store_of(shared, Blocks()) as store:
        assert store.missing(names(0, 60)).tolist() == [] and len(shards(store.folder)) == 1
    assert not (tmp_path / "two" / "store").exists()


def test_a_damaged_row_of_a_shared_store_is_encoded_again(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    cached_embeddings(tmp_path / "one", "disease", Blocks(), single(0, 1100), store_folder=shared)
    with store_of(shared, Blocks()) as store:
        (path,) = shards(store.folder)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    encoder = Blocks()
    table = cached_embeddings(tmp_path / "two", "disease", encoder, single(0, 1100), store_folder=shared)
    assert encoder.sizes == [1100 - 1024] and np.array_equal(table, truth(names(0, 1100)))


def test_rows_of_an_unfinished_table_outlive_the_finding_of_a_finished_one(tmp_path: Path) -> None:
    done, half = single(0, 20), single(20, 40)
    cached_embeddings(tmp_path, "disease", Blocks(), done)
    with store_of(tmp_path / "store", Blocks()) as store:  # a build that was killed in its second table
        store.append(names(20, 30), truth(names(20, 30)))
    cached_embeddings(tmp_path, "disease", Blocks(), done)
    encoder = Blocks()
    cached_embeddings(tmp_path, "anatomy", encoder, half)
    assert encoder.sizes == [10] and not (tmp_path / "store").exists()


def test_what_a_build_left_that_was_killed_behind_its_table_is_removed(tmp_path: Path) -> None:
    cached_embeddings(tmp_path, "disease", Blocks(), single(0, 20))
    with store_of(tmp_path / "store", Blocks()) as store:
        store.append(names(0, 20), truth(names(0, 20)))
    encoder = Blocks()
    cached_embeddings(tmp_path, "disease", encoder, single(0, 20))
    assert encoder.sizes == [] and not (tmp_path / "store").exists()


def test_a_table_of_another_shape_is_named(tmp_path: Path) -> None:
    groups = single(0, 3)
    save_array(tmp_path / f"disease-{content_key('blocks-v1', groups)}.npy", np.ones((2, DIM), np.float32))
    with pytest.raises(HomeError, match=r"wrong shape \(2, 6\)"):
        cached_embeddings(tmp_path, "disease", Blocks(), groups)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.encoders.test_cache import Streaming, cached_embeddings, single
at = int(sys.argv[2])
def killing(stage, done, total):
    if done >= at:
        os.kill(os.getpid(), signal.SIGKILL)
cached_embeddings(Path(sys.argv[1]), "protein", Streaming(100), single(0, 2000), killing)
"""


def test_a_table_after_kills_is_that_of_an_undisturbed_build(tmp_path: Path) -> None:
    for at, left in ((1, 2000), (5000, 1700)):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at)], env=environment)
        assert process.returncode == -signal.SIGKILL and not list(tmp_path.glob("*.npy"))
        with store_of(tmp_path / "store", Streaming()) as store:
            assert len(store.missing(names(0, 2000))) == left and store.verify() == 0
    encoder = Streaming(100)
    table = cached_embeddings(tmp_path, "protein", encoder, single(0, 2000))
    assert np.array_equal(table, truth(names(0, 2000))) and sum(encoder.sizes) == left
    assert [p.suffix for p in tmp_path.iterdir()] == [".npy"]


class Leaning(Blocks):
    """Random vectors that all point one way, as foundation models give them."""

    id, centred = "leaning-v1", True

    def encode(self, values: Sequence[str]) -> np.ndarray:
        drawn = [np.random.default_rng(zlib.crc32(v.encode())).standard_normal(self.dim) for v in values]
        leaning = (3.0 + np.array(drawn)).astype(np.float32)
        return np.asarray(leaning / np.linalg.norm(leaning, axis=1, keepdims=True), dtype=np.float32)


def test_a_centred_encoders_table_has_the_mean_taken_off_and_queries_too(tmp_path: Path) -> None:
    encoder, groups = Leaning(), [(name,) for name in names(0, 3000)]
    plain = encoder.encode([name for (name,) in groups])
    table = cached_embeddings(tmp_path, "t", encoder, groups)
    off = plain - plain.mean(axis=0)
    assert np.allclose(table, off / np.linalg.norm(off, axis=1, keepdims=True), atol=1e-5)
    assert (plain[:100] @ plain[100:200].T).mean() > 0.8 and abs((table[:100] @ table[100:200].T).mean()) < 0.05
    centre = cache.load_centre(tmp_path, "t")
    assert centre is not None and np.allclose(encode_groups(encoder, groups[:5], centre), table[:5], atol=1e-5)
    assert np.array_equal(cached_embeddings(tmp_path, "t", encoder, groups), table)


def test_other_encoders_tables_have_no_centre(tmp_path: Path) -> None:
    cached_embeddings(tmp_path, "t", Blocks(), [("a",), ("b",)])
    assert cache.load_centre(tmp_path, "t") is None


def test_a_vector_at_the_centre_stays_as_it_is(tmp_path: Path) -> None:
    table = cached_embeddings(tmp_path, "t", Leaning(), [("a",), ("a",)])
    assert np.allclose(np.linalg.norm(table, axis=1), 1.0) and np.allclose(table, Leaning().encode(["a", "a"]), atol=1e-6)
