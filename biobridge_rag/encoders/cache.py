"""Embeddings on disk: encoded once, in blocks, so that a build that was killed goes on where it stopped.

Knows: encoders and files. Does not know: graphs beyond a list of values, training.

A table of n nodes is written as `<name>-<key>.npy`, where the key is a hash of the encoder id and all values; until it is
whole its blocks lie in `<name>-<key>.part/`. Every file is written beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.errors import DiskFullError, HomeError
from biobridge_rag.types import Encoder, Vectors

_BLOCK = 1024
Progress = Callable[[str, int, int], None]


def silent(_stage: str, _done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an .npy beside its place and renames it. Raises DiskFullError where there is no room."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as handle:
            np.save(handle, array, allow_pickle=False)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
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


def encode_groups(encoder: Encoder, groups: Sequence[tuple[str, ...]]) -> Vectors:
    """One unit vector a node, (n, dim): a node with several values gets the mean of their vectors, scaled to length 1."""
    flat = [value for group in groups for value in group]
    vectors = encoder.encode(flat)
    sizes = [len(group) for group in groups]
    if all(size == 1 for size in sizes):
        return vectors
    starts = np.cumsum([0, *sizes[:-1]])
    means = np.add.reduceat(vectors, starts, axis=0) / np.asarray(sizes, dtype=np.float32)[:, None]
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def cached_embeddings(
    directory: Path, name: str, encoder: Encoder, groups: Sequence[tuple[str, ...]], progress: Progress = silent
) -> Vectors:
    """The (n, dim) float32 table for `groups`, memory-mapped; encodes only the blocks that are not on disk yet."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{content_key(encoder.id, groups)}.npy"
    if path.exists():
        table = _load(path)
        if table.shape == (len(groups), encoder.dim):
            return table
        raise HomeError(f"The embeddings file {path} has the wrong shape {table.shape}.", "Delete it and run the build again.")
    part = path.with_suffix(".part")
    part.mkdir(exist_ok=True)
    blocks = []
    for start in range(0, len(groups), _BLOCK):
        wanted = groups[start : start + _BLOCK]
        file = part / f"{start:09d}.npy"
        if not file.exists():
            save_array(file, encode_groups(encoder, wanted))
        blocks.append(file)
        progress(f"encoding {name}", min(start + _BLOCK, len(groups)), len(groups))
    save_array(path, np.concatenate([_load(b) for b in blocks]) if blocks else np.zeros((0, encoder.dim), np.float32))
    shutil.rmtree(part)
    return _load(path)
