"""The folder of a question run: records.jsonl, one line a question and arm as they are answered, and run.json, what they belong to.

Knows: files, locks, what a kill or a power cut leaves of them. Does not know: how questions are asked or scored.

A record is whole when its line ends and holds its own checksum; a kill loses only what was being asked, a power cut one second more.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

from biobridge_rag.errors import DiskFullError, FileError, HomeLockedError, InputError
from biobridge_rag.fetching.downloads import saying_disk_full
from biobridge_rag.fetching.records import replacing

RECORDS, RUN = "records.jsonl", "run.json"
_SYNC_SECONDS = 1.0

Key = tuple[str, str]  # the question's id and the arm


class RecordFile:
    """Records by question and arm, on disk as soon as they are added. One process at a time; see `open_records`."""

    def __init__(self, path: Path, stream: RawIOBase, records: dict[Key, dict[str, Any]], n_dropped: int) -> None:
        self.path, self.records, self.n_dropped = path, records, n_dropped
        self._stream, self._synced = stream, time.monotonic()

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends one record. Raises DiskFullError."""
        with saying_disk_full(self.path):
            line = _line(record)
            if self._stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                self.sync()
        self.records[record["id"], record["arm"]] = dict(record)

    def sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


@contextmanager
def open_records(folder: Path, identity: Mapping[str, Any]) -> Iterator[RecordFile]:
    """The records of the run that `identity` describes, made or gone on with.

    identity: names and JSON values of all that the answers depend on. Records that hold an error, and lines that are damaged, are dropped
    and counted, so that they are asked again. Raises InputError where the folder holds a run of another identity, HomeLockedError
    where another process is at it, DiskFullError where it cannot be written.
    """
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise InputError(f"The results cannot go to {folder}: that is a file.", "Give a folder with --out.")
    with saying_disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".asking.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise HomeLockedError(f"Another process is asking into {folder}.", "Wait until it has finished, or name another --out.") from None
    except OSError as error:
        raise DiskFullError(f"Cannot write to {folder}: {error.strerror or error}.", "Choose another --out.") from error
    try:
        path = folder / RECORDS
        _check_identity(folder, identity, path.exists())
        kept, n_dropped, whole = _read(path)
        if not whole:
            with replacing(path) as file:
                file.writelines(_line(record).decode() for record in kept.values())
        with saying_disk_full(path):
            stream = path.open("ab", buffering=0)
        with stream:
            opened = RecordFile(path, stream, kept, n_dropped)
            yield opened
            opened.sync()
    finally:
        lock.release()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All whole records of a folder, in their order. Raises FileError where there is none."""
    path = folder / RECORDS
    if not path.exists():
        raise FileError(f"{folder} holds no {RECORDS}.", "Name the --out folder of evaluate qa.")
    return [record for line in path.read_bytes().split(b"\n") if (record := _parsed(line)) is not None]


def _check_identity(folder: Path, identity: Mapping[str, Any], has_records: bool) -> None:
    path = folder / RUN
    if not path.exists():
        if has_records:
            raise InputError(f"{folder} holds a {RECORDS} but no {RUN}, so nobody can say what it answers.", "Name another --out.")
        with replacing(path) as file:
            json.dump(dict(identity), file, indent=1)
        return
    try:
        have = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise FileError(f"{path} is damaged.", "Name another --out, or delete the folder to ask all questions again.") from error
    want = json.loads(json.dumps(dict(identity)))
    for name in [*want, *have]:
        if have.get(name) != want.get(name):
            raise InputError(
                f"{folder} holds a run with other {name.replace('_', ' ')}: {_said(have.get(name))}, not {_said(want.get(name))}.",
                "Go on with the same options, or name another --out.",
            )


def _said(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 64 else text[:12]


def _read(path: Path) -> tuple[dict[Key, dict[str, Any]], int, bool]:
    """The records to keep, how many lines are not, and whether the file holds the former alone."""
    if not path.exists():
        return {}, 0, True
    lines = path.read_bytes().split(b"\n")
    kept: dict[Key, dict[str, Any]] = {}
    n_lines = 0
    for line in lines:
        if line:
            n_lines += 1
            record = _parsed(line)
            if record is not None and "error" not in record:
                kept.setdefault((record["id"], record["arm"]), record)
    return kept, n_lines - len(kept), n_lines == len(kept) and not lines[-1]


def _line(record: Mapping[str, Any]) -> bytes:
    body = json.dumps({k: v for k, v in record.items() if k != "crc"}, ensure_ascii=True)
    return f'{body[:-1]}, "crc": "{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None where it is damaged; the checksum is of the line as it is without it."""
    try:
        record = json.loads(line)
        crc = record.pop("crc")
        body = line[: line.rindex(b', "crc": "')] + b"}"
        return record if isinstance(record["id"], str) and isinstance(record["arm"], str) and int(crc, 16) == zlib.crc32(body) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
