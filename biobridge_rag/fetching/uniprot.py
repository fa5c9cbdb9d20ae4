"""Protein sequences from UniProt's REST service: identifiers are mapped by jobs, results are paged, the choice among entries is fixed.

Knows: the id-mapping jobs of rest.uniprot.org and the JSON of its entries. Does not know: encoders, retries, how tables are kept.

https://www.uniprot.org/help/id_mapping_prog describes the jobs; UniProt is licensed under CC BY 4.0
(https://www.uniprot.org/help/license).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from biobridge_rag.encoders.sequences import clean_sequence
from biobridge_rag.errors import FetchError, InputError, SequenceError
from biobridge_rag.fetching.http import Http
from biobridge_rag.fetching.records import Licence, Outcome
from biobridge_rag.fetching.tables import Found, Table, complete, graph_nodes
from biobridge_rag.graph.tables import Row
from biobridge_rag.types import NodeType, Progress

UNIPROT = "https://rest.uniprot.org"
LICENCE = Licence("CC BY 4.0", "https://www.uniprot.org/help/license")
HUMAN = 9606
PAGE = 500
POLL_SECONDS = 3.0
POLLS = 400
FIELDS = "accession,reviewed,protein_name,gene_names,organism_id,sequence"
# https://www.uniprot.org/help/accession_numbers
_ACCESSION = re.compile(r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9]([A-Z][A-Z0-9]{2}[0-9]){1,2}")
_COLUMNS = ("node_id", "node_index", "node_name", "node_type", "node_source", "sequence", "uniprot_id", "full_name")
NO_ENTRY = "gene without a protein in UniProt"
NOT_A_GENE = "id that is no NCBI gene id"
UNKNOWN = "accession that UniProt does not know"
NO_SEQUENCE = "sequence that cannot be read"


def fetch_sequences(
    graph: Path, progress: Progress | None = None, *, retry: bool = False, base: str = UNIPROT, http: Http | None = None, batch: int = 500
) -> Outcome:
    """Writes protein.csv into the graph's directory: a sequence for each gene/protein of nodes.csv, whose ids are NCBI gene ids.

    Raises GraphFormatError for a directory without nodes.csv, FetchError where UniProt does not answer.
    """
    wanted = graph_nodes(graph, [NodeType.PROTEIN.value])
    with http or Http(per_second=5) as client:

        def ask(rows: list[Row]) -> list[Found]:
            genes = {row["node_id"]: row for row in rows if row["node_id"].isdigit()}
            entries = _mapped(client, base, "GeneID", list(genes)) if genes else {}
            found = [Found(row["node_id"], reason=NOT_A_GENE) for row in rows if row["node_id"] not in genes]
            return [*found, *(_found(row, entries.get(id, []), NO_ENTRY) for id, row in genes.items())]

        return complete(graph, _table(base, batch), wanted, ask, progress, retry)


def fetch_accessions(
    accessions: Sequence[str], folder: Path, progress: Progress | None = None, *, retry: bool = False, base: str = UNIPROT,
    http: Http | None = None, batch: int = 500,
) -> Outcome:  # fmt: skip
    """Writes protein.csv into `folder` for UniProt accessions, which become the node ids; one that was merged into another entry gets
    that entry's sequence. Raises InputError for what is no accession."""
    names = [a.strip().upper() for a in dict.fromkeys(accessions)]
    if wrong := next((a for a in names if not _ACCESSION.fullmatch(a)), None):
        raise InputError(f"{wrong!r} is no UniProt accession.", "They look like P00533 or A0A024R1R8.")
    wanted = [
        {"node_id": a, "node_index": str(i), "node_name": "", "node_type": NodeType.PROTEIN.value, "node_source": "UniProt"}
        for i, a in enumerate(names)
    ]
    with http or Http(per_second=5) as client:

        def ask(rows: list[Row]) -> list[Found]:
            entries = _mapped(client, base, "UniProtKB_AC-ID", [row["node_id"] for row in rows])
            merged = {a: to for a, found in entries.items() if (to := _merged_into(found)) is not None}
            after = _mapped(client, base, "UniProtKB_AC-ID", list(dict.fromkeys(merged.values()))) if merged else {}
            entries |= {a: after.get(to) or entries[a] for a, to in merged.items()}
            return [_found(row, entries.get(row["node_id"], []), UNKNOWN) for row in rows]

        return complete(folder, _table(base, batch), wanted, ask, progress, retry)


def _table(base: str, batch: int) -> Table:
    return Table("protein.csv", _COLUMNS, ("node_id",), "sequence", "UniProtKB", f"{base}/idmapping", LICENCE, batch)


def _mapped(http: Http, base: str, kind: str, ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Each id's entries, by one job of the mapping service; ids without an entry are absent."""
    job = http.get_json(f"{base}/idmapping/run", form={"from": kind, "to": "UniProtKB", "ids": ",".join(ids)}).content.get("jobId")
    if not isinstance(job, str) or not re.fullmatch(r"[\w-]{1,80}", job):
        raise FetchError("UniProt did not accept the mapping job.", "Try again later.")
    for _ in range(POLLS):
        status = http.get_json(f"{base}/idmapping/status/{job}").content
        if status.get("jobStatus") == "FINISHED" or "results" in status or "failedIds" in status:
            break
        if status.get("jobStatus") not in ("NEW", "RUNNING"):
            raise FetchError(f"UniProt's mapping job failed: {str(status)[:200]}.", "Try again later; what was found so far is kept.")
        http.sleep(POLL_SECONDS)
    else:
        raise FetchError(f"UniProt's mapping job took longer than {POLLS * POLL_SECONDS / 60:.0f} minute(s).", "Run the command again.")
    entries: dict[str, list[Mapping[str, Any]]] = {}
    url: str | None = f"{base}/idmapping/uniprotkb/results/{job}"
    params: dict[str, str] | None = {"format": "json", "fields": FIELDS, "size": str(PAGE)}
    seen: set[str] = set()
    while url is not None and url not in seen:
        seen.add(url)
        if urlsplit(url)[:2] != urlsplit(base)[:2]:
            raise FetchError(f"UniProt's next page lies elsewhere: {url[:120]}.")
        page = http.get_json(url, params)
        for result in page.content.get("results", []):
            entries.setdefault(str(result["from"]), []).append(result["to"])
        url, params = page.next, None
    return entries


def _found(row: Row, entries: Sequence[Mapping[str, Any]], none: str) -> Found:
    """A node's row by the best of its entries: reviewed before unreviewed, human before others, one whose gene is called as the node
    is, the longest sequence, the first accession."""
    active = [e for e in entries if not _inactive(e) and e.get("sequence", {}).get("value")]
    if not active:
        reasons = [_gone(e) for e in entries if _inactive(e)]
        return Found(row["node_id"], reason=min(reasons) if reasons else NO_SEQUENCE if entries else none)

    def rank(entry: Mapping[str, Any]) -> tuple[bool, bool, bool, int, str]:
        symbols = {g.get("geneName", {}).get("value", "").casefold() for g in entry.get("genes", [])}
        return (
            "Swiss-Prot" not in entry.get("entryType", ""),
            entry.get("organism", {}).get("taxonId") != HUMAN,
            row["node_name"].casefold() not in symbols,
            -len(entry["sequence"]["value"]),
            entry["primaryAccession"],
        )

    best = min(active, key=rank)
    try:
        sequence = clean_sequence(best["sequence"]["value"])
    except SequenceError:
        return Found(row["node_id"], reason=NO_SEQUENCE)
    name = row["node_name"] or next((g["geneName"]["value"] for g in best.get("genes", []) if "geneName" in g), best["primaryAccession"])
    values = {**row, "node_name": name, "sequence": sequence, "uniprot_id": best["primaryAccession"], "full_name": _full_name(best)}
    return Found(row["node_id"], {c: values.get(c, "") for c in _COLUMNS})


def _full_name(entry: Mapping[str, Any]) -> str:
    described = entry.get("proteinDescription", {})
    names = [described.get("recommendedName", {}), *described.get("submissionNames", [])]
    return next((value for n in names if (value := n.get("fullName", {}).get("value"))), "")


def _inactive(entry: Mapping[str, Any]) -> bool:
    return entry.get("entryType") == "Inactive"


def _reason(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    why = entry.get("inactiveReason", {})
    return str(why.get("inactiveReasonType", "")).upper(), list(why.get("mergeDemergeTo", []))


def _gone(entry: Mapping[str, Any]) -> str:
    kind, _ = _reason(entry)
    return {"DELETED": "entry was deleted", "DEMERGED": "entry was split into several", "MERGED": "entry was merged into another"}.get(
        kind, "entry is inactive"
    )


def _merged_into(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """The one entry that took this one's place, where no active one is among `entries`."""
    if any(not _inactive(e) for e in entries):
        return None
    targets = {t for e in entries for kind, to in [_reason(e)] if kind == "MERGED" and len(to) == 1 for t in to}
    return targets.pop() if len(targets) == 1 else None
