"""Adds a user's nodes and edges to a built home, lists what was added, and takes the last addition back.

Knows: homes, encoders, the bridge's projections, what a switch of files needs, the records additions/N.json. Does not know: settings,
the command line, how homes are built.

The bridge and the fusion weights stay as they were trained. New edges count at once wherever the graph is read: as evidence, in the
analogues' votes and in the bridge's attention. Additions are undone in reverse order only, since later ones may link to earlier ones.
Of a type that an addition takes above MAX_PAIRS nodes, the table of similarities stays as it is and is not read: it counts again when
that addition is undone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.training import MAX_PAIRS
from biobridge_rag.encoders.cache import content_key
from biobridge_rag.encoders.sequences import clean_sequence, decode, split_fasta
from biobridge_rag.encoders.weights import ANYWHERE, Source
from biobridge_rag.errors import BiobridgeError, FileError, HomeError, InputError
from biobridge_rag.graph.additions import (
    Entry,
    Statement,
    Tally,
    csv_entries,
    fasta_entries,
    one_line,
    sdf_entries,
    smiles_entries,
    statements,
)
from biobridge_rag.graph.artefact import load_saved_graph
from biobridge_rag.graph.extending import Extension, extend, shortened
from biobridge_rag.graph.packed import read_bytes, unpacked
from biobridge_rag.homes import Home, aligner_of, open_array, open_home
from biobridge_rag.retrieval.likeness import ALIGNMENT
from biobridge_rag.store.manifest import Manifest, read_manifest, writing
from biobridge_rag.store.switching import FOLDER, Change, NewRows, Staging, carry_out, recover
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Progress, Vectors

MAX_BYTES = 500_000_000  # of a file, and of what is packed in it
_BLOCK = 2048
_SHOWN = 5
_LATER = "Delete the folder, run biobridge-rag build again and add the same files again."


@dataclass(frozen=True)
class Given:
    """Files of a user, plain or gzipped: proteins, molecules, nodes of any type, edges; see graph.additions for their forms."""

    fasta: Sequence[Path] = ()
    smiles: Sequence[Path] = ()
    csv: Sequence[Path] = ()
    triples: Sequence[Path] = ()


@dataclass(frozen=True)
class Report:
    """What became of the files. number: of the addition, None where there was nothing new; nodes: new ones by type; already: those the
    graph held under their id; recognised: those it held under another id; edges, known_edges: new and old ones, each once; left_out:
    rows by reason; lines: the same in words."""

    home: Path
    number: int | None
    nodes: dict[str, int]
    already: int
    recognised: int
    edges: int
    known_edges: int
    left_out: dict[str, int]
    lines: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "home": str(self.home),
            "addition": self.number,
            "nodes": {"added": self.nodes, "already": self.already, "recognised": self.recognised},
            "edges": {"added": self.edges, "already": self.known_edges},
            "left_out": self.left_out,
        }


def add_to_home(path: Path, given: Given, progress: Progress, source: Source = ANYWHERE) -> Report:
    """Adds what the files hold to the finished home `path`: encoded, projected, indexed, recorded as the next addition. Holds the
    home's lock; an addition that was broken off is carried on first. source: where the weights of the home's foundation models lie.

    Rows that cannot be used are left out and counted. Raises InputError and changes nothing where no row of a file can be used, for
    an unknown relation, and where the home's encoder cannot encode; HomeError where the home is damaged, HomeLockedError, DiskFullError.
    """
    with _locked(path) as manifest:
        tally = Tally()
        sums: list[dict[str, str]] = []
        entries, stated = _read(given, tally, sums)
        home = open_home(path, source)
        home.index.close()
        extension = extend(home.graph, entries, stated, tally)
        new, changed = Counter(n.type.value for n in extension.nodes), bool(extension.nodes or extension.triples)
        number = manifest.additions + 1 if changed else None
        report = Report(
            path, number, dict(new), extension.already, len(extension.recognised), len(extension.triples), extension.known_edges,
            dict(sorted(tally.counts.items())), (*_lines(extension, number, tally), *_beyond(home, new)),
        )  # fmt: skip
        if changed:
            _write(home, extension, report, sums, progress)
    return report


def additions(path: Path) -> list[dict[str, Any]]:
    """The records of the home's additions, first to last: number, date, files (option, name, sha256), counts (as Report.to_dict), nodes
    ([type, id]), edges ([head type, head, relation, tail type, tail, source]), before, after. Carries on one that was broken off."""
    with _locked(path) as manifest:
        return [_record(path, number) for number in range(1, manifest.additions + 1)]


def undo(path: Path, number: int | None, progress: Progress) -> dict[str, Any]:
    """Takes the last addition back, so that the home is as it was before it, and returns its record. Raises InputError where there is
    none, or `number` is not that of the last one."""
    with _locked(path) as manifest:
        last = manifest.additions
        if not last:
            raise InputError(f"The home {path} holds no additions.")
        number = last if number is None else number
        if not 1 <= number <= last:
            raise InputError(f"The home {path} holds no addition {number}.", f"It holds 1 to {last}." if last > 1 else "It holds 1.")
        if number < last:
            later = ", ".join(str(n) for n in range(last, number, -1))
            raise InputError(f"Addition {number} is not the last: later ones may link to it.", f"Undo those first, in this order: {later}.")
        record = _record(path, number)
        _take_back(path, manifest, record, progress)
    return record


@contextmanager
def _locked(path: Path) -> Iterator[Manifest]:
    """Holds the lock of a home that is there, with nothing pending; gives its manifest."""
    unbuilt = InputError(f"There is no built home in {path}.", "Run biobridge-rag build --graph DIR --home DIR first.")
    if read_manifest(path) is None:
        raise unbuilt
    with writing(path):
        recover(path)
        manifest = read_manifest(path)
        if manifest is None:
            raise unbuilt
        try:
            yield manifest
        except BiobridgeError:
            with suppress(BiobridgeError):  # what was prepared is thrown away; a change that was begun is carried on when it can be
                recover(path)
            raise


def _read(given: Given, tally: Tally, sums: list[dict[str, str]]) -> tuple[list[Entry], list[Statement]]:
    """Entries and statements of all files. Raises the first fault of a file that holds nothing that can be used."""
    entries: list[Entry] = []
    stated: list[Statement] = []
    if not any((given.fasta, given.smiles, given.csv, given.triples)):
        raise InputError("There is nothing to add.", "Give --fasta, --smiles, --csv or --triples.")
    for option in ("fasta", "smiles", "csv", "triples"):
        for path in getattr(given, option):
            data, name = read_bytes(path, MAX_BYTES), one_line(path.name)[:100]
            sums.append({"option": option, "name": name, "sha256": hashlib.sha256(data).hexdigest()})
            data = unpacked(data, name, MAX_BYTES)
            text, mine = decode(data, f"file {name}"), Tally()
            found: list[Any]
            if option == "fasta":
                found = list(fasta_entries(split_fasta(text), clean_sequence, name, mine))
            elif option == "smiles":
                sdf = path.name.lower().removesuffix(".gz").endswith((".sdf", ".sd", ".mol")) or "M  END" in text
                found = list(sdf_entries(data, name, mine) if sdf else smiles_entries(text, name, mine))
            elif option == "csv":
                found = list(csv_entries(text, clean_sequence, name, mine))
            else:
                found = list(statements(text, name, mine))
            if not found:
                raise mine.first or FileError(f"The file {name} holds nothing that can be added.", " ".join(mine.lines()))
            (stated if option == "triples" else entries).extend(found)
            tally.take(mine)
    return entries, stated


def _beyond(home: Home, new: Mapping[str, int]) -> list[str]:
    """A line for each type whose nodes are no longer aligned after this addition."""
    return [
        f"There are now more than {MAX_PAIRS:,} {t.label} nodes: they are compared by the cosines of their vectors, no longer by "
        "alignment. The fusion weights were learned with alignments; a home built from a graph with these nodes learns its own."
        for t, old in home.tables.items()
        if len(old) <= MAX_PAIRS < len(old) + new.get(t.value, 0) and home.likeness[t].method == ALIGNMENT
    ]


def _lines(extension: Extension, number: int | None, tally: Tally) -> tuple[str, ...]:
    out = tally.lines()
    for entry, node in extension.recognised[:_SHOWN]:
        out.append(f"recognised: {entry.id} is {node.name} ({node.id}), which is not added twice")
    if len(extension.recognised) > _SHOWN:
        out.append(f"recognised: {len(extension.recognised):,} in all")
    if extension.already or extension.known_edges:
        out.append(f"already there: {extension.already:,} nodes, {extension.known_edges:,} edges")
    if number is None:
        return (*out, "Nothing new: the home stays as it is.")
    counts = ", ".join(f"{n:,} {NodeType(t).label}" for t, n in Counter(n.type.value for n in extension.nodes).items())
    out.append(f"addition {number}: nodes: {counts or 'none'}; edges, in both directions: {len(extension.triples):,}")
    if not extension.triples:
        return (*out, "The bridge and the fusion weights are not trained again.")
    out.append(
        "The bridge and the fusion weights are not trained again: new edges count as evidence, in the analogues' votes and in the "
        "attention, not in trained weights."
    )
    return tuple(out)


# --- adding ---------------------------------------------------------------------------------------------------------------------------


def _write(home: Home, extension: Extension, report: Report, sums: list[dict[str, str]], progress: Progress) -> None:
    path, manifest, graph, number = home.path, home.manifest, extension.graph, home.manifest.additions + 1
    grown: dict[NodeType, _Grown] = {}
    types = [t for t in home.graph.by_type if t.value in report.nodes]
    for done, node_type in enumerate(types):
        progress("encoding the new nodes", done, len(types))
        new = [n for n in extension.nodes if n.type is node_type]
        grown[node_type] = _grow(home, graph, node_type, new)
    progress("encoding the new nodes", len(types), len(types))
    record = {
        "number": number,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": sums,
        "counts": report.to_dict(),
        "nodes": [[n.type.value, n.id] for n in extension.nodes],
        "edges": [[t.head.type.value, t.head.id, t.relation.name, t.tail.type.value, t.tail.id, t.source] for t in extension.triples],
        "before": _sizes(home.graph),
        "after": _sizes(graph),
    }
    after = replace(manifest, graph_sha256=graph.sha256, additions=number, built_sha256=manifest.built_sha256 or manifest.graph_sha256)
    staging = Staging(path, 3 * len(grown) + 5, progress)
    for table in grown.values():
        staging.array(table.rows.frozen, table.frozen)
        staging.array(table.rows.bridge, table.projected)
        if table.among is not None:
            staging.array(f"similarities/{table.slug}.npy", table.among)
    name = f"{FOLDER}/{number}.json"
    staging.graph(graph)
    staging.text(name, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    staging.manifest(after)
    gone = tuple(name for table in grown.values() for name in table.gone)
    carry_out(path, Change(graph.sha256, tuple(staging.files), gone, tuple(t.rows for t in grown.values())), progress)


def _sizes(graph: KnowledgeGraph) -> dict[str, Any]:
    return {"graph_sha256": graph.sha256, "n_nodes": len(graph.nodes), "n_edges": graph.n_edges, "n_sources": len(graph.sources)}


@dataclass(frozen=True)
class _Grown:
    """The longer tables of one type, and the files that they take the places of."""

    slug: str
    rows: NewRows
    frozen: Vectors
    projected: Vectors
    among: NDArray[np.float16] | None
    gone: tuple[str, ...]


def _grow(home: Home, graph: KnowledgeGraph, node_type: NodeType, new: Sequence[Node]) -> _Grown:
    """Encodes and projects the new nodes of a type and, up to MAX_PAIRS nodes, compares them with all of it. Raises InputError where
    the encoder cannot."""
    old, likeness, slug = home.tables[node_type], home.likeness[node_type], node_type.slug
    x, encoder = home.encode(node_type, [node.values for node in new]), home.encoders[node_type.modality]
    blocks = [home.bridge.project(x[i : i + _BLOCK], node_type.value) for i in range(0, len(x), _BLOCK)]
    frozen = np.concatenate([old, x])
    name = f"embeddings/{slug}-{content_key(encoder.id, _values(graph, node_type))}.npy"
    before = tuple(f"embeddings/{f.name}" for f in (home.path / "embeddings").glob(f"{slug}-*.npy") if f"embeddings/{f.name}" != name)
    among = None
    if likeness.table_among is not None and len(frozen) <= MAX_PAIRS:
        aligner = aligner_of(graph, node_type, encoder)
        rows = unit(x) @ unit(frozen).T if aligner is None else aligner.similarities([node.values[0] for node in new])
        among = _bordered(likeness.table_among, rows)
    return _Grown(
        slug,
        NewRows(node_type.value, len(old), name, f"projections/{slug}.npy"),
        frozen,
        np.concatenate([home.projections[node_type], unit(np.concatenate(blocks))]),
        among,
        before,
    )


def _bordered(among: NDArray[Any], rows: Vectors) -> NDArray[np.float16]:
    """The similarities (n, n) of the old nodes with those (m, n + m) of the new ones as further rows and columns."""
    n, m = len(among), len(rows)
    out = np.empty((n + m, n + m), dtype=np.float16)
    out[:n, :n], out[n:], out[:n, n:] = among, rows, rows[:, :n].T
    out[np.arange(n, n + m), np.arange(n, n + m)] = 1.0
    return out


def _values(graph: KnowledgeGraph, node_type: NodeType) -> list[tuple[str, ...]]:
    return [graph.nodes[i].values for i in graph.by_type[node_type]]


# --- taking back ----------------------------------------------------------------------------------------------------------------------


def _record(path: Path, number: int) -> dict[str, Any]:
    file = path / FOLDER / f"{number}.json"
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if record["number"] != number or not {"date", "files", "counts", "nodes", "edges", "before", "after"} <= record.keys():
            raise ValueError("another record")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HomeError(f"The record {file} is missing or damaged.", _LATER) from error
    return record


def _take_back(path: Path, manifest: Manifest, record: Mapping[str, Any], progress: Progress) -> None:
    before = record["before"]
    graph = load_saved_graph(path / "graph")
    kept = shortened(graph, before["n_nodes"], before["n_edges"], before["n_sources"])
    if graph.sha256 != manifest.graph_sha256 or kept.sha256 != before["graph_sha256"]:
        raise HomeError(f"The graph in {path} is not the one that addition {record['number']} made.", _LATER)
    removed: dict[str, tuple[str, ...]] = {}
    gone = [f"{FOLDER}/{record['number']}.json"]
    staging = Staging(path, 3 * len(kept.by_type) + 4, progress)
    for node_type, positions in kept.by_type.items():
        slug, n = node_type.slug, len(positions)
        ids = tuple(graph.nodes[i].id for i in graph.by_type[node_type][n:])
        if not ids:
            continue
        removed[node_type.value] = ids
        found = sorted((path / "embeddings").glob(f"{slug}-*.npy"))
        if len(found) != 1:
            raise HomeError(f"The home {path} lacks vectors of {node_type.label} nodes.", "Run the same biobridge-rag build again.")
        encoder_id = manifest.encoders[node_type.modality.value]
        staging.array(f"embeddings/{slug}-{content_key(encoder_id, _values(kept, node_type))}.npy", open_array(found[0])[:n])
        gone.append(f"embeddings/{found[0].name}")
        staging.array(f"projections/{slug}.npy", open_array(path / "projections" / f"{slug}.npy")[:n])
        if (file := path / "similarities" / f"{slug}.npy").exists() and len(among := open_array(file)) > n:
            staging.array(f"similarities/{slug}.npy", among[:n, :n])
    last = record["number"] == 1
    staging.graph(kept)
    staging.manifest(
        replace(
            manifest,
            graph_sha256=kept.sha256,
            additions=record["number"] - 1,
            built_sha256="" if last else manifest.built_sha256,
        )
    )
    carry_out(path, Change(kept.sha256, tuple(staging.files), tuple(gone), (), removed), progress)
