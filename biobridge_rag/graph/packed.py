"""Reads a user's file whole, plain or gzipped, up to a size.

Knows: gzip. Does not know: what is in a file.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from biobridge_rag.errors import FileError

_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path, most: int) -> bytes:
    """The file as it lies on disk. Raises FileError in one line where it cannot be read or is longer than `most` bytes."""
    try:
        if path.stat().st_size > most:
            raise FileError(f"The file {path.name} is too large: at most {most / 1e6:.0f} MB are read.")
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"The file {path} cannot be read: {error.strerror or error}.") from error


def unpacked(data: bytes, name: str, most: int) -> bytes:
    """What is packed in the gzip file `data`, told by its first bytes, of any number of members; of any other file, the file. Unpacks
    at most `most` bytes. Raises FileError in one line where it is cut off, damaged or longer; name: of the file, for that."""
    if not data.startswith(_MAGIC):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            content = stream.read(most + 1)
    except EOFError as error:
        raise FileError(f"The file {name} is cut off: its end is missing.", "Copy or download it again.") from error
    except (OSError, zlib.error) as error:
        raise FileError(f"The file {name} is a damaged gzip file: {error}.", "Copy or download it again.") from error
    if len(content) > most:
        raise FileError(f"The file {name} is too large: at most {most / 1e6:.0f} MB are read, counted without compression.")
    return content
