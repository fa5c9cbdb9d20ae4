"""The further processes of a build under torchrun: they train the official bridge beside the first, which builds the home.

Knows: building, the official bridge's training, torchrun's environment. Does not know: settings, the command line.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from biobridge_rag.building import DEFAULT_EPOCHS, BuildOptions
from biobridge_rag.embedding import embed
from biobridge_rag.encoders import make_encoder
from biobridge_rag.errors import InputError
from biobridge_rag.homes import STAGES
from biobridge_rag.store.manifest import read_manifest
from biobridge_rag.types import KnowledgeGraph, Progress

_SECONDS = 0.5


def rank() -> int:
    """This process's number under torchrun, 0 without it."""
    return int(os.environ.get("RANK", "0"))


def follow(graph: KnowledgeGraph, path: Path, options: BuildOptions, progress: Progress) -> None:
    """Waits until the first process has encoded the graph into `path`, then trains with it; does nothing where the home is finished.
    torchrun ends this process where the first one fails. Raises InputError where the bridge is not the official one."""
    if options.bridge != "official":
        raise InputError("Only the official bridge is trained in several processes.", "Add --bridge official, or run without torchrun.")
    while (manifest := read_manifest(path)) is None or "embeddings" not in manifest.stages:
        time.sleep(_SECONDS)
    if manifest.stages == STAGES and not options.train:
        return
    from biobridge_rag.bridge.official_training import train_official

    encoders = {m: make_encoder(m, name, options.source) for m, name in sorted(options.encoders.items())}
    tables = {t.value: x for t, x in embed(graph, path, encoders, progress, options.cache).items()}
    epochs = options.epochs if options.epochs is not None else DEFAULT_EPOCHS[options.bridge]
    train_official(
        graph, tables, epochs=epochs, seed=options.seed, device=options.device, progress=progress,
        checkpoints=path / "bridge" / "training", **options.official.chosen(),  # type: ignore[arg-type]
    )  # fmt: skip
