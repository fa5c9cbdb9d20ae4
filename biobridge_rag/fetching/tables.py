"""Completes one feature table of a graph: asks for the rows that it lacks, batch by batch, and loses at most one batch to a kill.

Knows: nodes.csv, the table's file, its journal, the record. Does not know: who is asked, or what is in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from biobridge_rag.fetching.records import Journal, Licence, Outcome, current, describe, fetching_into, read_record, write_csv, write_record
from biobridge_rag.graph.tables import Files, Row
from biobridge_rag.types import Progress

COLUMNS = ("node_id", "node_type", "node_name", "node_source")


@dataclass(frozen=True)
class Found:
    """What became of one node: a row for the table, or the reason why there is none."""

    node_id: str
    row: Row | None = None
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """A table to complete. ids: the columns that may hold a node's id, the first of those that are there; value: the column without
    which a row counts as missing."""

    name: str
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    value: str
    source: str
    url: str
    licence: Licence
    batch: int


def graph_nodes(directory: Path, node_types: Iterable[str]) -> list[Row]:
    """The rows of nodes.csv of these types, each id once, in the order of the file. Raises GraphFormatError in one line."""
    files, wanted, out = Files(directory), set(node_types), dict[tuple[str, str], Row]()
    for row in files.rows(files.path("nodes"), COLUMNS, ("node_index",)):
        if row["node_type"] in wanted and row["node_id"]:
            out.setdefault((row["node_type"], row["node_id"]), row)
    return list(out.values())


def complete(
    folder: Path,
    table: Table,
    wanted: Sequence[Row],
    ask: Callable[[list[Row]], Iterable[Found]],
    progress: Progress | None = None,
    retry: bool = False,
) -> Outcome:
    """Asks for the rows of the `wanted` nodes that the table lacks and writes them in the order of `wanted`; rows that are there stay.

    Nodes that were found to have none are not asked for again, unless with `retry`. Where nothing lacks, nothing is written.
    """
    with fetching_into(folder):
        file, journal = folder / table.name, Journal(folder / f"{table.name}.journal")
        columns, rows, others = _present(folder, table, {row["node_id"] for row in wanted})
        before = read_record(folder).get(table.name)
        reasons = {} if retry or before is None else {id: why for why, ids in before.left_out.items() for id in ids}
        for line in (journaled := journal.read()):
            rows.update({line["node_id"]: line["row"]} if line["row"] else {})
            reasons.update({line["node_id"]: line["reason"]} if line["reason"] else {})
        pending = [row for row in wanted if row["node_id"] not in rows and row["node_id"] not in reasons]
        entry = current(folder, table.name)
        if not pending and not journaled and (entry is not None or (file.exists() and before is None and not reasons)):
            return Outcome(folder, kept={table.name: entry or describe(file, "was there before", "", Licence("not known here", ""))})
        for start in range(0, len(pending), table.batch):
            batch = pending[start : start + table.batch]
            answers = {found.node_id: found for found in ask(batch)}
            lines = [answers.get(row["node_id"]) or Found(row["node_id"], reason="no answer") for row in batch]
            journal.add({"node_id": f.node_id, "row": f.row, "reason": f.reason} for f in lines)
            rows.update({f.node_id: f.row for f in lines if f.row})
            reasons.update({f.node_id: f.reason for f in lines if not f.row})
            if progress is not None:
                progress(f"fetching {table.name}", min(start + table.batch, len(pending)), len(pending))
        write_csv(file, columns, [*others, *(rows[row["node_id"]] for row in wanted if row["node_id"] in rows)])
        left_out: dict[str, list[str]] = {}
        for row in wanted:
            if row["node_id"] not in rows:
                left_out.setdefault(reasons[row["node_id"]], []).append(row["node_id"])
        skipped = {why: len(left_out[why]) for why in sorted(left_out)}
        entry = describe(file, table.source, table.url, table.licence, skipped=skipped, left_out=left_out)
        write_record(folder, {table.name: entry})
        journal.remove()
        return Outcome(folder, fetched={table.name: entry})


def _present(folder: Path, table: Table, wanted: set[str]) -> tuple[list[str], dict[str, Row], list[Row]]:
    """The columns to write, the rows of wanted nodes that are there, and all other rows."""
    path = next((p for p in (folder / table.name, folder / f"{table.name}.gz") if p.is_file()), None)
    if path is None:
        return list(table.columns), {}, []
    files = Files(folder)
    header, _ = files.header(path)
    id_column = next((c for c in table.ids if c in header), table.ids[0])
    rows: dict[str, Row] = {}
    others: list[Row] = []
    for row in files.rows(path, (id_column, table.value), tuple(header)):
        if row[id_column] in wanted and row[id_column] not in rows:
            if row[table.value]:
                rows[row[id_column]] = row
        else:
            others.append(row)
    return [*header, *(c for c in table.columns if c not in header)], rows, others
