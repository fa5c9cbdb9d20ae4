"""The command `add`: a user's nodes and edges into a built home, the list of what was added, and taking it back.

Knows: Typer, the command line's helpers, adding. Does not know: how anything is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from biobridge_rag.cli_shared import Device, Graph, Home, Json, Progress, Weights, emit, note, settings
from biobridge_rag.errors import HomeMismatchError, InputError

_LISTED = ("number", "date", "files", "counts")


def add(
    number: Annotated[int | None, typer.Argument(help="With --undo: the addition to undo, which must be the last.")] = None,
    fasta: Annotated[list[Path] | None, typer.Option(help="Proteins: FASTA; the id is the header's first word or accession.")] = None,
    smiles: Annotated[list[Path] | None, typer.Option(help="Molecules: a SMILES and an id or name a line, or SDF.")] = None,
    csv: Annotated[
        list[Path] | None,
        typer.Option(help="Nodes of any type: columns id, type, name, then sequence, smiles or description; synonyms (;)."),
    ] = None,
    triples: Annotated[
        list[Path] | None, typer.Option(help="Edges: columns head, relation, tail (ids); head_type, tail_type, source where needed.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List what was added.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last addition back.")] = False,
    home: Home = None,
    graph: Graph = None,
    weights: Weights = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Add your own nodes and edges, from files that may be gzipped, to a built home, without building it again; list or undo that."""
    from biobridge_rag.adding import Given, add_to_home, additions
    from biobridge_rag.adding import undo as take_back
    from biobridge_rag.assembly import source_of

    files = any((fasta, smiles, csv, triples))
    if files + show + undo > 1:
        raise InputError("Give files to add, --list or --undo, one of them.")
    if number is not None and not undo:
        raise InputError(f"The number {number} says nothing without --undo.")
    progress = Progress()
    try:
        chosen = settings(home=home, graph=graph, weights=weights, device=device)
        path = _home(chosen, progress, build=not (show or undo))
        if show:
            records = additions(path)
        elif undo:
            record = take_back(path, number, progress)
        else:
            report = add_to_home(path, Given(fasta or (), smiles or (), csv or (), triples or ()), progress, source_of(chosen))
    finally:
        progress.close()
    if show:
        for record in records:
            note(_line(record))
        note(f"{path}: {len(records):,} additions")
        document: dict[str, Any] = {"home": str(path), "additions": [{key: r[key] for key in _LISTED} for r in records]}
    elif undo:
        note(f"{path}: undone: {_line(record)}")
        document = {"home": str(path), "undone": record["number"], "nodes": len(record["nodes"]), "edges": len(record["edges"])}
    else:
        for line in report.lines:
            note(line)
        document = report.to_dict()
    if as_json:
        emit(document)


def _line(record: dict[str, Any]) -> str:
    names = ", ".join(file["name"] for file in record["files"])
    return f"addition {record['number']} of {record['date']}: {len(record['nodes']):,} nodes, {len(record['edges']):,} edges ({names})"


def _home(chosen: Any, progress: Any, *, build: bool) -> Path:
    """The home's folder; the starter home is built on first use, as it is for a question, where `build` is wanted."""
    from biobridge_rag.assembly import build as build_home
    from biobridge_rag.homes import STAGES
    from biobridge_rag.store.manifest import read_manifest

    path: Path = chosen.home_path
    manifest = read_manifest(path)
    unfinished = manifest is None or (manifest.stages != STAGES and manifest.graph_name == "starter")
    if build and unfinished and chosen.graph == "starter":
        build_home(chosen, progress)
    elif manifest is not None and "graph" in chosen.model_fields_set and manifest.graph_name != chosen.graph_name:
        raise HomeMismatchError(
            f"The home {path} was built with the graph {manifest.graph_name!r}, not {chosen.graph_name!r}.", "Leave the option out."
        )
    return path
