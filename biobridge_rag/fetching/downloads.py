"""Downloads files: streamed beside their place, resumed, checked, and renamed once they are whole.

Knows: Range requests, checksums, the disk. Does not know: retries' timing, what is fetched, under which licence.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biobridge_rag.errors import DiskFullError, FetchError
from biobridge_rag.fetching.http import GO_ON, Again, Http, check_answer, short
from biobridge_rag.types import Progress

if TYPE_CHECKING:
    import httpx

# A file that grew by this much since its last round of tries gets another round.
GROWTH = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Saved:
    """A finished download. matched: whether the checksum was given and is that of the file."""

    path: Path
    size: int
    sha256: str
    matched: bool


def download(
    http: Http,
    url: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    checksum_decides: bool = True,
    progress: Progress | None = None,
    stage: str = "",
    max_bytes: int = 1 << 40,
) -> Saved:
    """Streams `url` into `target`, going on with target.part where there is one, and renames it once it is whole.

    size: bytes, where they are known. checksum: "md5:…" or "sha256:…"; a file that differs in either is fetched once more from
    its beginning, then refused. Without `checksum_decides`, a checksum that differs is only told. Raises FetchError or
    DiskFullError in one line; `target` is never half-written.
    """
    job = _Download(http, url, target, size, checksum, checksum_decides, progress, stage or f"fetching {target.name}", max_bytes)
    return job.run()


class _Download:
    """One file on its way. Beside target.part lies target.part.json: which version of which address it is a part of."""

    def __init__(
        self, http: Http, url: str, target: Path, size: int | None, checksum: str | None, decides: bool,
        progress: Progress | None, stage: str, max_bytes: int,
    ) -> None:  # fmt: skip
        self.http, self.url, self.target, self.size, self.checksum, self.decides = http, url, target, size, checksum, decides
        self.progress, self.stage, self.max_bytes = progress, stage, max_bytes
        self.part = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")

    def run(self) -> Saved:
        with saying_disk_full(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._check_room()
            wrong = ""
            for _ in range(2):
                self._fetch()
                saved, wrong = self._verify()
                if not wrong:
                    return saved
                self._forget()
        raise FetchError(
            f"{short(self.url)} was fetched twice and is not what was promised: {wrong}.",
            "It may have been replaced or be damaged at its source; try again later.",
        )

    def _fetch(self) -> None:
        while True:
            before = self._have()
            try:
                return self.http.patiently(self._attempt)
            except Again as again:
                if again.unreachable or self._have() < before + GROWTH:
                    raise again.error from again

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> None:
        known = self._known()
        have = self._have() if known is not None else 0
        if have and have == self.size and self.checksum and self.decides:
            return
        headers = {"Accept-Encoding": "identity"}
        if known is not None and have:
            headers["Range"] = f"bytes={have}-"
            if validator := known["etag"] or known["modified"]:
                headers["If-Range"] = validator
        with self.http.stream("GET", self.url, headers=headers) as response:
            if response.status_code == 416 and have:
                total = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", "").strip())
                if total and int(total[1]) == have and known is not None and self._same(response, known):
                    return
                self._forget()
                raise Again(FetchError(f"{short(self.url)} cannot be resumed.", GO_ON))
            check_answer(response)
            if response.status_code == 206:
                if known is None or not self._follows(response, have, known):
                    self._forget()
                    raise Again(FetchError(f"{short(self.url)} changes while it is fetched.", GO_ON))
            else:
                have = 0
            self._receive(response, have)

    def _receive(self, response: httpx.Response, have: int) -> None:
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if plain and length.isdigit() else self.size or 0
        if max(total, self.size or 0) > self.max_bytes:
            raise FetchError(f"{short(self.url)} has {total:,} bytes; at most {self.max_bytes:,} are fetched.")
        if not have:
            etag = response.headers.get("ETag", "")
            note = {
                "url": self.url, "checksum": self.checksum or "", "total": total,
                "etag": "" if etag.startswith("W/") else etag, "modified": response.headers.get("Last-Modified", ""),
            }  # fmt: skip
            self.part.unlink(missing_ok=True)
            if plain:
                self.note.write_text(json.dumps(note))
            else:
                self.note.unlink(missing_ok=True)
        with self.part.open("ab" if have else "wb") as file:
            for block in response.iter_bytes():
                file.write(block)
                have += len(block)
                if have > self.max_bytes:
                    raise FetchError(f"{short(self.url)} has more than {self.max_bytes:,} bytes.")
                if self.progress is not None:
                    self.progress(self.stage, have, max(total, have))
            file.flush()
            os.fsync(file.fileno())
        if have < total:
            raise Again(FetchError(f"{short(self.url)} broke off after {have:,} of {total:,} bytes.", GO_ON))

    def _known(self) -> dict[str, Any] | None:
        """What target.part is a part of, or None where it must not be gone on with."""
        try:
            known = json.loads(self.note.read_text())
            trusted = known["etag"] or known["modified"] or (self.checksum and self.decides)
            same = known["url"] == self.url and known["checksum"] == (self.checksum or "")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return known if same and trusted and self.part.exists() else None

    def _follows(self, response: httpx.Response, have: int, known: dict[str, Any]) -> bool:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not have or not found or int(found[1]) != have:
            return False
        return (found[3] == "*" or not known["total"] or int(found[3]) == known["total"]) and self._same(response, known)

    @staticmethod
    def _same(response: httpx.Response, known: dict[str, Any]) -> bool:
        etag = response.headers.get("ETag", "")
        return not (known["etag"] and etag) or etag == known["etag"]

    def _verify(self) -> tuple[Saved, str]:
        """The file under its final name, or what is wrong with it."""
        algorithm, _, wanted = (self.checksum or "sha256:").partition(":")
        digests = file_digests(self.part, ("sha256", algorithm))
        have, matched = self._have(), bool(wanted) and digests[algorithm] == wanted.lower()
        wrong = ""
        if self.size is not None and have != self.size:
            wrong = f"it has {have:,} bytes, not {self.size:,}"
        elif wanted and not matched and self.decides:
            wrong = f"its {algorithm} is {digests[algorithm]}, not {wanted.lower()}"
        if not wrong:
            self.part.replace(self.target)
            self.note.unlink(missing_ok=True)
        return Saved(self.target, have, digests["sha256"], matched), wrong

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _check_room(self) -> None:
        free, needed = shutil.disk_usage(self.target.parent).free, (self.size or 0) - self._have()
        if needed > free:
            raise DiskFullError(
                f"{self.target.name} needs {needed:,} bytes; {self.target.parent} has room for {free:,}.", "Free some space. " + GO_ON
            )


@contextmanager
def saying_disk_full(path: Path) -> Iterator[None]:
    """Turns an error of the file system into DiskFullError."""
    try:
        yield
    except OSError as error:
        help = f"Free some space. {GO_ON}" if error.errno in _FULL else "Choose another folder, or change its permissions."
        raise DiskFullError(f"Cannot write {path}: {error.strerror or error}.", help) from error


def file_digests(path: Path, algorithms: tuple[str, ...] = ("sha256",)) -> dict[str, str]:
    """Hex digests of a file, read once. Raises FetchError for an algorithm that is not known."""
    try:
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in dict.fromkeys(algorithms)}
    except ValueError as error:
        raise FetchError(f"There is no checksum of the kind {algorithms[-1]!r}.") from error
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for one in hashes.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}
