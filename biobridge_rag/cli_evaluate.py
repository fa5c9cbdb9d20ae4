"""The commands `evaluate …`: thin commands over the assembly, whose reports go to files, to a table or to stdout.

Knows: Typer and the assembly. Does not know: how anything is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

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
    TextEncoder,
    Weights,
    emit,
    note,
    opened_engine,
    settings,
)
from biobridge_rag.errors import InputError

evaluate = typer.Typer(no_args_is_help=True, help="Measure retrieval on nodes that the graph has never seen, and question answering.")


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
    as_json: Json = False,
) -> None:
    """MRR and hits@k for each relation: all seen tails ranked, filtered, mean rank on ties, with intervals and paired tests."""
    from biobridge_rag.assembly import evaluate_retrieval as run

    _check_out(out)
    if report is not None and report.exists() and not report.is_dir():
        raise InputError(f"The report folder {report} is a file.")
    methods = list(dict.fromkeys(name for b in baselines.split(",") if (name := b.strip())))
    chosen = settings(
        graph=graph, home=home, seed=seed, protein_encoder=protein_encoder, molecule_encoder=molecule_encoder, text_encoder=text_encoder,
        weights=weights, precision=precision, remote_code=remote_code, cache=cache, engine=engine, ray_address=ray_address,
        chroma_url=chroma_url, bridge=bridge, epochs=epochs, device=device,
    )  # fmt: skip
    progress = Progress()
    try:
        found = run(chosen, unseen, split, methods, fraction, progress, hold_out, split_file)
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


@evaluate.command("qa")
def evaluate_qa(
    questions: Annotated[
        Path,
        typer.Option(help="JSON lines, CSV or TSV (columns question, answers, options, ...), or PubMedQA's ori_pqal.json; plain or .gz."),
    ],
    arms: Annotated[
        str, typer.Option(help="Comma-separated, what answers rest on: none, text, bridge, shuffled (a control), full.")
    ] = "none,text,bridge,shuffled,full",
    llm: Annotated[str | None, typer.Option(help="Model that writes the answers, or 'none'; default BIOBRIDGE_LLM_MODEL.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the records, the summary and the report; a broken-off run goes on in it.")] = Path(
        "qa"
    ),
    home: Home = None,
    graph: Graph = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="Questions asked at once; default 8 with a server's language model, else 1.")
    ] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="US dollars at which the run stops.")] = None,
    token_budget: Annotated[int | None, typer.Option(min=0, help="Tokens at which the run stops, for models of unknown price.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples behind intervals and tests.")] = 0,
    as_json: Json = False,
) -> None:
    """Ask a file of questions in several arms: accuracy, citations, abstention, time and cost, with intervals and paired tests.
    Broken off, even by kill -9, the same command goes on where it stopped and asks nothing twice."""
    from contextlib import closing

    from biobridge_rag.evaluation.qa import asking, check_arms, home_sha256
    from biobridge_rag.evaluation.qa import evaluate_qa as run
    from biobridge_rag.evaluation.qa_run import Budget
    from biobridge_rag.evaluation.questions import read_questions

    names, found = check_arms(arms.split(",")), read_questions(questions)
    progress = _Asking()
    with closing(opened_engine(home, graph)) as engine:
        model = engine.llm_of(engine.settings, llm)
        name = model.model if model else "none"
        if model:
            note(f"language model: {name} at {model.host or 'this machine'}")
        try:
            summary = run(
                asking(engine, model), found, names, out, llm=name, home=home_sha256(engine.home.manifest), graph=engine.graph,
                seed=seed, concurrency=concurrency or (8 if model and model.host else 1), budget=Budget(budget, token_budget),
                limit=limit, progress=progress, note=note,
            )  # fmt: skip
        finally:
            progress.close()
    note(f"{out}: records.jsonl, summary.json, report.html, report.md")
    if as_json or not sys.stdout.isatty():
        emit(summary)
    else:
        _print_arms(summary)


class _Asking:
    """Progress of a question run; what it has cost so far stands in lines of its own, at most ten."""

    def __init__(self) -> None:
        self._progress, self._said = Progress(), 0

    def __call__(self, done: int, total: int, usage: Any) -> None:
        self._progress("asking", done, total)
        tenth, tokens = 10 * done // max(total, 1), usage.prompt_tokens + usage.completion_tokens
        if tokens and tenth > self._said:
            self._said = tenth
            cost = f"${usage.cost:.4f}" if usage.cost is not None else "price not known"
            note(f"so far: {usage.calls:,} calls ({usage.cached:,} from the cache), {tokens:,} tokens, {cost}")

    def close(self) -> None:
        self._progress.close()


def _print_arms(summary: dict[str, Any]) -> None:
    print(f"{'arm':<10} {'n':>6} {'accuracy':>9} {'interval':>15} {'answerable':>11} {'abstained, unanswerable':>24} {'failed':>7}")

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    for name, arm in summary["arms"].items():
        ci = "-".join(share(v) for v in arm["ci"]) if arm["ci"] else "-"
        able, unable = share(arm.get("answerable", {}).get("accuracy")), share(arm.get("unanswerable", {}).get("abstained"))
        print(f"{name:<10} {arm['n']:>6,} {share(arm['accuracy']):>9} {ci:>15} {able:>11} {unable:>24} {arm['errors']:>7,}")


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
