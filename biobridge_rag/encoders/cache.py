"""Tables of embeddings for a build, made by way of a store, so that one that was killed goes on where it stopped.

Knows: encoders, stores, files. Does not know: graphs beyond a list of values, training.

A table of n nodes is written as `<name>-<key>.npy`, where the key is a hash of the encoder id and all values. What is encoded goes
into an EmbeddingStore first: one that outlives the build where its folder is given, else one beside the tables that is removed when
the table is whole. Every file is written beside its place and renamed into it.

The vectors of foundation models all point much the same way, whatever they stand for (Ethayarajh 2019, arXiv 1909.00512), so that
cosines between them tell little. Where an encoder says so (`centred`), the mean of a table is taken off its rows, which are then
scaled to length 1 again (Mu & Viswanath 2018, arXiv 1702.01417); the mean is kept as `<name>-<key>.centre` for queries.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError
from biobridge_rag.types import Encoder, Indices, Modality, Progress, Vectors

_BLOCK = 1024
_GROUPED_ROWS = 256
_GROUPED_SECONDS = 10.0
Rows = Callable[[Encoder, Sequence[str]], Iterator[tuple[Indices, Vectors]]]


@runtime_checkable
class BatchEncoder(Encoder, Protocol):
    """An encoder that gives rows as it finishes them, in an order of its own: places in `values`, and their vectors."""

    def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]: ...


def silent(_stage: str, _done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an .npy beside its place and renames it. Raises DiskFullError where there is no room."""
    _save(path, array.dtype, array.shape, [array])


def _save(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> None:
    """save_array for an array that comes in blocks of rows."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as handle:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(handle, header)
            for block in blocks:
                handle.write(np.ascontiguousarray(block, dtype=dtype).data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise DiskFullError(
            f"Cannot write {path}: {error.strerror or f'the disk is full ({error})'}.",
            "Free some space, then run the same command again: it goes on where it stopped.",
        ) from error


def _load(path: Path) -> Vectors:
    try:
        array: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise HomeError(f"The embeddings file {path} is damaged.", "Delete it and run the build again.") from error
    return array


def content_key(encoder_id: str, values: Sequence[tuple[str, ...]]) -> str:
    """16 hex digits that change with the encoder or any value."""
    digest = hashlib.sha256(encoder_id.encode())
    for group in values:
        digest.update(b"\x1e")
        digest.update("\x1f".join(group).encode())
    return digest.hexdigest()[:16]


def encode_groups(encoder: Encoder, groups: Sequence[tuple[str, ...]], centre: Vectors | None = None) -> Vectors:
    """One unit vector a node, (n, dim): a node with several values gets the mean of their vectors, scaled to length 1. centre (dim,):
    that of the table which the vectors are compared with, if it has one."""
    vectors = _means(encoder.encode([value for group in groups for value in group]), groups)
    return vectors if centre is None else _around(vectors, centre)


def _around(vectors: Vectors, centre: Vectors) -> Vectors:
    """A vector that is the centre itself stays as it is."""
    off = vectors - centre
    norms = np.linalg.norm(off, axis=1, keepdims=True)
    return np.asarray(np.where(norms > 1e-6, off / np.maximum(norms, 1e-12), vectors), dtype=np.float32)


def load_centre(directory: Path, name: str) -> Vectors | None:
    """(dim,) the mean that was taken off the table `name` in this folder; None where none was."""
    found = sorted(directory.glob(f"{name}-*.centre"))
    return np.array(_load(found[0])) if found else None


def _means(vectors: Vectors, groups: Sequence[tuple[str, ...]]) -> Vectors:
    """From the vectors of all values of some groups to one for each group."""
    sizes = [len(group) for group in groups]
    if all(size == 1 for size in sizes):
        return vectors
    starts = np.cumsum([0, *sizes[:-1]])
    means = np.add.reduceat(vectors, starts, axis=0) / np.asarray(sizes, dtype=np.float32)[:, None]
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), dtype=np.float32)


class _Chosen(Sequence[str]):
    """Some of the values, without copying them."""

    def __init__(self, values: Sequence[str], places: Indices) -> None:
        self._values, self._places = values, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self._values[i] for i in self._places[at].tolist()]
        return self._values[int(self._places[at])]


def encoded(encoder: Encoder, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]:
    """Rows made in this process, as they are finished: places in `values`, and their vectors."""
    yield from encoder.encode_batches(values) if isinstance(encoder, BatchEncoder) else _blocks(encoder, values)


def fill(
    store: EmbeddingStore,
    encoder: Encoder,
    values: Sequence[str],
    progress: Progress = silent,
    stage: str = "encoding",
    rows: Rows = encoded,
) -> int:
    """Encodes the values that the store lacks, each once, and adds them as they are finished; returns their number. rows: what makes
    the vectors of distinct values, in any order; it is not called where nothing is missing.

    Progress is told in characters (for proteins, residues) of what had to be encoded. Of an interruption, at most the batch in flight
    is lost. Raises DiskFullError where there is no room, BiobridgeError where the encoder gives no usable vector for a value, and what
    the encoder raises."""
    wanted = _Chosen(values, store.missing(values))
    if not len(wanted):
        return 0
    stage = f"{stage} ({'residues' if encoder.modality is Modality.PROTEIN else 'characters'})"
    done, total = 0, sum(map(len, wanted))
    progress(stage, 0, total)
    with _Grouped(store) as grouped:
        for places, vectors in rows(encoder, wanted):
            finished = [wanted[i] for i in np.asarray(places).tolist()]
            grouped.add(finished, vectors)
            done += sum(map(len, finished))
            progress(stage, min(done, total), total)
    if grouped.added < len(wanted) and (lost := len(store.missing(values))):
        raise BiobridgeError(f"The encoder {encoder.id!r} gave no vector for {lost:,} of {len(wanted):,} values.")
    return len(wanted)


class KeptEncoder:
    """An encoder whose rows are kept in the store in `folder`, so that a value is encoded once."""

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.id, self.modality, self.dim = encoder.id, encoder.modality, encoder.dim
        self._encoder, self._folder = encoder, folder

    def encode(self, values: Sequence[str]) -> Vectors:
        """(n, dim). Raises as `fill`."""
        with EmbeddingStore(self._folder, self.id, self.dim) as store:
            fill(store, self._encoder, values)
            return store.read(values)


def _blocks(encoder: Encoder, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]:
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        yield np.arange(start, start + len(block)), encoder.encode(block)


class _Grouped:
    """Adds rows to a store when there are enough of them or some time has passed, and the rest on leaving, even by an error. added: how
    many the store took."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self._values: list[str] = []
        self._vectors: list[Vectors] = []
        self._since = time.monotonic()
        self.added = 0

    def __enter__(self) -> _Grouped:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def add(self, values: Sequence[str], vectors: Vectors) -> None:
        if not self._values and len(values) >= _GROUPED_ROWS:
            self.added += self._store.append(values, vectors)
            return
        self._vectors.append(self._store.checked(vectors, values))
        self._values.extend(values)
        if len(self._values) >= _GROUPED_ROWS or time.monotonic() - self._since >= _GROUPED_SECONDS:
            self._flush()

    def _flush(self) -> None:
        values, vectors = self._values, self._vectors
        self._values, self._vectors, self._since = [], [], time.monotonic()
        if values:
            self.added += self._store.append(values, vectors[0] if len(vectors) == 1 else np.concatenate(vectors))


def cached_embeddings(
    directory: Path,
    name: str,
    encoder: Encoder,
    groups: Sequence[tuple[str, ...]],
    progress: Progress = silent,
    store_folder: Path | None = None,
    rows: Rows = encoded,
) -> Vectors:
    """The (n, dim) float32 table for `groups`, memory-mapped; encodes only what is not on disk yet, by `rows`.

    store_folder: a store that is kept and may be shared with other builds and processes; None: one within `directory`, removed when
    the table is whole. The table is written block by block, so that memory does not grow with its width."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{content_key(encoder.id, groups)}.npy"
    values = [value for group in groups for value in group]
    if path.exists():
        table = _load(path)
        if table.shape != (len(groups), encoder.dim):
            raise HomeError(f"The embeddings file {path} has the wrong shape {table.shape}.", "Delete it and run the build again.")
        if store_folder is None:
            _tidy(path, encoder, values)
        return table
    with EmbeddingStore(store_folder or directory / "store", encoder.id, encoder.dim) as store:
        fill(store, encoder, values, progress, f"encoding {name}", rows)
        made, centre = _rows(store, groups), None
        if getattr(encoder, "centred", False) and len(groups) > 1:
            centre = np.asarray(sum(block.sum(axis=0, dtype=np.float64) for block in made) / len(groups), dtype=np.float32)
            save_array(path.with_suffix(".centre"), centre)
            made = (_around(block, centre) for block in _rows(store, groups))
        _save(path, np.dtype(np.float32), (len(groups), encoder.dim), made)
    if store_folder is None:
        _remove(store)
    _drop_parts(directory, name)
    return _load(path)


def _rows(store: EmbeddingStore, groups: Sequence[tuple[str, ...]]) -> Iterator[Vectors]:
    for start in range(0, len(groups), _BLOCK):
        block = groups[start : start + _BLOCK]
        yield _means(store.read([value for group in block for value in group]), block)


def _tidy(path: Path, encoder: Encoder, values: Sequence[str]) -> None:
    """Removes what a build left that was killed between writing the table and removing its rows; rows of other tables stay."""
    if not (path.parent / "store").exists():
        return
    with EmbeddingStore(path.parent / "store", encoder.id, encoder.dim) as store:
        whole = store.holds_only(values)
    if whole:
        _remove(store)


def _drop_parts(directory: Path, name: str) -> None:
    """Removes the folders in which earlier versions kept what was half finished."""
    for part in directory.glob(f"{name}-*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _remove(store: EmbeddingStore) -> None:
    shutil.rmtree(store.folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        store.folder.parent.rmdir()
