"""The shown candidates as CSV and SDF, carried in the page itself: nothing is written on the server.

Knows: Retrieval, CSV, SDF. Does not know: gradio, the engine.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from typing import Any

from biobridge_rag.chemistry import write_sdf
from biobridge_rag.types import NodeType, Retrieval, RetrievedNode

CSV_COLUMNS = ("rank", "id", "name", "type", "known", "probability", "score", "smiles", "url", "query", "relation", "evidence")


def to_csv(retrieval: Retrieval) -> str:
    """One line a hit, in rank order, with the columns of CSV_COLUMNS; evidence is `kind: text [source]`, joined by ' | '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for hit in retrieval.hits:
        row = hit.to_dict()
        evidence = " | ".join(_evidence_line(hit))
        texts = {"query": retrieval.query.name, "relation": retrieval.relation.name, "evidence": evidence}
        values = {**row, "known": "yes" if hit.known else "no", "smiles": row["smiles"] or "", **texts}
        writer.writerow([_cell(values[column]) for column in CSV_COLUMNS])
    return out.getvalue()


def _evidence_line(hit: RetrievedNode) -> list[str]:
    return [f"{e.kind}: {e.text}" + (f" [{e.source}]" if e.source else "") for e in hit.evidence]


def _cell(value: Any) -> Any:
    """A spreadsheet runs cells that open with = + - @; an apostrophe keeps such text as text."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def to_sdf(retrieval: Retrieval) -> str:
    """The drugs among the hits as SDF with 2D coordinates, rank, probability and whether the graph knows them; may be empty."""
    records = []
    for hit in retrieval.hits:
        if hit.node.type is NodeType.DRUG and hit.node.values:
            properties = {
                "name": _property(hit.node.name),
                "id": _property(hit.node.id),
                "rank": hit.rank,
                "known": "yes" if hit.known else "no",
                "probability": f"{hit.probability:.4f}",
                "query": _property(retrieval.query.name),
                "relation": retrieval.relation.name,
            }
            records.append((hit.node.values[0], properties))
    return write_sdf(records) if records else ""


def _property(text: str) -> str:
    """One line; a record separator inside a name would end the record."""
    return " ".join(text.split()).replace("$$$$", "$$ $$")


def file_stem(retrieval: Retrieval) -> str:
    """A file name such as ABL1_target_drug, of letters, digits, - and _ only."""
    parts = (retrieval.query.name[:40], retrieval.relation.name, NodeType(retrieval.relation.tail_type).label)
    return "_".join(re.sub(r"[^A-Za-z0-9-]+", "-", part).strip("-") or "query" for part in parts)


def download_links(retrieval: Retrieval) -> str:
    """The download buttons: CSV always, SDF where the hits are drugs."""
    stem = file_stem(retrieval)
    links = [_link("download-csv", "CSV", f"{stem}.csv", "text/csv", "\ufeff" + to_csv(retrieval))]
    sdf = to_sdf(retrieval)
    if sdf:
        links.append(_link("download-sdf", "SDF", f"{stem}.sdf", "chemical/x-mdl-sdfile", sdf))
    return '<span class="label">Download</span>' + "".join(links)


def _link(mark: str, text: str, filename: str, media_type: str, content: str) -> str:
    data = base64.b64encode(content.encode()).decode()
    return (
        f'<a id="{mark}" class="button" download="{filename}" href="data:{media_type};charset=utf-8;base64,{data}" '
        f'aria-label="Download the table as {text}">{text}</a>'
    )
