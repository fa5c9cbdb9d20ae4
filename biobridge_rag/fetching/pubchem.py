"""Structures of a graph's drugs from PubChem's PUG REST, by DrugBank id.

Knows: PUG REST's addresses, property names, faults and throttling header. Does not know: retries, how tables are kept.

https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest: at most five requests a second; the header X-Throttling-Control tells the load
(https://pubchem.ncbi.nlm.nih.gov/docs/dynamic-request-throttling). In 2025 the properties IsomericSMILES and CanonicalSMILES became
SMILES and ConnectivitySMILES.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biobridge_rag.chemistry import mol_or_none
from biobridge_rag.errors import FetchError
from biobridge_rag.fetching.http import AnswerError, Http
from biobridge_rag.fetching.records import Licence, Outcome
from biobridge_rag.fetching.tables import Found, Table, complete, graph_nodes
from biobridge_rag.graph.tables import Files, Row
from biobridge_rag.types import NodeType, Progress

PUBCHEM = "https://pubchem.ncbi.nlm.nih.gov"
LICENCE = Licence("no restriction by NCBI; a contributor's own terms may apply", "https://www.ncbi.nlm.nih.gov/home/about/policies/#data")
NO_STRUCTURE = "drug without a structure in PubChem"
NOT_A_DRUG = "id that is no DrugBank id"
UNREADABLE = "structure that RDKit cannot read"
PER_SECOND = 4.0
_PROPERTIES = "SMILES,ConnectivitySMILES,Title"
_COLUMNS = ("node_index", "drugbank_id", "node_name", "smiles", "description")
# Seconds of rest by the load that the service tells: its green, yellow, red and black.
_REST = {"yellow": 1.0, "red": 10.0, "black": 60.0}


def fetch_structures(
    graph: Path, progress: Progress | None = None, *, retry: bool = False, base: str = PUBCHEM, http: Http | None = None, batch: int = 20
) -> Outcome:
    """Writes drug.csv into the graph's directory: a SMILES for each drug of nodes.csv, whose ids are DrugBank ids. Descriptions are
    those of drug_features.csv, where that lies beside. Raises GraphFormatError, or FetchError where PubChem does not answer."""
    wanted, texts = graph_nodes(graph, [NodeType.DRUG.value]), _descriptions(graph)
    table = Table("drug.csv", _COLUMNS, ("drugbank_id", "node_id"), "smiles", "PubChem", f"{base}/rest/pug", LICENCE, batch)
    with http or client() as asked:
        return complete(
            graph, table, wanted, lambda rows: [_found(asked, base, row, texts.get(row.get("node_index", ""), "")) for row in rows],
            progress, retry,
        )  # fmt: skip


def client(**given: Any) -> Http:
    return Http(per_second=PER_SECOND, rest_after=rest, **given)


def rest(headers: Mapping[str, str]) -> float:
    """Seconds to wait by X-Throttling-Control, such as "Request Count status: Green (0%), …, Service status: Red (76%)"."""
    colours = re.findall(r"status:\s*(\w+)", headers.get("x-throttling-control", ""))
    return max((_REST.get(colour.lower(), 0.0) for colour in colours), default=0.0)


def _found(http: Http, base: str, row: Row, description: str) -> Found:
    drug = row["node_id"]
    if not re.fullmatch(r"DB\d{5}", drug):
        return Found(drug, reason=NOT_A_DRUG)
    try:
        content = http.get_json(f"{base}/rest/pug/compound/xref/RegistryID/{drug}/property/{_PROPERTIES}/JSON").content
    except AnswerError as error:
        if error.status == 404 and _fault(error.body) == "PUGREST.NotFound":
            return Found(drug, reason=NO_STRUCTURE)
        raise
    try:
        compounds = [(int(p["CID"]), _smiles(p), str(p.get("Title", ""))) for p in content["PropertyTable"]["Properties"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError(f"PubChem's answer on {drug} has another form than is known.", "A newer version may read it.") from error
    if not any(smiles for _, smiles, _ in compounds):
        return Found(drug, reason=NO_STRUCTURE)
    best = choose(compounds, row["node_name"])
    if best is None:
        return Found(drug, reason=UNREADABLE)
    index = row.get("node_index", "")
    return Found(
        drug, {"node_index": index, "drugbank_id": drug, "node_name": row["node_name"], "smiles": best, "description": description}
    )


def choose(compounds: Sequence[tuple[int, str, str]], name: str) -> str | None:
    """The SMILES among (CID, SMILES, title) that RDKit reads: of a compound that is called as the drug is, else of any; with the
    fewest parts (a drug before its salts); of the lowest CID. None where RDKit reads none."""
    readable = [c for c in compounds if mol_or_none(c[1]) is not None]
    best = min(readable, key=lambda c: (c[2].casefold() != name.casefold(), c[1].count("."), c[0]), default=None)
    return best[1] if best is not None else None


def _smiles(properties: Mapping[str, Any]) -> str:
    return next((str(s) for n in ("SMILES", "IsomericSMILES", "ConnectivitySMILES", "CanonicalSMILES") if (s := properties.get(n))), "")


def _fault(body: str) -> str:
    try:
        return str(json.loads(body)["Fault"]["Code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _descriptions(graph: Path) -> dict[str, str]:
    """Texts of drug_features.csv by node_index, where that file and both columns are there."""
    files = Files(graph)
    path = next((p for p in (graph / "drug_features.csv", graph / "drug_features.csv.gz") if p.is_file()), None)
    if path is None or not {"node_index", "description"} <= set(files.header(path)[0]):
        return {}
    return {row["node_index"]: row["description"] for row in files.rows(path, ("node_index", "description"), ())}
