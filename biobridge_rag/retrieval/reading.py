"""Reads what a user brings, pasted or as a file, into queries: a protein sequence, a molecule, a node of the graph.

Knows: FASTA, SMILES, SDF, the graph. Does not know: encoders' vectors, relations, the page.

A sequence or a structure that stands in the graph is recognised as that node.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from biobridge_rag.chemistry import Parsed, inchikey, mol_or_none, parse_sdf, parse_smiles
from biobridge_rag.encoders.sequences import MAX_HEADER, clean_sequence, decode, is_residues, looks_like_dna, parse_fasta, printable
from biobridge_rag.errors import FileError, MoleculeError, SequenceError
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Query

MAX_FILE_BYTES = 5_000_000
MAX_QUERIES = 20
_MIN_PASTED = 25
_PASTED = re.compile(rf"\b[A-IK-NP-Z]{{{_MIN_PASTED},}}\*?(?![A-Za-z])")


class QueryReader:
    """Turns text and files into queries on one graph."""

    def __init__(self, graph: KnowledgeGraph, linker: NodeLinker) -> None:
        self.graph, self.linker = graph, linker

    @cached_property
    def _by_sequence(self) -> dict[str, Node]:
        nodes = (self.graph.nodes[i] for i in self.graph.by_type.get(NodeType.PROTEIN, ()))
        return {value: node for node in nodes for value in node.values}

    @cached_property
    def _by_smiles(self) -> dict[str, Node]:
        nodes = [self.graph.nodes[i] for i in self.graph.by_type.get(NodeType.DRUG, ())]
        return {value: node for node in nodes for value in node.values}

    @cached_property
    def _by_inchikey(self) -> dict[str, Node]:
        return {inchikey(mol): node for smiles, node in self._by_smiles.items() if (mol := mol_or_none(smiles)) is not None}

    def sequence(self, sequence: str, name: str = "") -> Query:
        """A protein query. Raises SequenceError in one line."""
        clean = clean_sequence(sequence, name)
        node = self._by_sequence.get(clean)
        if node is not None:
            return Query(NodeType.PROTEIN, node.name, clean, node, f"{name or 'The sequence'} is {node.name} ({node.id}) of the graph.")
        return Query(NodeType.PROTEIN, name or "the pasted sequence", clean)

    def molecule(self, smiles: str, name: str = "") -> Query:
        """A drug query; salts and mixtures are reduced to the largest part. Raises MoleculeError in one line."""
        return self._molecule(parse_smiles(smiles), name)

    def _molecule(self, parsed: Parsed, name: str = "") -> Query:
        node = self._by_smiles.get(parsed.smiles) or self._by_inchikey.get(inchikey(parsed.mol))
        note = f"{name or 'The input'} is {parsed.note}." if parsed.note else ""
        if node is not None:
            note = f"{note} The structure is {node.name} ({node.id}) of the graph.".strip()
            return Query(NodeType.DRUG, node.name, parsed.smiles, node, note)
        return Query(NodeType.DRUG, name or "the pasted molecule", parsed.smiles, None, note)

    def node(self, text: str, node_type: NodeType | None = None) -> Query:
        """A node by name, symbol or id. Raises UnknownNodeError naming the nearest."""
        node = self.linker.resolve(text, node_type)
        note = (
            "" if text.strip().lower() in (node.name.lower(), node.id.lower()) else f"{text.strip()!r} was read as {node.name} ({node.id})."
        )
        return Query(node.type, node.name, node.values[0] if node.values else "", node, note)

    def fasta(self, data: bytes | str) -> tuple[list[Query], list[str]]:
        found = parse_fasta(data, MAX_QUERIES)
        return [self.sequence(record.sequence, record.name) for record in found.records], list(found.notes)

    def text(self, text: str) -> Query | None:
        """A pasted sequence, FASTA record, SMILES or exact node name; None for anything else, which is then words."""
        stripped = text.strip()
        if not stripped:
            return None
        if stripped.startswith(">"):
            found = parse_fasta(stripped, 1)
            query = self.sequence(found.records[0].sequence, found.records[0].name)
            return replace(query, note=" ".join([query.note, *found.notes]).strip())
        compact = re.sub(r"\s+", "", stripped)
        letters = len(compact) >= _MIN_PASTED and is_residues(compact.upper().rstrip("*")) and (compact.isupper() or " " not in stripped)
        if letters and (looks_like_dna(compact.upper()) or mol_or_none(stripped) is None):
            return self.sequence(compact)
        exact = self.linker.find(stripped, limit=1)
        if exact and exact[0].score >= 1.0:
            node = exact[0].node
            return Query(node.type, node.name, node.values[0] if node.values else "", node)
        if " " not in stripped and len(stripped) > 1 and _looks_like_smiles(stripped):
            return self.molecule(stripped)
        return None

    def inside(self, text: str) -> tuple[str, list[Query]]:
        """Takes sequences out of a question's words: (the question, with "this protein" in their place, and the queries). A run of 25
        or more residue letters in capitals is one; what is no protein (a nucleotide sequence, say) stays where it is."""
        queries: list[Query] = []

        def taken(match: re.Match[str]) -> str:
            try:
                queries.append(self.sequence(match.group()))
            except SequenceError:
                return match.group()
            return "this protein"

        words = _PASTED.sub(taken, text)
        return re.sub(r"(?:this|the|following) (?:protein|sequence)\s*[:=]?\s*this protein", "this protein", words), queries

    def file(self, path: Path) -> tuple[list[Query], list[str]]:
        """Queries of a FASTA, SDF, MOL or SMILES file and notes on what was left out. Raises an InputError in one line."""
        try:
            with path.open("rb") as handle:
                data = handle.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise FileError(f"The file {path.name} cannot be read: {error.strerror or error}.") from error
        if len(data) > MAX_FILE_BYTES:
            raise FileError(f"The file {path.name} is too large: at most {MAX_FILE_BYTES / 1e6:.0f} MB are read.")
        text = decode(data, f"file {path.name}")
        suffix = path.suffix.lower()
        if suffix in (".sdf", ".mol", ".sd") or "M  END" in text:
            molecules, notes = parse_sdf(data, MAX_QUERIES)
            return [self._molecule(parsed, _title(parsed)) for parsed in molecules], notes
        if suffix in (".smi", ".smiles"):
            return self._smiles_lines(text)
        if not text.lstrip().startswith(">") and (query := self._first_smiles(text)) is not None:
            return [query], []
        return self.fasta(text)

    def _first_smiles(self, text: str) -> Query | None:
        lines = text.split()
        return self.molecule(lines[0]) if lines and len(text.splitlines()) == 1 and _looks_like_smiles(lines[0]) else None

    def _smiles_lines(self, text: str) -> tuple[list[Query], list[str]]:
        queries: list[Query] = []
        notes: list[str] = []
        lines = [line for line in text.splitlines() if line.strip()]
        first: MoleculeError | None = None
        for line in lines[:MAX_QUERIES]:
            smiles, *name = line.split(None, 1)
            try:
                queries.append(self.molecule(smiles, printable(" ".join(name))[:MAX_HEADER]))
            except MoleculeError as error:
                first = first or error
                notes.append(f"Left out: {error.message}")
        if not queries:
            raise first or MoleculeError("The file holds no SMILES.")
        if len(lines) > MAX_QUERIES:
            notes.append(f"The file holds {len(lines):,} molecules; the first {MAX_QUERIES} were used.")
        return queries, notes


def _looks_like_smiles(text: str) -> bool:
    """A parsing molecule that is written with ring, bond, branch or aromatic signs, so that plain words are not taken for one."""
    return bool(re.search(r"[=#()\[\]0-9cno]", text)) and not re.fullmatch(r"[A-Za-z]{1,3}\d*", text) and mol_or_none(text) is not None


def _title(parsed: Parsed) -> str:
    return printable(str(parsed.mol.GetProp("_Name")))[:MAX_HEADER] if parsed.mol.HasProp("_Name") else ""
