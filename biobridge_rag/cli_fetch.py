"""The commands `fetch …`: thin commands over `fetching`, which tell sources, licences and what was left out.

Knows: Typer and fetching. Does not know: how anything is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biobridge_rag.cli_shared import Json, Progress, emit, note
from biobridge_rag.errors import InputError

if TYPE_CHECKING:
    from biobridge_rag.fetching.records import Outcome

fetch = typer.Typer(no_args_is_help=True, help="Fetch public data and weights, with checksums and licences.")

GraphDir = Annotated[Path, typer.Option("--graph", help="Directory with nodes.csv, in PrimeKG's layout; the table is written beside it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace also files that are there without having been fetched.")]
Retry = Annotated[bool, typer.Option("--retry", help="Ask again for nodes for which nothing was found.")]


@fetch.command("primekg")
def primekg(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    commercial_only: Annotated[
        bool, typer.Option("--commercial-only", help="Leave out what comes from sources whose terms forbid commercial use.")
    ] = False,
    licensed: Annotated[
        list[str] | None, typer.Option(help="With --commercial-only: keep edges of this source, such as DrugBank; may be repeated.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """PrimeKG from Harvard Dataverse: kg.csv, nodes.csv and feature tables (about 1 GB)."""
    from biobridge_rag.fetching.primekg import fetch_primekg

    if licensed and not commercial_only:
        raise InputError("--licensed goes with --commercial-only.")
    _run(
        lambda progress: fetch_primekg(out, progress, commercial_only=commercial_only, licensed=licensed or (), overwrite=overwrite),
        as_json,
    )


@fetch.command("uniprot")
def uniprot(
    graph: Annotated[
        Path | None, typer.Option(help="Directory with nodes.csv, whose proteins are asked for; protein.csv is written there.")
    ] = None,
    accession: Annotated[list[str] | None, typer.Option(help="A UniProt accession instead; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --accession: folder to write.")] = None,
    retry: Retry = False,
    as_json: Json = False,
) -> None:
    """Protein sequences for the genes of a graph, or for accessions."""
    from biobridge_rag.fetching.uniprot import fetch_accessions, fetch_sequences

    if graph is not None and not accession and out is None:
        _run(lambda progress: fetch_sequences(graph, progress, retry=retry), as_json)
    elif accession and out is not None and graph is None:
        _run(lambda progress: fetch_accessions(accession, out, progress, retry=retry), as_json)
    else:
        raise InputError("Give either --graph, or --accession and --out.")


@fetch.command("pubchem")
def pubchem(graph: GraphDir, retry: Retry = False, as_json: Json = False) -> None:
    """Structures for the drugs of a graph, by DrugBank id."""
    from biobridge_rag.fetching.pubchem import fetch_structures

    _run(lambda progress: fetch_structures(graph, progress, retry=retry), as_json)


@fetch.command("go")
def go(graph: GraphDir, overwrite: Overwrite = False, as_json: Json = False) -> None:
    """Definitions for the Gene Ontology terms of a graph."""
    from biobridge_rag.fetching.go import fetch_go

    _run(lambda progress: fetch_go(graph, progress, overwrite=overwrite), as_json)


@fetch.command("weights")
def weights(
    name: Annotated[
        str, typer.Argument(help="An encoder by name, such as esm2_t33_650M_UR50D or biomedbert, or ORGANISATION/MODEL of the hub.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: the cache where encoders look.")] = None,
    as_json: Json = False,
) -> None:
    """Weights of a foundation model, and the Python code that comes with some, which runs only with --remote-code."""
    from biobridge_rag.fetching.weights import fetch_weights

    _run(lambda progress: fetch_weights(name, out, progress), as_json)


def _run(work: Callable[[Progress], Outcome], as_json: bool) -> None:
    progress = Progress()
    try:
        outcome = work(progress)
    finally:
        progress.close()
    for line in summary(outcome):
        note(line)
    if as_json:
        emit(outcome.to_dict())


def summary(outcome: Outcome) -> list[str]:
    """What a person should know of an outcome, a line each."""
    lines = []
    for name, entry in {**outcome.fetched, **outcome.kept}.items():
        kept = "kept" if name in outcome.kept else "fetched"
        lines.append(f"{kept}: {outcome.folder / name} ({entry.size:,} bytes), {entry.source}{f'; {entry.note}' if entry.note else ''}")
        lines += [f"left out: {n:,} x {reason} ({name})" for reason, n in entry.skipped.items()]
    licences = {entry.licence for entry in (*outcome.fetched.values(), *outcome.kept.values())}
    lines += [f"licence: {licence.name} {licence.url}".rstrip() for licence in sorted(licences, key=lambda x: x.name)]
    return lines if outcome.fetched else [*lines, "everything was there already; nothing was fetched"]
