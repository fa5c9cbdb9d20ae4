"""Definitions of a graph's Gene Ontology terms, from go-basic.obo.

Knows: the OBO tags id, name, def, namespace, alt_id, is_obsolete, replaced_by and data-version, and the spellings of GO ids in graphs.
Does not know: networks, encoders.

The format: https://owlcollab.github.io/oboformat/doc/GO.format.obo-1_4.html. GO is licensed under CC BY 4.0
(https://geneontology.org/docs/go-citation-policy/).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biobridge_rag.errors import FileError
from biobridge_rag.fetching.downloads import download
from biobridge_rag.fetching.http import Http
from biobridge_rag.fetching.records import Entry, Licence, Outcome, check_ours, current, describe, fetching_into, write_csv, write_record
from biobridge_rag.fetching.tables import graph_nodes
from biobridge_rag.types import NodeType, Progress

GO_BASIC = "https://current.geneontology.org/ontology/go-basic.obo"
LICENCE = Licence("CC BY 4.0", "https://geneontology.org/docs/go-citation-policy/")
OBSOLETE, UNKNOWN, NO_TEXT, NOT_GO = (
    "obsolete term",
    "term that go-basic.obo does not have",
    "term without a definition",
    "id that is no GO id",
)
_TABLES = {
    NodeType.BIOLOGICAL_PROCESS: "biological.csv",
    NodeType.MOLECULAR_FUNCTION: "molecular.csv",
    NodeType.CELLULAR_COMPONENT: "cellular.csv",
}
_COLUMNS = ("node_id", "node_index", "node_name", "node_type", "description", "node_source")
_OBO = "go-basic.obo"
_ESCAPES = {"n": "\n", "t": "\t", "W": " "}


@dataclass(frozen=True, slots=True)
class Term:
    id: str
    name: str
    definition: str
    namespace: str
    obsolete: bool


@dataclass(frozen=True)
class Ontology:
    """release: the date of data-version, such as 2025-07-22. terms: by id and by alternative id, which gives way to an id."""

    release: str
    terms: dict[str, Term]


def fetch_go(
    graph: Path, progress: Progress | None = None, *, overwrite: bool = False, url: str = GO_BASIC, http: Http | None = None
) -> Outcome:
    """Writes biological.csv, molecular.csv and cellular.csv into the graph's directory, a row for each GO node of nodes.csv; one
    without a definition keeps its name alone, and is counted. go-basic.obo stays beside; delete it to fetch a newer release.
    overwrite: also tables that are there without having been fetched. Raises GraphFormatError or FetchError."""
    nodes = graph_nodes(graph, [t.value for t in _TABLES])
    options = f"nodes {hashlib.sha256(json.dumps(nodes).encode()).hexdigest()[:16]}"
    with fetching_into(graph):
        check_ours(graph, _TABLES.values(), overwrite)
        entries: dict[str, Entry] = {}
        kept = current(graph, _OBO)
        if kept is None:
            with http or Http() as client:
                saved = download(client, url, graph / _OBO, progress=progress, max_bytes=1 << 30)
            ontology = read_obo(saved.path)
            entries[_OBO] = describe(saved.path, "Gene Ontology", url, LICENCE, note=f"release {ontology.release}")
        tables = {name: current(graph, name, options) for name in _TABLES.values()}
        if kept is not None and all(tables.values()):
            return Outcome(graph, kept={_OBO: kept} | {name: entry for name, entry in tables.items() if entry is not None})
        ontology = read_obo(graph / _OBO)
        for node_type, name in _TABLES.items():
            rows, left_out = [], dict[str, list[str]]()
            for row in (r for r in nodes if r["node_type"] == node_type.value):
                description, why = _describe(row["node_id"], ontology)
                if why:
                    left_out.setdefault(why, []).append(row["node_id"])
                rows.append({**row, "description": description})
            write_csv(graph / name, _COLUMNS, rows)
            skipped = {why: len(left_out[why]) for why in sorted(left_out)}
            note = f"release {ontology.release}; counted nodes keep their name as text"
            entries[name] = describe(
                graph / name, "Gene Ontology", url, LICENCE, skipped=skipped, left_out=left_out, note=note, options=options
            )
        write_record(graph, entries)
    return Outcome(graph, entries, {_OBO: kept} if kept is not None else {})


def go_id(text: str) -> str | None:
    """GO:0000002 for itself and for the bare number 2 of PrimeKG; None for anything else."""
    found = re.fullmatch(r"(?:GO:)?(\d{1,7})", text)
    return f"GO:{int(found[1]):07d}" if found else None


def read_obo(path: Path) -> Ontology:
    """The terms of an OBO file. Raises FileError where it is none, or has no term."""
    terms: dict[str, Term] = {}
    alternatives: dict[str, Term] = {}
    release = ""
    try:
        for kind, tags in _stanzas(path):
            if not kind:
                release = re.sub(r"^releases/", "", tags.get("data-version", [""])[0]) or tags.get("date", [""])[0]
            elif kind == "Term" and "id" in tags:
                term = Term(
                    tags["id"][0], tags.get("name", [""])[0], _quoted(tags.get("def", [""])[0]), tags.get("namespace", [""])[0],
                    tags.get("is_obsolete", [""])[0] == "true",
                )  # fmt: skip
                terms[term.id] = term
                alternatives.update(dict.fromkeys(tags.get("alt_id", []), term))
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read as an OBO file.", "Delete it and fetch it again.") from error
    if not terms:
        raise FileError(f"{path} holds no term.", "Delete it and fetch it again.")
    return Ontology(release, alternatives | terms)


def _describe(node_id: str, ontology: Ontology) -> tuple[str, str]:
    """A node's definition, or an empty text and why there is none."""
    if (id := go_id(node_id)) is None:
        return "", NOT_GO
    term = ontology.terms.get(id)
    if term is None or term.obsolete:
        return "", UNKNOWN if term is None else OBSOLETE
    return term.definition, "" if term.definition else NO_TEXT


def _stanzas(path: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """(kind, tags) of the header, whose kind is empty, and of each stanza."""
    kind, tags = "", dict[str, list[str]]()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if found := re.fullmatch(r"\[(\w+)\]", line.strip()):
                yield kind, tags
                kind, tags = found[1], {}
            else:
                tag, colon, value = line.partition(":")
                if colon and not line.startswith("!"):
                    value = value.strip()
                    tags.setdefault(tag.strip(), []).append(value if tag == "def" else re.sub(r"\s+!.*$", "", value))
    yield kind, tags


def _quoted(value: str) -> str:
    r"""The text between the first pair of quotation marks of a def, with \" and the like made plain, on one line."""
    found = re.match(r'"((?:[^"\\]|\\.)*)"', value)
    text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), found[1]) if found else ""
    return " ".join(text.split())
