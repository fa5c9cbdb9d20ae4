"""Reads what a user wants to add to a graph, FASTA records, SMILES, SDF and CSV tables, into entries and statements.

Knows: the columns and lines of these files, which rows cannot be used; every such row is counted by reason in a Tally.
Does not know: what the graph holds (extending.py does), encoders, homes, where a file lies.

Which letters a protein sequence may have is handed in as `clean`: it returns the sequence or raises SequenceError.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from biobridge_rag.chemistry import canonical_smiles, parse_sdf, parse_smiles
from biobridge_rag.errors import FileError, InputError, MoleculeError
from biobridge_rag.types import Modality, NodeType

Clean = Callable[[str, str], str]
MAX_ID, MAX_NAME, MAX_TEXT, MAX_SYNONYMS = 100, 300, 20_000, 100
_SHOWN = 3
_UNIPROT = re.compile(r"(?:sp|tr)\|([A-Za-z0-9-]+)\|(\S+)\s*(.*)")
_SYMBOL = re.compile(r"\bGN=(\S+)")
_FIELDS = re.compile(r"\s\b[A-Z]{2}=")
_TYPES = {
    **{t.value: t for t in NodeType}, "protein": NodeType.PROTEIN, "gene": NodeType.PROTEIN, "molecule": NodeType.DRUG,
    "process": NodeType.BIOLOGICAL_PROCESS, "function": NodeType.MOLECULAR_FUNCTION, "component": NodeType.CELLULAR_COMPONENT,
}  # fmt: skip
# The columns that may hold what is encoded, the first that a file has.
_VALUE = {Modality.PROTEIN: ("sequence", "value"), Modality.MOLECULE: ("smiles", "value")}
_TEXT = ("description", "definition", "value")


@dataclass
class Tally:
    """Rows that are left out, counted by reason; the first few are named."""

    counts: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    first: InputError | None = None

    def leave(self, reason: str, what: str, error: InputError | None = None) -> None:
        self.counts[reason] += 1
        self.first = self.first or error
        if len(self.named.setdefault(reason, [])) < _SHOWN:
            self.named[reason].append(what if len(what) <= 200 else what[:197] + "...")

    def take(self, other: Tally) -> None:
        """Counts what the other has counted, too."""
        self.counts.update(other.counts)
        for reason, named in other.named.items():
            self.named[reason] = [*self.named.get(reason, []), *named][:_SHOWN]

    def lines(self) -> list[str]:
        """One line a reason."""
        return [
            f"left out: {n:,} x {reason}: {'; '.join(self.named[reason])}{'; ...' if n > len(self.named[reason]) else ''}"
            for reason, n in sorted(self.counts.items())
        ]


@dataclass(frozen=True, slots=True)
class Entry:
    """A node as a file states it. keys: what tells it from others of its type: the sequence, the canonical SMILES of all parts and of
    the one that is used, the text. file: the name of the file."""

    id: str
    type: NodeType
    name: str
    value: str
    keys: tuple[str, ...]
    description: str = ""
    synonyms: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """An edge as a file states it; types are None where it states none."""

    head: str
    relation: str
    tail: str
    head_type: NodeType | None = None
    tail_type: NodeType | None = None
    source: str = ""


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def node_type_of(text: str) -> NodeType | None:
    """The node type of that name; "protein", "gene" and the like are understood."""
    return _TYPES.get(text.strip().lower())


def fasta_entries(records: Iterable[tuple[str, str]], clean: Clean, file: str, tally: Tally) -> Iterator[Entry]:
    """Proteins of (header, sequence) records. The id is the first word of the header, the accession where it is UniProt's; the name is
    the gene symbol (GN=) there, else the id; the rest of the header is a synonym."""
    for number, (header, raw) in enumerate(records, start=1):
        if found := _UNIPROT.match(header):
            accession, entry, rest = found.groups()
            symbol = _SYMBOL.search(rest)
            node_id, name, full = accession, symbol[1] if symbol else entry, _FIELDS.split(f" {rest}", maxsplit=1)[0]
            synonyms: tuple[str, ...] = (entry, full)
        else:
            node_id, _, full = header.partition(" ")
            name, synonyms = node_id, (full,)
        yield from _entry(node_id, NodeType.PROTEIN, name, raw, clean, file, tally, f"record {number}", full.strip(), synonyms)


def smiles_entries(text: str, file: str, tally: Tally) -> Iterator[Entry]:
    """Molecules, one a line: a SMILES, then an id or name. After a tab an id and after another a name; other words are the name, and
    the id is the name with "_" for spaces. Salts are reduced to the largest part, as queries are."""
    for number, line in enumerate(text.splitlines(), start=1):
        smiles, *rest = line.strip().split(None, 1)[:2] or ("",)
        if not smiles or (number == 1 and smiles.lower() in ("smiles", "canonical_smiles")):
            continue
        node_id, tab, name = (rest[0] if rest else "").partition("\t")
        if not tab:
            node_id, name = "_".join(node_id.split()), node_id
        yield from _entry(node_id.strip(), NodeType.DRUG, name.partition("\t")[0], smiles, None, file, tally, f"line {number}")


def sdf_entries(data: bytes, file: str, tally: Tally) -> Iterator[Entry]:
    """Molecules of an SDF; the id and name are the title, with "_" for spaces in the id."""
    total = max(1, sum(bool(part.strip()) for part in data.split(b"$$$$")))
    molecules, _ = parse_sdf(data, total)
    for _ in range(total - len(molecules)):
        tally.leave("molecule that RDKit cannot read", file)
    for number, parsed in enumerate(molecules, start=1):
        name = one_line(str(parsed.mol.GetProp("_Name"))) if parsed.mol.HasProp("_Name") else ""
        yield from _entry("_".join(name.split()), NodeType.DRUG, name, parsed.smiles, None, file, tally, f"molecule {number}")


def csv_entries(text: str, clean: Clean, file: str, tally: Tally) -> Iterator[Entry]:
    """Nodes of any type from the columns id, type, name and what is encoded: sequence for proteins, smiles for molecules, description
    (or definition) for all others, or value; synonyms are separated by ";". Raises FileError where a column is missing."""
    for number, row in _rows(text, ("id", "type", "name"), file, tally):
        node_type = node_type_of(row["type"])
        if node_type is None:
            tally.leave("node of no known type", f"{_shown(row['id'], number)}: {one_line(row['type'])[:40] or '(none)'}")
            continue
        value = next((row[c] for c in _VALUE.get(node_type.modality, _TEXT) if c in row), "")
        described = row.get("description", "") or row.get("definition", "")
        synonyms = tuple(row.get("synonyms", "").split(";"))
        yield from _entry(row["id"], node_type, row["name"], value, clean, file, tally, f"row {number}", described, synonyms)


def statements(text: str, file: str, tally: Tally) -> Iterator[Statement]:
    """Edges from the columns head, relation, tail and, where they are there, head_type, tail_type and source; separated by commas, or
    by tabs where the first line has one. Raises FileError where a column is missing."""
    for number, row in _rows(text, ("head", "relation", "tail"), file, tally):
        types = {side: row.get(f"{side}_type", "") for side in ("head", "tail")}
        unknown = next((t for t in types.values() if t and node_type_of(t) is None), None)
        if not (row["head"] and row["relation"] and row["tail"]):
            tally.leave("edge without a head, a relation or a tail", f"row {number}")
        elif unknown is not None:
            tally.leave("edge to a node of no known type", f"row {number}: {one_line(unknown)[:40]}")
        else:
            source = one_line(row.get("source", ""))[:MAX_NAME] or f"added: {file}"
            ends = node_type_of(types["head"]), node_type_of(types["tail"])
            yield Statement(row["head"], row["relation"], row["tail"], *ends, source)


def _rows(text: str, required: tuple[str, ...], file: str, tally: Tally) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their numbers, the header being row 1."""
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",", strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        for column in required:
            if column not in header:
                has = ", ".join(one_line(c) for c in header)
                raise FileError(f"The file {file} has no column {column}.", f"It has: {has if len(has) < 200 else has[:197] + '...'}.")
        for number, fields in enumerate(reader, start=2):
            if not any(value.strip() for value in fields):
                continue
            if len(fields) != len(header):
                tally.leave("row with another number of columns than the header", f"row {number}")
                continue
            yield number, {column: value.strip() for column, value in zip(header, fields, strict=True)}
    except csv.Error as error:
        raise FileError(f"The file {file} cannot be read as CSV: {error} (line {reader.line_num}).") from error


def _entry(
    node_id: str, node_type: NodeType, name: str, value: str, clean: Clean | None, file: str, tally: Tally, where: str,
    description: str = "", synonyms: tuple[str, ...] = (),
) -> Iterator[Entry]:  # fmt: skip
    """The entry where it can be used; else it is counted."""
    if fault := _fault(node_id):
        tally.leave(fault, f"{where} of {file}")
        return
    name, description = one_line(name)[:MAX_NAME] or node_id, one_line(description)[:MAX_TEXT]
    try:
        if node_type.modality is Modality.PROTEIN:
            assert clean is not None
            value = clean(value, node_id)
            keys: tuple[str, ...] = (value,)
        elif node_type.modality is Modality.MOLECULE:
            whole, value = canonical_smiles(value), parse_smiles(value).smiles
            keys = tuple(dict.fromkeys((whole, value)))
        else:
            text = one_line(value)[:MAX_TEXT]
            value = f"Name: {name}. Definition: {text}" if text else f"Name: {name}."
            keys, description = (value,), description or text
    except MoleculeError as error:
        tally.leave("molecule that RDKit cannot read", f"{node_id}: {error.message}", error)
        return
    except InputError as error:
        tally.leave("protein sequence that cannot be used", error.message, error)
        return
    others = [one_line(s)[:MAX_NAME] for s in synonyms]
    kept = tuple(s for s in dict.fromkeys(others) if s and s not in (name, node_id))[:MAX_SYNONYMS]
    yield Entry(node_id, node_type, name, value, keys, description, kept, file)


def _fault(node_id: str) -> str:
    if not node_id:
        return "row without an id"
    if len(node_id) > MAX_ID:
        return f"id of more than {MAX_ID} characters"
    if not node_id.isprintable() or any(c.isspace() for c in node_id):
        return "id with white space or control characters"
    return ""


def _shown(node_id: str, number: int) -> str:
    return one_line(node_id)[:40] or f"row {number}"
