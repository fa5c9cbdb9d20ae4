"""Answers of language models, kept on disk so that a run can be repeated without asking again.

Knows: JSON, files, checksums. Does not know: models, what an answer is used for. Keys of services are never given to it.

An entry is one file, `<first two digits>/<key>.json`, with a CRC-32 of its content; it is written beside its place and renamed into
it, so any number of processes and threads can share a folder. An entry that is damaged, or of another key, counts as missing and is
written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biobridge_rag.errors import InputError

FORMAT = 1


def key_of(request: Mapping[str, Any]) -> str:
    """sha256, in hex, of all that an answer depends on."""
    return hashlib.sha256(_canonical(request)).hexdigest()


class LLMCache:
    """Raises InputError where the folder cannot be made or written to. Where an entry cannot be written later on, the answer is not
    kept: `n_unwritten` counts these, and the first is logged as a warning."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_unwritten = folder, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(
                f"The language model's cache {folder} cannot be written: {error.strerror or error}.", "Name another folder, or none."
            ) from error

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """What was stored under the key; None where there is nothing, or nothing whole."""
        try:
            entry = json.loads(self.path(key).read_bytes())
            whole = entry["format"] == FORMAT and entry["key"] == key and entry["crc"] == zlib.crc32(_canonical(entry["answer"]))
            return entry["answer"] if whole and isinstance(entry["answer"], dict) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, answer: Mapping[str, Any]) -> None:
        """Stores JSON values under the key, in place of what is there."""
        place = self.path(key)
        content = {"format": FORMAT, "key": key, "crc": zlib.crc32(_canonical(answer)), "answer": answer}
        temporary = ""
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{key[:8]}-", suffix=".tmp", dir=place.parent)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(json.dumps(content, ensure_ascii=True, indent=1).encode())
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, place)
        except OSError as error:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            self.n_unwritten += 1
            if self.n_unwritten == 1:
                why = error.strerror or error
                logging.getLogger(__name__).warning("The language model's cache %s cannot be written: %s.", self.folder, why)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()
