"""The command line: thin commands over the Engine. Results on stdout, all else on stderr; exit 0 done, 2 bad input, 1 our failure.

Knows: Typer and the assembly. Does not know: how anything is computed.
"""

from __future__ import annotations

import io
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from biobridge_rag.cli_add import add
from biobridge_rag.cli_evaluate import evaluate
from biobridge_rag.cli_fetch import fetch
from biobridge_rag.cli_replay import replay
from biobridge_rag.cli_shared import (
    Bridge,
    Cache,
    ChromaUrl,
    Device,
    Engine,
    Epochs,
    Graph,
    Home,
    Json,
    MoleculeEncoder,
    Precision,
    Progress,
    ProteinEncoder,
    RayAddress,
    RemoteCode,
    Seed,
    TextEncoder,
    Weights,
    emit,
    note,
    opened_engine,
    sent_text,
    settings,
    would_be_sent,
)
from biobridge_rag.errors import BiobridgeError, InputError

MAX_QUESTION = 20_000  # characters

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Candidate drugs, diseases and functions for a protein, molecule or disease.",
)
app.add_typer(evaluate, name="evaluate")
app.add_typer(fetch, name="fetch")
app.command()(add)
app.command()(replay)

# Typer carries a Click of its own or uses the installed one, by its version; this is the base of its errors either way.
_ClickException: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.command()
def embed(
    graph: Graph = None,
    cache: Cache = None,
    protein_encoder: ProteinEncoder = None,
    molecule_encoder: MoleculeEncoder = None,
    text_encoder: TextEncoder = None,
    weights: Weights = None,
    device: Device = None,
    precision: Precision = None,
    remote_code: RemoteCode = None,
    engine: Engine = None,
    ray_address: RayAddress = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Trust what the cache holds; otherwise it is checked, and damaged rows are made again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Encode a graph's nodes into a cache that builds share. Run again after an interruption: it goes on where it stopped."""
    from biobridge_rag.assembly import embed as run

    chosen = settings(
        graph=graph, cache=cache, protein_encoder=protein_encoder, molecule_encoder=molecule_encoder, text_encoder=text_encoder,
        weights=weights, device=device, precision=precision, remote_code=remote_code, engine=engine, ray_address=ray_address,
    )  # fmt: skip
    progress = Progress()
    try:
        found = run(chosen, progress, only_missing=only_missing)
    finally:
        progress.close()
    for node_type, counts in found.items():
        damaged = f", {counts['damaged']:,} rows were damaged" if counts["damaged"] else ""
        note(f"{node_type}: {counts['values']:,} values, {counts['encoded']:,} encoded now{damaged}")
    if as_json:
        emit({"cache": str(chosen.cache), "types": found})


@app.command()
def build(
    graph: Graph = None,
    home: Home = None,
    protein_encoder: ProteinEncoder = None,
    molecule_encoder: MoleculeEncoder = None,
    text_encoder: TextEncoder = None,
    weights: Weights = None,
    precision: Precision = None,
    remote_code: RemoteCode = None,
    cache: Cache = None,
    engine: Engine = None,
    ray_address: RayAddress = None,
    chroma_url: ChromaUrl = None,
    bridge: Bridge = None,
    epochs: Epochs = None,
    device: Device = None,
    seed: Seed = None,
    train: Annotated[bool, typer.Option("--train", help="Train even where a bridge that ships with the package would fit.")] = False,
    patience: Annotated[int | None, typer.Option(help="Official bridge: epochs without a better validation MRR before it stops.")] = None,
    balance: Annotated[float | None, typer.Option(help="Official bridge: 0 draws triples as they come, 1 all relations alike.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Official bridge: false tails a triple (the authors: 5), else all.")] = None,
    log_dir: Annotated[Path | None, typer.Option(help="Official bridge: folder of TensorBoard logs (extra 'tensorboard').")] = None,
    as_json: Json = False,
) -> None:
    """Encode a graph, train the bridge, build the index. Run again after an interruption: it goes on where it stopped."""
    from biobridge_rag.assembly import build as build_home
    from biobridge_rag.assembly import follow_build
    from biobridge_rag.building import OfficialTraining

    chosen = settings(
        graph=graph, home=home, protein_encoder=protein_encoder, molecule_encoder=molecule_encoder, text_encoder=text_encoder,
        bridge=bridge, epochs=epochs, device=device, seed=seed, weights=weights, precision=precision, remote_code=remote_code,
        cache=cache, engine=engine, ray_address=ray_address, chroma_url=chroma_url,
    )  # fmt: skip
    progress, start = Progress(), time.monotonic()
    try:
        official = OfficialTraining(patience, balance, negatives, log_dir)
        if follow_build(chosen, progress, train=train, official=official):
            return
        manifest, built = build_home(chosen, progress, train=train, official=official)
    finally:
        progress.close()
    seconds = time.monotonic() - start
    for reason, count in sorted(manifest.skipped.items()):
        note(f"left out: {count:,} x {reason}")
    if manifest.additions:
        note(f"the home also holds {manifest.additions:,} additions (biobridge-rag add --list)")
    note(f"{chosen.home_path}: {len(built.nodes):,} nodes, {built.n_edges:,} edges, {seconds:.0f} s, bridge {manifest.bridge_sha256[:16]}")
    if as_json:
        emit({
            "home": str(chosen.home_path), "graph": manifest.graph_name, "nodes": len(built.nodes), "edges": built.n_edges,
            "skipped": manifest.skipped, "encoders": manifest.encoders, "bridge": manifest.bridge_kind,
            "bridge_sha256": manifest.bridge_sha256, "seconds": round(seconds, 1),
        })  # fmt: skip


@app.command("import-official")
def import_official(
    directory: Annotated[Path, typer.Argument(help="Folder with the authors' release, or a checkout of their repository.")],
    graph: Annotated[str | None, typer.Option(help="Directory of the graph, in PrimeKG's layout.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a home of the BioBridge authors' released bridge and embeddings. Run again after an interruption: it goes on."""
    from biobridge_rag.assembly import import_official as run

    chosen = settings(graph=graph, home=home)
    progress, start = Progress(), time.monotonic()
    try:
        manifest, imported = run(directory, chosen, progress)
    finally:
        progress.close()
    seconds = time.monotonic() - start
    for reason, count in sorted(manifest.skipped.items()):
        note(f"left out: {count:,} x {reason}")
    note("fusion: default weights; the released bridge was trained on most heads of the graph, so there is nothing honest to learn it from")
    size = f"{len(imported.nodes):,} nodes, {imported.n_edges:,} edges"
    note(f"{chosen.home_path}: {size}, {seconds:.0f} s, bridge {manifest.bridge_sha256[:16]}")
    if as_json:
        emit({
            "home": str(chosen.home_path), "graph": manifest.graph_name, "nodes": len(imported.nodes), "edges": imported.n_edges,
            "skipped": manifest.skipped, "encoders": manifest.encoders, "bridge": manifest.bridge_kind,
            "bridge_sha256": manifest.bridge_sha256, "fusion": "default", "seconds": round(seconds, 1),
        })  # fmt: skip


@app.command("export-official")
def export_official(
    out: Annotated[Path, typer.Option(help="Folder to write: new, empty, or an earlier export.")],
    home: Home = None,
    graph: Annotated[str | None, typer.Option(help="Directory of the home's graph, whose node_index values are then kept.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write also where the folder holds something else.")] = False,
    as_json: Json = False,
) -> None:
    """Write a home with an official bridge in the layout of the BioBridge authors' release."""
    from biobridge_rag.assembly import export_official as run

    manifest, exported, files = run(settings(home=home, graph=graph), out, overwrite=overwrite)
    note(f"{out}: {len(files)} files, {len(exported.nodes):,} nodes, bridge {manifest.bridge_sha256[:16]}")
    if as_json:
        emit({
            "out": str(out), "files": [file.name for file in files], "graph": manifest.graph_name, "nodes": len(exported.nodes),
            "bridge_sha256": manifest.bridge_sha256,
        })  # fmt: skip


@app.command()
def candidates(
    fasta: Annotated[Path | None, typer.Option(help="FASTA, SDF or SMILES file.")] = None,
    sequence: Annotated[str | None, typer.Option(help="Protein sequence.")] = None,
    smiles: Annotated[str | None, typer.Option(help="SMILES.")] = None,
    node: Annotated[str | None, typer.Option(help="Id, name or symbol of a node of the graph.")] = None,
    to: Annotated[str, typer.Option(help="Node type of the answers, such as drug, disease or gene/protein.")] = "drug",
    relation: Annotated[str | None, typer.Option(help="Relation, such as target or indication; default: the usual one.")] = None,
    top: Annotated[int, typer.Option(help="How many.")] = 20,
    home: Home = None,
    graph: Graph = None,
    weights: Weights = None,
    device: Device = None,
    chroma_url: ChromaUrl = None,
    as_json: Json = False,
) -> None:
    """Ranked candidates for one protein, molecule or disease, each known or predicted, with its evidence."""
    with closing(opened_engine(home, graph, weights=weights, device=device, chroma_url=chroma_url)) as opened:
        found = opened.candidates(fasta=fasta, sequence=sequence, smiles=smiles, node=node, to=to, relation=relation, top=top)
    for line in found.notes:
        note(line)
    if as_json:
        emit(found.to_dict())
        return
    print(f"{found.query.name} - {found.relation.name} -> {found.relation.tail_type}")
    for hit in found.hits:
        standing = "known    " if hit.known else f"{hit.probability:8.1%} "
        print(f"{hit.rank:>4}  {standing} {hit.node.id:<12} {hit.node.name[:32]:<32} {hit.evidence[0].text if hit.evidence else ''}")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="A question in words.")],
    fasta: Annotated[list[Path] | None, typer.Option(help="FASTA, SDF or SMILES file that the question is about; repeatable.")] = None,
    smiles: Annotated[list[str] | None, typer.Option(help="SMILES that the question is about; repeatable.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="One of the options of a choice; repeatable.")] = None,
    kind: Annotated[str | None, typer.Option(help="open, choice or true_false; default: what the question looks like.")] = None,
    arm: Annotated[str, typer.Option(help="What the answer may rest on: full, bridge, text, shuffled (a control) or none.")] = "full",
    llm: Annotated[str | None, typer.Option(help="'none', or the name of a model at the configured server.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Have the language model say what is looked up; without, or where it fails, rules do.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what the language model would be sent, and send nothing.")] = False,
    save: Annotated[Path | None, typer.Option(help="File to write all of it to, which `replay` asks again.")] = None,
    home: Home = None,
    graph: Graph = None,
    weights: Weights = None,
    device: Device = None,
    chroma_url: ChromaUrl = None,
    as_json: Json = False,
) -> None:
    """Answer a question from the graph, with citations."""
    from biobridge_rag.assembly import check_asked
    from biobridge_rag.qa.bundles import check_place, save_answer
    from biobridge_rag.qa.recording import Recorder

    options, kind = [o.strip() for o in option or []], kind or ""
    _check_question(question, options, kind)
    check_asked(kind, arm)
    if save is not None:
        if dry_run:
            raise InputError("--dry-run and --save exclude each other.", "A dry run has no answer to save.")
        check_place(save)
    with closing(opened_engine(home, graph, weights=weights, device=device, chroma_url=chroma_url)) as opened:
        queries, notes = _attached(opened, fasta or [], smiles or [])
        for line in notes:
            note(line)
        model = opened.llm_of(opened.settings, llm)
        dry = model.dry_run() if dry_run and model is not None else None
        chat = None if model is None else Recorder(dry or model)
        how: dict[str, Any] = {"options": options, "kind": kind, "arm": arm}
        answer = opened.ask(question, queries, "none", chat=chat, plan=plan or None, **how)
        if dry_run:
            sent = would_be_sent(model, dry, chat)
            return emit(sent) if as_json else print(sent_text(sent))
        if save is not None:
            note(save_answer(opened, save, answer, queries, chat, notes, **how))
    if plan and model is None:
        note("No language model is set, so what is looked up was chosen by rules.")
    if answer.notice:
        note(answer.notice)
    if as_json:
        emit(answer.to_dict())
        return
    from biobridge_rag.qa.citations import md_plain

    print(md_plain(answer.text, keys=True))
    for citation in answer.citations:
        print(f"{citation.key} {citation.name} ({citation.node_id}) {citation.url}".rstrip())


def _check_question(question: str, options: list[str], kind: str) -> None:
    """Raises InputError in one line."""
    if not question.strip():
        raise InputError("The question is empty.")
    if len(question) > MAX_QUESTION:
        raise InputError(f"The question has {len(question):,} characters; at most {MAX_QUESTION:,} are read.")
    if any(not o for o in options) or len(set(options)) < len(options):
        raise InputError(f"An option is {'empty' if '' in options else 'given twice'}.")
    if len(options) == 1:
        raise InputError("There is one option only.", "Repeat --option for each; a choice needs two.")
    if any(len(o) > 1_000 for o in options) or len(options) > 50:
        raise InputError("There are more than 50 options, or one of more than 1,000 characters.")
    if options and kind == "open":
        raise InputError("An open question has no options.", "Leave out --option, or --kind.")
    if kind == "choice" and not options:
        from biobridge_rag.qa.asking import options_of

        if not options_of(question):
            raise InputError("A choice needs its options.", "Give each with --option, or list them in the question, one a line.")


def _attached(engine: Any, files: list[Path], smiles: list[str]) -> tuple[list[Any], list[str]]:
    """The queries of files and SMILES, in their order, and notes on what was read."""
    queries, notes = [], []
    for file in files:
        found, said = engine.read_file(file)
        queries += found
        notes += [f"{file.name}: {line}" if len(files) > 1 else line for line in said]
    return [*queries, *(engine.reader.molecule(value) for value in smiles)], notes


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to serve on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on.")] = None,
    home: Home = None,
    graph: Graph = None,
    weights: Weights = None,
    device: Device = None,
    chroma_url: ChromaUrl = None,
) -> None:
    """Start the chat page."""
    from biobridge_rag.ui.page import launch

    launch(settings(host=host, port=port, home=home, graph=graph, weights=weights, device=device, chroma_url=chroma_url))


@app.command()
def doctor(home: Home = None, graph: Graph = None, as_json: Json = False) -> None:
    """What is installed, built and reachable, and what to do about the rest."""
    from biobridge_rag.diagnosis import diagnose

    findings = diagnose(settings(home=home, graph=graph))
    if as_json:
        emit([{"what": f.what, "ok": f.ok, "detail": f.detail, "do": f.todo} for f in findings])
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'no '} {finding.what}: {finding.detail}" + (f" {finding.todo}" if finding.todo else ""))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


def main() -> None:
    """Runs a command; every error that a user can meet becomes one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    code = _run(lambda: app(standalone_mode=False))
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                note(f"biobridge-rag: cannot write the result: {error.strerror}.")
                code = 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails once more as it ends
    sys.exit(code)


def _run(command: Callable[[], Any]) -> int:
    try:
        code = command()
        if code == 130:  # so Typer hands on Ctrl-C
            raise KeyboardInterrupt
        return int(code) if isinstance(code, int) else 0
    except BiobridgeError as error:
        note(f"biobridge-rag: {error}")
        return error.exit_code
    except typer.Exit as exit_:
        return int(exit_.exit_code)
    except _ClickException as error:
        text = error.format_message()
        if text.strip():  # empty where the help was shown instead
            note(f"biobridge-rag: {' '.join(text.split())}")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        note("biobridge-rag: stopped. The same command goes on where it stopped.")
        return 130
    except (BrokenPipeError, SystemExit):  # nobody reads stdout any more; Typer makes the second of the first
        return 0
    except MemoryError:
        note("biobridge-rag: out of memory.")
        return 1
    except OSError as error:
        note(f"biobridge-rag: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        return 1
    except Exception as error:  # a fault of ours: the place is what a report of it needs
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        note(f"biobridge-rag: internal error: {type(error).__name__}: {' '.join(str(error).split())[:300]} ({where}).")
        return 1


if __name__ == "__main__":
    main()
