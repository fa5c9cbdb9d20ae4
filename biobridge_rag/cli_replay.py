"""The command `replay`: asks an exported conversation again and lists what comes out otherwise.

Knows: Typer, the assembly, bundles. Does not know: how a question is answered.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from biobridge_rag.cli_shared import ChromaUrl, Device, Graph, Home, Json, Weights, emit, note, opened_engine


def replay(
    bundle: Annotated[Path, typer.Argument(help="A conversation that `ask --save` or the page has exported.")],
    llm: Annotated[str | None, typer.Option(help="'none', or the name of a model at the configured server.")] = None,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Take what the language model wrote from the bundle and check it again; nothing is sent.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replay on a home other than the one it was held on.")] = False,
    home: Home = None,
    graph: Graph = None,
    weights: Weights = None,
    device: Device = None,
    chroma_url: ChromaUrl = None,
    as_json: Json = False,
) -> None:
    """Ask an exported conversation again. Exit 0: all answers are the same; 1: some differ, each is listed; 2: bad input."""
    from biobridge_rag.errors import InputError
    from biobridge_rag.qa.bundles import load_bundle
    from biobridge_rag.qa.replaying import replay as run

    if recorded and llm is not None:
        raise InputError("--recorded and --llm exclude each other.", "Recorded text needs no language model.")
    held = load_bundle(bundle)
    with closing(opened_engine(home, graph, weights=weights, device=device, chroma_url=chroma_url)) as engine:
        found = run(held, engine, llm, recorded=recorded, force=force)
    for d in found.around:
        note(f"{d.field}: {d.recorded} then, {d.found} now")
    if held.dropped:
        note(f"the {held.dropped:,} oldest turns of the conversation are not in the bundle")
    if as_json:
        emit(found.to_dict())
    else:
        for d in found.differences:
            print(f"turn {d.turn}, {d.field}:\n  recorded: {d.recorded}\n  now:      {d.found}")
        print(_verdict(found))
    if not found.same:
        raise typer.Exit(1)


def _verdict(found: Any) -> str:
    turns = f"{found.turns:,} turn{'s' * (found.turns != 1)}"
    if found.same:
        return f"{turns} asked again: the same."
    other = len({d.turn for d in found.differences})
    return f"{turns} asked again: {other:,} with differences."
