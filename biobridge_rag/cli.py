"""The command line: thin commands over the Engine. Results on stdout, all else on stderr; exit 0 done, 2 bad input, 1 our failure.

Knows: Typer and the assembly. Does not know: how anything is computed.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from biobridge_rag.errors import BiobridgeError, InputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Candidate drugs, diseases and functions for a protein, molecule or disease.",
)
evaluate = typer.Typer(no_args_is_help=True, help="Measure retrieval on nodes that the graph has never seen.")
app.add_typer(evaluate, name="evaluate")

# Typer carries a Click of its own or uses the installed one, by its version; this is the base of its errors either way.
_ClickException: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

Home = Annotated[Path | None, typer.Option(help="Folder of the built artefacts; default vectorstore/<graph name>.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Graph = Annotated[str | None, typer.Option(help="'starter' or a directory in PrimeKG's layout.")]


class Progress:
    """Progress lines on stderr: a bar on a terminal, at most eleven lines a stage elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._shown = ("", -1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            tenth = 10 * done // max(total, 1)
            if (stage, tenth) != self._shown:
                self._shown = (stage, tenth)
                print(f"{stage}: {done:,} of {total:,}", file=sys.stderr, flush=True)
            return
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, tqdm(desc=stage, total=total, file=sys.stderr)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


def settings(**given: Any) -> Any:
    """Settings from the options that were given; the rest from the environment and defaults."""
    from biobridge_rag.config import Settings

    return Settings(**{k: v for k, v in given.items() if v is not None})


def engine(home: Path | None, graph: str | None = None, **given: Any) -> Any:
    """Opens the home; a home that is named needs no graph."""
    from biobridge_rag.assembly import open_engine

    progress = Progress()
    try:
        return open_engine(settings(home=home, graph=graph, **given), progress)
    finally:
        progress.close()


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def emit(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=1))


@app.command()
def build(
    graph: Graph = None,
    home: Home = None,
    protein_encoder: Annotated[str | None, typer.Option(help="Name of the protein encoder.")] = None,
    molecule_encoder: Annotated[str | None, typer.Option(help="Name of the molecule encoder.")] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Name of the text encoder.")] = None,
    bridge: Annotated[str | None, typer.Option(help="'default' or 'official' (the architecture of the BioBridge authors).")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training heads.")] = None,
    device: Annotated[str | None, typer.Option(help="'cpu' or 'cuda'.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
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
        bridge=bridge, epochs=epochs, device=device, seed=seed,
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
    as_json: Json = False,
) -> None:
    """Ranked candidates for one protein, molecule or disease, each known or predicted, with its evidence."""
    with closing(engine(home, graph)) as opened:
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
    fasta: Annotated[Path | None, typer.Option(help="FASTA, SDF or SMILES file that the question is about.")] = None,
    smiles: Annotated[str | None, typer.Option(help="SMILES that the question is about.")] = None,
    llm: Annotated[str | None, typer.Option(help="'none', or the name of a model at the configured server.")] = None,
    home: Home = None,
    graph: Graph = None,
    as_json: Json = False,
) -> None:
    """Answer a question from the graph, with citations."""
    if not question.strip():
        raise InputError("The question is empty.")
    if len(question) > 20_000:
        raise InputError(f"The question has {len(question):,} characters; at most 20,000 are read.")
    with closing(engine(home, graph)) as opened:
        queries, notes = opened.read_file(fasta) if fasta is not None else ([], [])
        if smiles is not None:
            queries = [*queries, opened.reader.molecule(smiles)]
        for line in notes:
            note(line)
        answer = opened.ask(question, queries, llm)
    if answer.notice:
        note(answer.notice)
    if as_json:
        emit(answer.to_dict())
        return
    from biobridge_rag.qa.citations import md_plain

    print(md_plain(answer.text, keys=True))
    for citation in answer.citations:
        print(f"{citation.key} {citation.name} ({citation.node_id}) {citation.url}")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to serve on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on.")] = None,
    home: Home = None,
    graph: Graph = None,
) -> None:
    """Start the chat page."""
    from biobridge_rag.ui.page import launch

    launch(settings(host=host, port=port, home=home, graph=graph))


@app.command()
def doctor(home: Home = None, graph: Graph = None, as_json: Json = False) -> None:
    """What is installed, built and reachable, and what to do about the rest."""
    from biobridge_rag.assembly import diagnose

    findings = diagnose(settings(home=home, graph=graph))
    if as_json:
        emit([{"what": f.what, "ok": f.ok, "detail": f.detail, "do": f.todo} for f in findings])
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'no '} {finding.what}: {finding.detail}" + (f" {finding.todo}" if finding.todo else ""))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


@evaluate.command("retrieval")
def evaluate_retrieval(
    graph: Annotated[str, typer.Option(help="'starter' or a directory in PrimeKG's layout.")],
    unseen: Annotated[Path | None, typer.Option(help="Directory of nodes that the graph has never seen, with their edges.")] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Without --unseen, trains anew without what is held out: inductive, inductive-cluster, paper, relation, modality."
        ),
    ] = "inductive",
    baselines: Annotated[
        str,
        typer.Option(
            help="Comma-separated: popularity, analogues, kernel-ridge, linear, mlp, clip, imagebind, biobridge; on paper also inverse, "
            "transe, transd, transh, transr, complex, distmult, rotate."
        ),
    ] = "popularity,analogues",
    hold_out: Annotated[
        str | None, typer.Option(help="What the split 'relation' (head_type|name|tail_type) or 'modality' (a node type) holds out.")
    ] = None,
    split_file: Annotated[Path | None, typer.Option(help="Read the split from this file, or write it there where it is not yet.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write report.md and report.html with figures into this folder.")] = None,
    home: Home = None,
    fraction: Annotated[float, typer.Option(help="Share of the heads to hold out (not for relation and modality).")] = 0.1,
    seed: Annotated[int | None, typer.Option(help="Seed of the split and of training.")] = None,
    as_json: Json = False,
) -> None:
    """MRR and hits@k for each relation: all seen tails ranked, filtered, mean rank on ties, with intervals and paired tests."""
    from biobridge_rag.assembly import evaluate_retrieval as run

    _check_out(out)
    if report is not None and report.exists() and not report.is_dir():
        raise InputError(f"The report folder {report} is a file.")
    methods = list(dict.fromkeys(name for b in baselines.split(",") if (name := b.strip())))
    progress = Progress()
    try:
        found = run(settings(graph=graph, home=home, seed=seed), unseen, split, methods, fraction, progress, hold_out, split_file)
    finally:
        progress.close()
    for reason, count in sorted(found["skipped"].items()):
        note(f"left out: {count:,} x {reason}")
    for line in found.get("notes", ()):
        note(line)
    if report is not None:
        from biobridge_rag.evaluation.report import write_report

        files = write_report(found, report, history=found["history"] or None, calibration=found.get("calibration") or None)
        note(f"{report}: {len(files)} files")
    _hand_out(found, out, as_json, _print_table)


@evaluate.command("pairs")
def evaluate_pairs(
    pairs: Annotated[Path, typer.Option(help="CSV or CSV.gz with the columns smiles, sequence, label (0 or 1).")],
    relation: Annotated[str, typer.Option(help="Name of the relation between proteins and drugs.")] = "target",
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    home: Home = None,
    graph: Graph = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the negatives that the probabilities are learned from.")] = None,
    as_json: Json = False,
) -> None:
    """AUROC and AUPR of drug-protein pairs, either side of which may be unseen. "bridge" is the two-step kernel attention over both
    sides; all is learned from the graph's edges with the queries left out."""
    from biobridge_rag.assembly import evaluate_pairs as run

    _check_out(out)
    progress = Progress()
    try:
        found = run(settings(graph=graph, home=home), pairs, relation, seed or 0, progress)
    finally:
        progress.close()
    for reason, count in sorted(found["skipped"].items()):
        note(f"left out: {count:,} x {reason}")
    _hand_out(found, out, as_json, _print_pairs)


def _check_out(out: Path | None) -> None:
    if out is not None and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise InputError(
            f"The file {out} cannot be written: it is a folder." if out.is_dir() else f"The folder of --out {out} does not exist."
        )


def _hand_out(found: dict[str, Any], out: Path | None, as_json: bool, table: Callable[[dict[str, Any]], None]) -> None:
    """JSON to the file and, where it is asked for or there is no file, to stdout; a table instead for a reader at a terminal."""
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")
    if as_json or out is None:
        if as_json or not sys.stdout.isatty():
            emit(found)
        else:
            table(found)


def _print_pairs(found: dict[str, Any]) -> None:
    print(f"{found['n']:,} pairs, {found['n_positive']:,} positive\n{'method':<14} {'AUROC':>7} {'AUPR':>7}")
    for name, figures in found["methods"].items():
        print(f"{name:<14} {figures['auroc']:>7.3f} {figures['aupr']:>7.3f}")


def _print_table(report: dict[str, Any]) -> None:
    methods = list(report["macro"])
    print(f"{'relation':<60} {'n':>6} " + " ".join(f"{m:>11}" for m in methods))
    for row in report["relations"]:
        name = f"{row['head_type']} - {row['relation']} -> {row['tail_type']}"
        print(f"{name:<60} {row['n_triples']:>6} " + " ".join(f"{row['methods'][m]['mrr']:>11.3f}" for m in methods))
    print(f"{'macro MRR':<60} {'':>6} " + " ".join(f"{report['macro'][m]['mrr']:>11.3f}" for m in methods))


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
        note("biobridge-rag: stopped. A build goes on where it stopped when it is run again.")
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
