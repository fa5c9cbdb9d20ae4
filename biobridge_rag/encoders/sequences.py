"""Reads protein sequences: FASTA files and pasted text, with every fault in one line.

Knows: the FASTA format and the amino-acid alphabet. Does not know: encoders, graphs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from biobridge_rag.errors import FileError, SequenceError

RESIDUES = frozenset("ABCDEFGHIKLMNOPQRSTUVWXYZ")
MAX_RESIDUES = 40_000
MAX_HEADER = 80
_NUCLEOTIDES = frozenset("ACGTUN")


@dataclass(frozen=True, slots=True)
class FastaRecord:
    name: str
    sequence: str


@dataclass(frozen=True, slots=True)
class FastaFile:
    """Records that were read (at most the limit), how many the file holds, and what the user should know."""

    records: tuple[FastaRecord, ...]
    n_records: int
    notes: tuple[str, ...] = ()


def is_residues(text: str) -> bool:
    """Whether every letter is an amino-acid code (the 20, U, O and the ambiguity codes B, Z, X)."""
    return bool(text) and RESIDUES.issuperset(text)


def looks_like_dna(sequence: str) -> bool:
    """At least 95 % A, C, G, T, U, N over 30 letters or more: no natural protein is."""
    return len(sequence) >= 30 and sum(c in _NUCLEOTIDES for c in sequence) >= 0.95 * len(sequence)


def clean_sequence(text: str, name: str = "") -> str:
    """Upper case, no white space, no final stop (*). Raises SequenceError with one line on what is wrong."""
    sequence = re.sub(r"[\s\d]+", "", text).rstrip("*")
    of = f" {name!r}" if name else ""
    if not sequence:
        raise SequenceError(f"The protein sequence{of} is empty.", "Give a FASTA record or one-letter amino-acid codes.")
    if len(sequence) > MAX_RESIDUES:
        raise SequenceError(f"The protein sequence{of} has {len(sequence):,} residues; at most {MAX_RESIDUES:,} are read.")
    for i, letter in enumerate(sequence, start=1):
        if letter.upper() not in RESIDUES:
            raise SequenceError(
                f"The protein sequence{of} has {letter!r} at position {i}, which is no amino-acid code.",
                "Gaps, stops inside the sequence and other symbols must be removed.",
            )
    sequence = sequence.upper()
    if looks_like_dna(sequence):
        raise SequenceError(f"The sequence{of} looks like DNA or RNA, not protein.", "Translate it first, then give the protein sequence.")
    return sequence


def decode(data: bytes | str, what: str = "file") -> str:
    """Text of an uploaded file. Raises FileError for empty and binary content."""
    if isinstance(data, str):
        text = data
    else:
        if b"\x00" in data[:65536]:
            raise FileError(f"The {what} is binary, not text.", "Give a FASTA, SMILES or SDF text file.")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
            if sum(ord(c) < 32 and c not in "\r\n\t" for c in text) > 0.02 * len(text):
                raise FileError(f"The {what} is binary, not text.", "Give a FASTA, SMILES or SDF text file.") from None
    if not text.strip():
        raise FileError(f"The {what} is empty.")
    return text


def printable(text: str) -> str:
    """The text on one line, without the control characters that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def split_fasta(text: str) -> list[tuple[str, str]]:
    """The header (one printable line, without the >) and the unchecked sequence of each record; bare text is one without a header."""
    chunks: list[tuple[str, list[str]]] = []
    for line in re.split(r"[\r\n]+", text):
        if line.startswith(">"):
            chunks.append((printable(line[1:]), []))
        elif line.strip() and not line.startswith(";"):
            if not chunks:
                chunks.append(("", []))
            chunks[-1][1].append(line)
    return [(header, "".join(lines)) for header, lines in chunks]


def parse_fasta(data: bytes | str, limit: int = 20) -> FastaFile:
    """Protein records of a FASTA file (or of bare sequence text), at most `limit`; the rest is counted in `notes`.

    Records that cannot be used are named in `notes`; if none can be used, SequenceError gives the first fault.
    """
    chunks = split_fasta(decode(data, "FASTA file"))
    records: list[FastaRecord] = []
    notes: list[str] = []
    first: SequenceError | None = None
    bad = 0
    for i, (header, raw) in enumerate(chunks, start=1):
        if len(records) >= limit:
            break
        name = header[:MAX_HEADER] or (f"record {i}" if len(chunks) > 1 else "pasted sequence")
        try:
            records.append(FastaRecord(name, clean_sequence(raw, name)))
        except SequenceError as error:
            bad += 1
            first = first or error
            if bad <= 3:
                notes.append(f"Left out: {error.message}")
    if not records:
        raise first or SequenceError("The file holds no FASTA record.", "A record starts with a line such as >name.")
    if bad > 3:
        notes.append(f"{bad} records in all were left out.")
    if len(chunks) > len(records) + bad:
        used = "only the first was used" if len(records) == 1 else f"the first {len(records)} were used"
        notes.append(f"There are {len(chunks):,} records; {used}.")
    return FastaFile(tuple(records), len(chunks), tuple(notes))
