"""Validates the starter graph's tables: `python -m biobridge_rag.graph.starter.check [--realkg DIR]`.

Knows: what a well-formed row is and how many rows there must be; the protein and drug tables of a directory in
PrimeKG's layout, to compare with. Does not know: whether a fact is true, or which of two that differ is right: a
sequence or structure that differs from the other graph's is shown, not failed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from biobridge_rag import chemistry
from biobridge_rag.errors import BiobridgeError, FileError, GraphFormatError
from biobridge_rag.graph.starter import COLUMNS, Row, Tables, read_tables

AT_LEAST = {"proteins": 120, "drugs": 150, "diseases": 60, "go": 120, "edges": 1_500}
NEEDED_RELATIONS = ("target", "indication", "associated with", "interacts with", "ppi", "parent-child")
BRANCHES = ("biological_process", "molecular_function", "cellular_component")
ID_COLUMN = {"proteins": "uniprot_id", "drugs": "drugbank_id", "diseases": "disease_id", "go": "go_id"}
NAME_COLUMN = {"proteins": "symbol", "drugs": "name", "diseases": "name", "go": "name"}
ID_FORM = {
    "proteins": re.compile(r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2}"),
    "drugs": re.compile(r"DB[0-9]{5}"),
    "diseases": re.compile(r"DOID:(?:[1-9][0-9]{0,6}|00[0-9]{5})|MESH:[CD][0-9]{6,9}"),
    "go": re.compile(r"GO:[0-9]{7}"),
}
ENDS = {
    "target": {("drugs", "proteins")},
    "enzyme": {("drugs", "proteins")},
    "transporter": {("drugs", "proteins")},
    "indication": {("drugs", "diseases")},
    "associated with": {("diseases", "proteins")},
    "interacts with": {("proteins", branch) for branch in BRANCHES},
    "ppi": {("proteins", "proteins")},
    "parent-child": {("diseases", "diseases")} | {(branch, branch) for branch in BRANCHES},
}
LETTERS = frozenset("ACDEFGHIKLMNPQRSTVWYU")


def validate(tables: Tables) -> list[str]:
    """One line for each fault of the tables; an empty list means that they are sound."""
    tables = {name: tables.get(name, []) for name in COLUMNS}
    faults = _shape(tables)
    if faults:
        return faults
    faults = _counts(tables)
    for name in ID_COLUMN:
        faults += _names_and_ids(name, tables[name])
    for row in tables["proteins"]:
        faults += _sequence(row)
    for row in tables["drugs"]:
        faults += _structure(row)
    faults += _edges(tables)
    linked = _linked(tables)
    faults += [f"drugs: {row['name']} has no edge" for row in tables["drugs"] if row["drugbank_id"] not in linked]
    return faults


def without_edges(tables: Tables) -> list[str]:
    """Names of the nodes that no edge mentions, `table: name`."""
    linked = _linked(tables)
    return [f"{name}: {row[NAME_COLUMN[name]]}" for name in ID_COLUMN for row in tables[name] if row[ID_COLUMN[name]] not in linked]


def _linked(tables: Tables) -> set[str]:
    return {row[end] for row in tables["edges"] for end in ("head", "tail")}


def _shape(tables: Tables) -> list[str]:
    faults = []
    for name, columns in COLUMNS.items():
        for number, row in enumerate(tables[name], start=2):
            if tuple(row) != columns or None in row.values():
                faults.append(f"{name}: line {number} does not have the columns {', '.join(columns)}")
                continue
            for column, value in row.items():
                if not value.strip() and column != "synonyms":
                    faults.append(f"{name}: line {number} has no {column}")
                if not value.isascii() or value != " ".join(value.split()):
                    faults.append(f"{name}: line {number}, {column} is not plain ASCII with single spaces")
    return faults


def _counts(tables: Tables) -> list[str]:
    faults = [f"{name}: {len(tables[name])} rows, at least {n} are needed" for name, n in AT_LEAST.items() if len(tables[name]) < n]
    relations = {row["relation"] for row in tables["edges"]}
    faults += [f"edges: none of the relation {relation}" for relation in NEEDED_RELATIONS if relation not in relations]
    present = {row["branch"] for row in tables["go"]}
    faults += [f"go: no term of the branch {branch}" for branch in BRANCHES if branch not in present]
    return faults + [f"go: {row['go_id']} has the unknown branch {row['branch']}" for row in tables["go"] if row["branch"] not in BRANCHES]


def _names_and_ids(name: str, rows: Sequence[Row]) -> list[str]:
    key, label = ID_COLUMN[name], NAME_COLUMN[name]
    faults = [f"{name}: {row[key]!r} of {row[label]} is not a well-formed id" for row in rows if not ID_FORM[name].fullmatch(row[key])]
    for column in (key, label):
        seen = Counter(row[column].casefold() for row in rows)
        faults += [f"{name}: {column} {value} stands {n} times" for value, n in sorted(seen.items()) if n > 1]
    return faults


def _sequence(row: Row) -> list[str]:
    symbol, sequence = row["symbol"], row["sequence"]
    faults = []
    if not sequence.startswith("M"):
        faults.append(f"proteins: the sequence of {symbol} starts with {sequence[:1]}, not M")
    strange = sorted(set(sequence) - LETTERS)
    if strange:
        faults.append(f"proteins: the sequence of {symbol} has the letters {''.join(strange)}")
    if row["length"] != str(len(sequence)):
        faults.append(f"proteins: {symbol} states {row['length']} residues, its sequence has {len(sequence)}")
    return faults


def _structure(row: Row) -> list[str]:
    mol = chemistry.mol_or_none(row["smiles"])
    if mol is None:
        return [f"drugs: the SMILES of {row['name']} does not parse"]
    found = chemistry.formula(mol)
    return [f"drugs: {row['name']} states {row['formula']}, its SMILES has {found}"] if found != row["formula"] else []


def _edges(tables: Tables) -> list[str]:
    kind = {row[ID_COLUMN[name]]: name for name in ("proteins", "drugs", "diseases") for row in tables[name]}
    kind |= {row["go_id"]: row["branch"] for row in tables["go"]}
    faults = []
    seen: set[tuple[str, str, str]] = set()
    for row in tables["edges"]:
        head, relation, tail = row["head"], row["relation"], row["tail"]
        text = f"{head} -{relation}-> {tail}"
        unknown = [end for end in (head, tail) if end not in kind]
        if unknown:
            faults.append(f"edges: {text} names {' and '.join(unknown)}, which no table holds")
        elif relation not in ENDS:
            faults.append(f"edges: {text} has an unknown relation")
        elif (kind[head], kind[tail]) not in ENDS[relation]:
            faults.append(f"edges: {text} joins {kind[head]} to {kind[tail]}, which does not fit the relation")
        if head == tail:
            faults.append(f"edges: {text} joins a node to itself")
        elif (head, relation, tail) in seen:
            faults.append(f"edges: {text} stands twice")
        elif (tail, relation, head) in seen:
            faults.append(f"edges: {text} stands mirrored as well")
        seen.add((head, relation, tail))
    return faults


def report(tables: Tables) -> str:
    """A few lines on what the tables hold: rows, edges by relation, nodes without an edge."""
    branches = Counter(row["branch"] for row in tables["go"])
    relations = Counter(row["relation"] for row in tables["edges"])
    lines = [
        ", ".join(f"{len(tables[name])} {'GO terms' if name == 'go' else name}" for name in COLUMNS),
        "GO terms: " + ", ".join(f"{n} {branch.replace('_', ' ')}" for branch, n in branches.most_common()),
        "edges: " + ", ".join(f"{n} {relation}" for relation, n in relations.most_common()),
    ]
    return "\n".join([*lines, *(f"warning: no edge: {node}" for node in without_edges(tables))])


def compare(tables: Tables, directory: Path) -> str:
    """Lines that list every sequence and structure that differs or cannot be compared, and count the rest.

    Proteins are matched by `uniprot_id` where that column exists, else by symbol; drugs by DrugBank id; structures are
    equal when their InChIKeys are. Raises FileError for a missing file, GraphFormatError for a missing column.
    """
    proteins = _rows(directory, "protein", ("node_name", "sequence"))
    by_symbol = {row["node_name"]: row["sequence"] for row in proteins}
    by_accession = {row["uniprot_id"]: row["sequence"] for row in proteins if row.get("uniprot_id")}
    smiles = {row["drugbank_id"]: row["smiles"] for row in _rows(directory, "drug", ("drugbank_id", "smiles"))}

    lines: list[str] = []
    absent: list[str] = []
    same = 0
    for row in tables["proteins"]:
        other = by_accession.get(row["uniprot_id"]) or by_symbol.get(row["symbol"])
        if not other:
            absent.append(row["symbol"])
        elif other == row["sequence"]:
            same += 1
        else:
            lines.append(f"differs: {row['symbol']} ({row['uniprot_id']}): {_sequence_difference(row['sequence'], other)}")
    lines.insert(0, f"sequences compared with {directory.name}: {same} equal, {len(lines)} differ, {len(absent)} not there{_named(absent)}")

    found: list[str] = []
    absent, same = [], 0
    for row in tables["drugs"]:
        if row["drugbank_id"] not in smiles:
            absent.append(row["name"])
            continue
        difference = _structure_difference(row, smiles[row["drugbank_id"]])
        if difference:
            found.append(f"differs: {row['name']} ({row['drugbank_id']}): {difference}")
        else:
            same += 1
    lines.append(f"structures compared with {directory.name}: {same} equal, {len(found)} differ, {len(absent)} not there{_named(absent)}")
    return "\n".join(lines + found)


def _named(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _sequence_difference(ours: str, other: str) -> str:
    positions = [i for i, (a, b) in enumerate(zip(ours, other, strict=False), start=1) if a != b]
    first = f", the first at {positions[0]}" if positions else ""
    return f"{len(ours)} residues here, {len(other)} there; {len(positions)} positions differ{first}"


def _structure_difference(row: Row, smiles: str) -> str:
    """What differs between two structures, or an empty string."""
    mol, other = chemistry.mol_or_none(row["smiles"]), chemistry.mol_or_none(smiles)
    if other is None:
        return "its SMILES there does not parse"
    if chemistry.inchikey(mol) == chemistry.inchikey(other):
        return ""
    if chemistry.same_connectivity_key(mol) == chemistry.same_connectivity_key(other):
        return "the same skeleton with other stereochemistry or charge"
    return f"another skeleton, {row['formula']} here, {chemistry.formula(other)} there"


def _rows(directory: Path, name: str, columns: tuple[str, ...]) -> list[Row]:
    path = next((p for p in (directory / f"{name}.csv", directory / f"{name}.csv.gz") if p.is_file()), None)
    if path is None:
        raise FileError(f"There is no {name}.csv or {name}.csv.gz in {directory}.", "Give a directory in PrimeKG's layout to --realkg.")
    with gzip.open(path, "rt", encoding="utf-8", newline="") if path.suffix == ".gz" else path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise GraphFormatError(f"{path.name} in {directory} has no column {', '.join(missing)}.")
        return [dict(row) for row in reader]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; returns 0 where the tables are sound, 1 with a line for each fault, 2 for a bad option."""
    parser = argparse.ArgumentParser(prog="python -m biobridge_rag.graph.starter.check", description="Validate the starter graph's tables.")
    parser.add_argument("--realkg", type=Path, help="a graph in PrimeKG's layout to compare sequences and structures with")
    options = parser.parse_args(arguments)
    tables = read_tables()
    faults = validate(tables)
    if faults:
        print("\n".join(f"fault: {fault}" for fault in faults))
        print(f"{len(faults)} faults")
        return 1
    print(report(tables))
    directory = options.realkg or Path(__file__).resolve().parents[3].parent / "shared" / "realkg"
    if options.realkg or directory.is_dir():
        try:
            print(compare(tables, directory))
        except BiobridgeError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    print("no faults")
    return 0


if __name__ == "__main__":
    sys.exit(main())
