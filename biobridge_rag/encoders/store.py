"""Vectors on disk by the content of what they stand for: each value is encoded once, whatever stops a process or runs beside it.

Knows: files, checksums, values as strings. Does not know: encoders beyond their id, graphs.

A folder for each encoder holds `encoder.json`, for people, and shards (see shards.py). A row is kept under a hash of the encoder's id
and the value and is never changed; where two processes add the same value at once, the row that is found first is used. Opening reads
headers and keys; the vectors of a batch are checked against their checksum when one of its rows is first asked for, by `missing` or
`read`, and by `verify`. A damaged batch is as one that is not there: its values count as missing and can be added again.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from biobridge_rag.encoders.keys import KeyIndex, Keys, as_keys, keys_of
from biobridge_rag.encoders.shards import Batch, Layout, Writer, scan, shards
from biobridge_rag.errors import BiobridgeError, DiskFullError, HomeError, HomeMismatchError
from biobridge_rag.types import Indices, Vectors

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class _Stored:
    """A batch of a shard. first: the number of its first row among all rows; checked: whether its vectors passed their checksum."""

    shard: Path
    offset: int
    rows: int
    crc: int
    first: int
    checked: bool


class EmbeddingStore:
    """The rows of one encoder, (n, dim) float32, just as it gave them. Several processes of one machine may use the same folder; each
    sees what others finished before it opened the store or called `refresh`. Not for several threads at once.

    folder: holds the folders of all encoders; made with the first row. Raises HomeMismatchError where vectors of another width are kept
    under this id, HomeError where the folder cannot be read."""

    def __init__(self, folder: Path, encoder_id: str, dim: int) -> None:
        self.encoder_id, self.dim = encoder_id, dim
        self.folder = folder / _folder_name(encoder_id)
        self.damaged = 0
        self._layout = Layout.of(encoder_id, dim)
        self._index = KeyIndex()
        self._batches: list[_Stored] = []
        self._starts = np.zeros(0, dtype=np.int64)
        self._rows = 0
        self._ends: dict[Path, int] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        self._writer: Writer | None = None
        self._check_width()
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def missing(self, values: Sequence[str]) -> Indices:
        """Places in `values` of those that are not kept whole, in order; of a value that comes several times, the first place."""
        keys = keys_of(self.encoder_id, values)
        places = np.flatnonzero(self._find(keys) < 0)
        return places[_first_places(keys[places])]

    def append(self, values: Sequence[str], vectors: Vectors) -> int:
        """Adds the rows of values that are not there yet, on disk when this returns, and returns their number. vectors: (n, dim).

        Raises BiobridgeError for another shape, a row of zeros or a number that is not finite, DiskFullError where there is no room,
        HomeError where the folder cannot be written; nothing of `vectors` is kept then."""
        vectors = self.checked(vectors, values)
        keys = keys_of(self.encoder_id, values)
        places = np.flatnonzero(self._find(keys) < 0)
        places = places[_first_places(keys[places])]
        if not len(places):
            return 0
        if len(places) < len(values):
            keys, vectors = keys[places], vectors[places]
        try:
            writer = self._take_writer()
            batch = writer.append(keys.tobytes(), vectors)
        except BaseException as error:
            self._close_writer()
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise
        self._add(writer.path, [batch], checked=True)
        self._ends[writer.path] = batch.offset + 4 * self.dim * batch.rows
        return batch.rows

    def checked(self, vectors: Vectors, values: Sequence[str]) -> Vectors:
        """The vectors as float32 in C order; raises BiobridgeError where they cannot be the rows of these values."""
        try:
            with np.errstate(over="ignore"):
                out: Vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise self._bad(f"gave something that is no table of numbers ({type(vectors).__name__})") from error
        if out.shape != (len(values), self.dim):
            raise self._bad(f"gave vectors of the shape {out.shape} where {(len(values), self.dim)} is needed")
        low, high = out.min(axis=1), out.max(axis=1)  # both are NaN where one number is
        for what, good in (
            ("numbers that are not finite", np.isfinite(low) & np.isfinite(high)),
            ("a vector of zeros", (low != 0) | (high != 0)),
        ):
            if not good.all():
                raise self._bad(f"gave {what} for the value {shorten(values[int(np.argmin(good))])!r}")
        return out

    def read(self, values: Sequence[str]) -> Vectors:
        """The rows of all values, (n, dim), not to be written to: part of the memory-mapped shard where they follow each other there,
        else a copy. Raises HomeError where one is not there."""
        rows = self._find(keys_of(self.encoder_id, values))
        if lost := int(np.sum(rows < 0)):
            raise HomeError(
                f"{lost:,} of {len(values):,} values have no whole vector in {self.folder}.", "Run the build again: it encodes them."
            )
        places = self._places(rows)
        if len(rows) and places[0] == places[-1] and (np.diff(rows) == 1).all():
            return self._view(self._batches[places[0]], int(rows[0]), len(rows))
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        for i, (place, row) in enumerate(zip(places.tolist(), rows.tolist(), strict=True)):
            out[i] = self._view(self._batches[place], row, 1)[0]
        out.flags.writeable = False
        return out

    def holds_only(self, values: Sequence[str]) -> bool:
        """Whether every row that can be found belongs to one of these values."""
        known = np.unique(self._index.find(keys_of(self.encoder_id, values)))
        return int(np.sum(known >= 0)) == len(self._index)

    def verify(self) -> int:
        """Checks the vectors of every batch; returns the number of damaged rows on disk, which count as missing."""
        self.refresh()
        for batch in self._batches:
            if batch.rows:
                self._check(batch)
        return self.damaged

    def refresh(self) -> None:
        """Takes in what was finished since, here or in other processes."""
        try:
            for path in shards(self.folder):
                if path.stat().st_size > (end := self._ends.get(path, 0)):
                    found = scan(path, end, self._layout)
                    self.damaged += found.damaged
                    self._add(path, found.batches, checked=False)
                    self._ends[path] = found.end
        except OSError as error:
            raise HomeError(f"The store {self.folder} cannot be read: {error.strerror or error}.", "Name another folder.") from error

    def close(self) -> None:
        """Lets go of the shard that this process writes and of all maps."""
        self._close_writer()
        self._maps.clear()

    def _find(self, keys: Keys) -> Indices:
        """Row numbers, -1 where missing, with the batches they are in checked."""
        while True:
            rows = self._index.find(keys)
            touched = np.unique(self._places(rows[rows >= 0])).tolist()
            if all([batch.checked or self._check(batch) for batch in map(self._batches.__getitem__, touched)]):
                return rows

    def _check(self, batch: _Stored) -> bool:
        batch.checked = zlib.crc32(self._view(batch, batch.first, batch.rows).data) == batch.crc
        if not batch.checked:
            self._index.drop(batch.first, batch.first + batch.rows)
            self.damaged += batch.rows
            batch.rows = 0
        return batch.checked

    def _places(self, rows: Indices) -> Indices:
        """The place of each row's batch in the list of batches."""
        if len(self._starts) < len(self._batches):
            self._starts = np.array([batch.first for batch in self._batches], dtype=np.int64)
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _view(self, batch: _Stored, row: int, count: int) -> Vectors:
        """`count` rows of a batch from one on."""
        offset, count = batch.offset + 4 * self.dim * (row - batch.first), count * self.dim
        known = self._maps.get(batch.shard)
        if known is None or len(known) < offset + 4 * count:
            try:
                with batch.shard.open("rb") as file:
                    known = mmap.mmap(file.fileno(), self._ends[batch.shard], access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise HomeError(f"{batch.shard} was removed or cut while it was in use.", "Run the same command again.") from error
            self._maps[batch.shard] = known
        return np.frombuffer(known, dtype="<f4", count=count, offset=offset).reshape(-1, self.dim)

    def _add(self, shard: Path, batches: Sequence[Batch], checked: bool) -> None:
        start = self._rows
        for batch in batches:
            self._batches.append(_Stored(shard, batch.offset, batch.rows, batch.crc, self._rows, checked))
            self._rows += batch.rows
        self._index.add(as_keys(b"".join(batch.keys for batch in batches)), np.arange(start, self._rows, dtype=np.int64))

    def _take_writer(self) -> Writer:
        if self._writer is not None and self._writer.full:
            self._close_writer()
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._describe()
            self._writer = Writer(self.folder, self._layout)
            self.refresh()
        return self._writer

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _check_width(self) -> None:
        file = self.folder / "encoder.json"
        try:
            dim = json.loads(file.read_text())["dim"]
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise HomeError(f"{file} is damaged or cannot be read.", "Delete that file; it is written again.") from error
        if dim != self.dim:
            raise HomeMismatchError(
                f"The store {self.folder} keeps vectors of {dim} numbers for the encoder {self.encoder_id!r}, not of {self.dim}.",
                "Name another folder, or delete that one.",
            )

    def _describe(self) -> None:
        file = self.folder / "encoder.json"
        if not file.exists():
            temporary = file.with_name(f"{secrets.token_hex(4)}.tmp")
            temporary.write_text(json.dumps({"encoder": self.encoder_id, "dim": self.dim}) + "\n")
            os.replace(temporary, file)

    def _unwritable(self, error: OSError) -> BiobridgeError:
        if error.errno in _NO_ROOM:
            return DiskFullError(
                f"Cannot write to {self.folder}: {error.strerror}.",
                "Nothing is lost: free some space, then run the same command again; it goes on where it stopped.",
            )
        return HomeError(f"Cannot write to {self.folder}: {error.strerror or error}.", "Name a folder that you may write to.")

    def _bad(self, what: str) -> BiobridgeError:
        return BiobridgeError(f"The encoder {self.encoder_id!r} {what}.", "Nothing of it was kept.")


def _folder_name(encoder_id: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", encoder_id).strip("-.")[:48]
    return f"{slug or 'encoder'}-{blake2b(encoder_id.encode(), digest_size=6).hexdigest()}"


def shorten(value: str, most: int = 60) -> str:
    """A value as it may stand in a message."""
    return value if len(value) <= most else f"{value[: most - 1]}…"


def _first_places(keys: Keys) -> Indices:
    """Where each distinct key comes first, in order."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    return np.sort(order[first])
