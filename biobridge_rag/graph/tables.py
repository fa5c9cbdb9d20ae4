"""The CSV files of one directory, plain or gzipped: found by their stem, checked for their columns, streamed in blocks.

Knows: CSV, gzip, pyarrow, and how to say in one line what is wrong with a file. Does not know: which files a graph has, what a
column means.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biobridge_rag.errors import GraphFormatError

Row = dict[str, str]

_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class Files:
    """The CSV files of one directory, as streams of text columns."""

    directory: Path

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            what = "is not a directory" if self.directory.exists() else "does not exist"
            raise GraphFormatError(f"The graph directory {self.directory} {what}.", "Give a directory with nodes.csv and kg.csv.")

    def path(self, stem: str, why: str = "") -> Path:
        for path in (self.directory / f"{stem}.csv", self.directory / f"{stem}.csv.gz"):
            if path.is_file():
                return path
        raise GraphFormatError(f"{stem}.csv (or {stem}.csv.gz) is missing in {self.directory}{why}.")

    def header(self, path: Path) -> tuple[list[str], bool]:
        """The column names, and whether any row follows."""
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                start = stream.read(1 << 18)
            if not start.strip():
                raise GraphFormatError(f"{path} is empty.")
            first, _, rest = start.partition(b"\n")
            if b"\0" in start:
                raise GraphFormatError(f"{path} is not a CSV text file.")
            return [column.strip() for column in next(csv.reader([first.decode("utf-8-sig")]))], bool(rest.strip())
        except (OSError, EOFError, zlib.error) as error:
            raise GraphFormatError(f"{path} cannot be read: {_line(error)}.", "Fetch or unpack it again.") from error
        except (UnicodeDecodeError, csv.Error, StopIteration) as error:
            raise GraphFormatError(f"{path} is not a CSV text file in UTF-8.") from error

    def columns(self, path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> tuple[list[str], bool]:
        """Those of the wanted columns that the file has, and whether any row follows."""
        present, rows = self.header(path)
        for column in required:
            if column not in present:
                shown = ", ".join(present)
                raise GraphFormatError(f"{path} has no column {column}.", f"It has: {shown if len(shown) < 200 else shown[:197] + '...'}.")
        return [column for column in dict.fromkeys((*required, *optional)) if column in present], rows

    def batches(self, path: Path, columns: list[str], encode: bool) -> Iterator[Any]:
        """Record batches of text columns (dictionary-encoded where `encode`), in the order of the file."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        text = pa.dictionary(pa.int32(), pa.string()) if encode else pa.string()
        convert = arrow_csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, text), strings_can_be_null=False)
        try:
            with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
                yield from arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
                    parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                    convert_options=convert,
                )
        except (pa.ArrowException, OSError) as error:
            raise GraphFormatError(f"{path} cannot be read as CSV: {_line(error)}.", "Fetch or write it again.") from error

    def rows(self, path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[Row]:
        """Rows of a table as dicts of stripped text; optional columns that are absent have no key."""
        columns, any_rows = self.columns(path, required, optional)
        for batch in self.batches(path, columns, encode=False) if any_rows else ():
            for values in zip(*(batch.column(c).to_pylist() for c in columns), strict=True):
                yield {c: value.strip() for c, value in zip(columns, values, strict=True)}


def _line(error: BaseException) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split()).rstrip(".")
    return text if len(text) <= 160 else text[:157] + "..."
