"""What was fetched, from where and under which licence: fetched.json beside the files, and how files are written whole.

Knows: JSON, CSV, locks. Does not know: networks, what the files mean.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from biobridge_rag.errors import FileError, HomeLockedError, InputError
from biobridge_rag.fetching.downloads import file_digests, saying_disk_full

RECORD = "fetched.json"
FORMAT = 1


@dataclass(frozen=True)
class Licence:
    name: str
    url: str


@dataclass(frozen=True)
class Entry:
    """One file. options: what it was asked for with; skipped: counts by reason; left_out: names by reason, so that they are not asked
    for again; checksum: as the source gives it, and checked; note: what a reader should know."""

    source: str
    url: str
    licence: Licence
    date: str
    size: int
    sha256: str
    checksum: str = ""
    options: str = ""
    skipped: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a command did. fetched: the files it wrote; kept: those that were there; both by name."""

    folder: Path
    fetched: Mapping[str, Entry] = field(default_factory=dict)
    kept: Mapping[str, Entry] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "fetched": {name: asdict(e) for name, e in self.fetched.items()},
            "kept": {name: asdict(e) for name, e in self.kept.items()},
        }


def describe(file: Path, source: str, url: str, licence: Licence, **more: Any) -> Entry:
    """An entry for a file as it lies there now."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry(source, url, licence, date, file.stat().st_size, file_digests(file)["sha256"], **more)


def read_record(folder: Path) -> dict[str, Entry]:
    """The entries of fetched.json by file name; none where there is no such file. Raises FileError for a damaged one."""
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError
        return {name: Entry(**{**entry, "licence": Licence(**entry["licence"])}) for name, entry in data["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"The record {path} is damaged or of another version.", "Delete it; the files are then fetched again.") from error


def write_record(folder: Path, entries: Mapping[str, Entry], without: Iterable[str] = ()) -> None:
    """Adds entries to fetched.json, and takes out those of files that are no more."""
    gone = set(without)
    files = {name: entry for name, entry in read_record(folder).items() if name not in gone} | dict(entries)
    with replacing(folder / RECORD) as file:
        json.dump({"format": FORMAT, "files": {name: asdict(files[name]) for name in sorted(files)}}, file, indent=1, ensure_ascii=False)
        file.write("\n")


def current(folder: Path, name: str, options: str = "") -> Entry | None:
    """The entry of a file that is there as it was recorded, asked for with the same options."""
    entry, file = read_record(folder).get(name), folder / name
    if entry is None or entry.options != options or not file.is_file() or file.stat().st_size != entry.size:
        return None
    return entry if file_digests(file)["sha256"] == entry.sha256 else None


def check_ours(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Raises InputError where one of these files is there without having been fetched, unless it may be overwritten."""
    record = read_record(folder)
    if not overwrite and (theirs := next((n for n in names if (folder / n).exists() and n not in record), None)):
        raise InputError(f"{folder / theirs} is there, and was not fetched.", "Choose another folder, or give --overwrite.")


@contextmanager
def fetching_into(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock. Raises HomeLockedError where another process fetches into it."""
    from filelock import FileLock, Timeout

    with saying_disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder / ".fetching.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise HomeLockedError(f"Another process is fetching into {folder}.", "Wait until it has finished.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` once it is written whole; on any error `path` stays as it was."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with saying_disk_full(path):
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    with replacing(path) as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Journal:
    """What was found so far, a line of JSON each; a line that a kill left half-written is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        whole = self.path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        with saying_disk_full(self.path):
            os.truncate(self.path, len(whole))
        try:
            return [json.loads(line) for line in whole.decode().splitlines()]
        except ValueError as error:
            raise FileError(f"The journal {self.path} is damaged.", "Delete it; what it held is then fetched again.") from error

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        with saying_disk_full(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
