"""Shards: files of checksummed batches of keys and vectors, to which one process at a time appends.

Knows: bytes, checksums, locks. Does not know: values, encoders.

A batch is a header (48 bytes: mark, encoder, dim, rows, checksums), its keys (16 bytes each) and its vectors (little-endian float32),
so that opening reads headers and keys only. A batch is whole where the file reaches to its end; what follows the last whole one is a
torn tail, which readers pass over and the next process that takes the shard cuts off. Where a header is damaged, the next one is found
by its mark. Processes of one machine may share a folder: each holds the lock of the shard it appends to.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from io import FileIO
from pathlib import Path

from biobridge_rag.types import Vectors

KEY = 16
LIMIT = 1 << 30  # a shard of this size takes no more batches
SUFFIX = ".shard"
_MARK = b"bbembed1"
_HEAD = struct.Struct("<28sIIII4x")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Layout:
    """What all batches of a store have in common. prefix (28 bytes): how each of their headers begins."""

    prefix: bytes
    dim: int

    @classmethod
    def of(cls, encoder_id: str, dim: int) -> Layout:
        return cls(_MARK + blake2b(encoder_id.encode(), digest_size=16).digest() + struct.pack("<I", dim), dim)

    @property
    def row(self) -> int:
        """Bytes of a row with its key."""
        return KEY + 4 * self.dim


@dataclass(frozen=True)
class Batch:
    """offset: where the vectors begin, in bytes; crc: their checksum; keys: rows times 16 bytes."""

    offset: int
    rows: int
    crc: int
    keys: bytes


@dataclass(frozen=True)
class Scan:
    """The whole batches of a shard from some place on, the end of the last one, and the rows that had to be passed over."""

    batches: list[Batch]
    end: int
    damaged: int


def scan(path: Path, start: int, layout: Layout) -> Scan:
    """Reads headers and keys from byte `start` on; vectors are not read. A batch whose keys fail their checksum is passed over."""
    batches, damaged, at = list[Batch](), 0, start
    with FileIO(path) as file:
        size = os.fstat(file.fileno()).st_size
        while True:
            head = _header(file, at, layout)
            if head is None:
                following = _following(file, at + 1, size, layout)
                if following is None:
                    break
                damaged += max((following - at - _HEAD.size) // layout.row, 1)
                at = following
                continue
            rows, keys_crc, crc = head
            end = at + _HEAD.size + rows * layout.row
            if end > size:
                break
            keys = file.read(rows * KEY)
            if zlib.crc32(keys) == keys_crc:
                batches.append(Batch(at + _HEAD.size + rows * KEY, rows, crc, keys))
            else:
                damaged += rows
            at = end
    return Scan(batches, at, damaged)


def _header(file: FileIO, at: int, layout: Layout) -> tuple[int, int, int] | None:
    """(rows, checksum of the keys, checksum of the vectors) of the batch at this byte; None where none begins."""
    file.seek(at)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    prefix, rows, keys_crc, crc, own = _HEAD.unpack(head)
    good = prefix == layout.prefix and rows > 0 and own == zlib.crc32(head[: _HEAD.size - 8])
    return (rows, keys_crc, crc) if good else None


def _following(file: FileIO, start: int, size: int, layout: Layout) -> int | None:
    """The first byte from `start` on at which a batch begins."""
    for at in range(start, size, _CHUNK):
        file.seek(at)
        chunk, found = file.read(_CHUNK + len(layout.prefix)), -1
        while (found := chunk.find(layout.prefix, found + 1)) >= 0:
            if _header(file, at + found, layout) is not None:
                return at + found
    return None


def shards(folder: Path) -> list[Path]:
    """The shards of a folder by name; none where there is no folder."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(SUFFIX))
    except FileNotFoundError:
        return []


class Writer:
    """Appends to one shard, whose lock it holds: an old one that nobody holds and that has room, or a new one. `path`: that shard.
    Errors of the operating system pass through; the writer must then be closed, and the next one cuts off what was half written."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        from filelock import Timeout

        self._layout = layout
        new = folder / f"{secrets.token_hex(8)}{SUFFIX}"
        for path in [*_with_room(folder, layout), new]:
            try:
                self._open(path)
                break
            except (Timeout, PermissionError):
                if path == new:
                    raise

    def _open(self, path: Path) -> None:
        from filelock import FileLock

        self.path, self._lock = path, FileLock(path.with_suffix(".lock"), timeout=0)
        self._lock.acquire()
        try:
            self._file = FileIO(path, "ab")
            self._end = scan(path, 0, self._layout).end
            self._file.truncate(self._end)
            if not self._end:
                _sync(path.parent)
        except BaseException:
            self._lock.release()
            raise

    @property
    def full(self) -> bool:
        return self._end >= LIMIT

    def append(self, keys: bytes, vectors: Vectors) -> Batch:
        """Writes a batch; it is on disk when this returns. keys: 16 bytes a row; vectors (n, dim), in C order."""
        rows, body = len(vectors), vectors.astype("<f4", copy=False).data.cast("B")
        crc = zlib.crc32(body)
        head = _HEAD.pack(self._layout.prefix, rows, zlib.crc32(keys), crc, 0)[: _HEAD.size - 8]
        try:
            for part in (head + struct.pack("<I4x", zlib.crc32(head)), keys, body):
                _write(self._file.fileno(), part)
            os.fsync(self._file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise
        batch = Batch(self._end + _HEAD.size + len(keys), rows, crc, keys)
        self._end = batch.offset + len(body)
        return batch

    def close(self) -> None:
        self._file.close()
        self._lock.release()


def _with_room(folder: Path, layout: Layout) -> Iterator[Path]:
    """Shards of this layout that are not full."""
    for path in shards(folder):
        with FileIO(path) as file:
            begin = file.read(len(layout.prefix))
            if layout.prefix.startswith(begin) and os.fstat(file.fileno()).st_size < LIMIT:
                yield path


def _sync(folder: Path) -> None:
    """Makes a new name in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
