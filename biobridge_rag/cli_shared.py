"""What the commands share: common options, settings from them, progress and notes on stderr, JSON on stdout.

Knows: Typer, settings, the assembly. Does not know: any one command.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

Home = Annotated[Path | None, typer.Option(help="Folder of the built artefacts; default vectorstore/<graph name>.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Graph = Annotated[str | None, typer.Option(help="'starter' or a directory in PrimeKG's layout.")]

Device = Annotated[str | None, typer.Option(help="'cpu' or 'cuda'.")]
Weights = Annotated[
    Path | None, typer.Option(help="File or folder with the weights of foundation models; default: the caches of fair-esm and the hub.")
]
ChromaUrl = Annotated[str | None, typer.Option(help="Chroma server that holds the index; 'embedded' for the home itself.")]

ProteinEncoder = Annotated[str | None, typer.Option(help="kmer (default), an ESM-2 or ESM-1b model by name, or the path of one.")]
MoleculeEncoder = Annotated[
    str | None, typer.Option(help="fingerprint (default), chemberta, chemberta2, molformer, unimol, ORGANISATION/MODEL, or a folder.")
]
TextEncoder = Annotated[
    str | None, typer.Option(help="minilm-spelled (default), biomedbert, sapbert, biolord, ORGANISATION/MODEL, or a folder.")
]
Precision = Annotated[str | None, typer.Option(help="fp32, fp16 or bf16 for foundation models; default fp16 on CUDA, fp32 on a CPU.")]
RemoteCode = Annotated[bool | None, typer.Option("--remote-code", help="Run Python code that comes with weights (MoLFormer needs it).")]
Cache = Annotated[Path | None, typer.Option(help="Folder of embeddings that several builds share; what is there is not encoded again.")]
Engine = Annotated[str | None, typer.Option(help="What encodes: 'local', or 'ray' for actors on many cores, GPUs or machines.")]
RayAddress = Annotated[str | None, typer.Option(help="With --engine ray: 'auto' or HOST:PORT of a cluster; default this machine.")]

Bridge = Annotated[str | None, typer.Option(help="'default' or 'official' (the architecture of the BioBridge authors).")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training heads.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]


class Progress:
    """Progress lines on stderr: a bar on a terminal, at most eleven lines a stage elsewhere, with rate and time left."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._shown = ("", -1)
        self._began = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            tenth = 10 * done // max(total, 1)
            if stage != self._shown[0]:
                self._began = (time.monotonic(), done)
            if (stage, tenth) != self._shown:
                self._shown = (stage, tenth)
                print(f"{stage}: {done:,} of {total:,}{self._pace(done, total)}", file=sys.stderr, flush=True)
            return
        from tqdm import tqdm

        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, tqdm(desc=stage, total=total, initial=done, unit="", unit_scale=True, file=sys.stderr)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def _pace(self, done: int, total: int) -> str:
        """The rate since the stage was first heard of, and the time left at that rate; nothing in the first second."""
        start, before = self._began
        seconds = time.monotonic() - start
        if seconds < 1 or done <= before:
            return ""
        rate = (done - before) / seconds
        pace = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
        return f", {pace}" + (f", {(total - done) / rate:,.0f} s left" if done < total else "")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


def settings(**given: Any) -> Any:
    """Settings from the options that were given; the rest from the environment and defaults."""
    from biobridge_rag.config import Settings

    return Settings(**{k: v for k, v in given.items() if v is not None})


def opened_engine(home: Path | None, graph: str | None = None, **given: Any) -> Any:
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


def would_be_sent(model: Any, dry: Any, recorder: Any) -> dict[str, Any]:
    """What a dry run has kept: the model, its host and parameters, and each call that would be made, as messages and as text.

    model: the language model, or None; dry: its DryRun, which `recorder` has listened to."""
    from biobridge_rag.qa.bundles import model_record

    if model is None:
        return {"model": None, "host": None, "parameters": {}, "sent": []}
    calls = [
        {"kind": e.kind, "prompt_sha256": e.prompt_sha256, "messages": [{"role": r, "text": t} for r, t in e.messages], "as_text": shown}
        for e, shown in zip(recorder.exchanges, dry.shown, strict=True)
    ]
    return {"model": model.model, "host": model.host or None, "parameters": model_record(model).parameters, "sent": calls}


def sent_text(found: dict[str, Any]) -> str:
    """The same for a reader."""
    if found["model"] is None:
        return "No language model is set, so nothing would be sent."
    if not found["sent"]:
        return f"Nothing would be sent to {found['model']}: there is no evidence that it could answer from."
    calls = found["sent"]
    head = [f"What would be sent to {found['model']} at {found['host'] or 'this machine'}; nothing was sent."]
    if len(calls) > 1:
        head.append("The first call asks what to look up. What it brings is not known, so the second is as rules would have it.")
    return "\n\n".join(["\n".join(head), *(call["as_text"] for call in calls)])
