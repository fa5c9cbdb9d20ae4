"""Builds a home from a graph, stage by stage.

Knows: graphs, encoders, the bridge, fusion, the index and the manifest. Does not know: settings, the command line, the page.

Stages: graph, embeddings, bridge (with fusion), index. Each reads the one before it; the manifest is written after each, so a
build that was killed goes on with the stage it was in, and within it with the blocks and collections that are not there yet.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from biobridge_rag.bridge.model import load_bridge, save_bridge, unit
from biobridge_rag.bridge.training import LeftOut, TrainingOptions, train_default
from biobridge_rag.embedding import Engine, compare, embed, rows_of
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import save_array
from biobridge_rag.encoders.weights import ANYWHERE, Source
from biobridge_rag.errors import HomeError, HomeMismatchError, InputError
from biobridge_rag.graph.artefact import load_saved_graph, save_graph
from biobridge_rag.homes import EMBEDDED, STAGES, open_array, open_home, open_index, placed, read_fusions
from biobridge_rag.retrieval.fusion import Fusion, fit
from biobridge_rag.retrieval.likeness import Likeness
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.store.index import BRIDGE, FROZEN
from biobridge_rag.store.manifest import Manifest, read_manifest, write_manifest, write_text, writing
from biobridge_rag.store.server import ask, read_address
from biobridge_rag.store.switching import recover
from biobridge_rag.types import Bridge, KnowledgeGraph, Modality, NodeType, Progress, Relation, Vectors

TRAINED_ON = ("graph_sha256", "encoders", "bridge_kind", "seed", "epochs")
DEFAULT_ENCODERS = {Modality.PROTEIN: "kmer", Modality.MOLECULE: "fingerprint", Modality.TEXT: "minilm-spelled"}
DEFAULT_EPOCHS = {"default": 2, "official": 20}
VERSIONED = ("torch", "chromadb", "rdkit", "transformers", "numpy")


@dataclass(frozen=True)
class OfficialTraining:
    """Options of the official bridge's training; see bridge.official_training.train_official. None: its default. log_dir: where
    TensorBoard finds the loss and the validation MRR."""

    patience: int | None = None
    balance: float | None = None
    negatives: int | None = None
    log_dir: Path | None = None

    def chosen(self) -> dict[str, float]:
        """What was chosen and changes the weights."""
        values = {"patience": self.patience, "balance": self.balance, "negatives": self.negatives}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for; None means the default, or in a home that exists, what it was built with. source: where the weights of
    foundation models lie; cache: a folder of embeddings that several homes share; chroma_url: where the index goes, as in
    homes.open_home; a finished home's index is written anew where it is not there yet; engine: what encodes, "ray" for actors on all
    cores and GPUs of this machine, or of the cluster at ray_address (see encoders.distributed.RayEngine)."""

    encoders: Mapping[Modality, str]
    bridge: str = "default"
    epochs: int | None = None
    device: str = "cpu"
    seed: int = 0
    train: bool = False
    official: OfficialTraining = OfficialTraining()
    source: Source = ANYWHERE
    cache: Path | None = None
    chroma_url: str = ""
    engine: Engine = "local"
    ray_address: str = ""


def build_home(graph: KnowledgeGraph, path: Path, options: BuildOptions, progress: Progress) -> Manifest:
    """Builds `path`, or goes on with it; a finished home of the same identity is left as it is. Holds the home's lock. The graph is one
    that the encoders can read (see `usable`).

    Raises HomeMismatchError where the home was built from something else, HomeLockedError where another process builds it,
    DiskFullError where there is no room: nothing that was finished is lost.
    """
    check_device(options.device)
    if options.bridge != "official" and options.official != OfficialTraining():
        raise InputError("Patience, balance, negatives and a log folder are options of the official bridge.", "Add --bridge official.")
    encoders = {m: make_encoder(m, name, options.source) for m, name in sorted(options.encoders.items())}
    epochs = options.epochs if options.epochs is not None else DEFAULT_EPOCHS[options.bridge]
    wanted = Manifest(
        graph_name=graph.name,
        graph_sha256=graph.sha256,
        encoders={m.value: e.id for m, e in encoders.items()},
        encoder_names={m.value: n for m, n in options.encoders.items()},
        dims={m.value: e.dim for m, e in encoders.items()},
        bridge_kind=options.bridge,
        seed=options.seed,
        epochs=epochs,
        versions={name: version_of(name) for name in VERSIONED},
        skipped=dict(graph.skipped),
        training=options.official.chosen(),
        weights=str(options.source.weights.resolve()) if options.source.weights else "",
    )
    with writing(path):
        manifest = read_manifest(path)
        if manifest is None:
            manifest = wanted
        elif difference := manifest.difference(wanted):
            raise HomeMismatchError(
                f"The home {path} cannot take this build: {difference}.", "Choose another --home, or delete that folder."
            )
        before, manifest = manifest, placed(path, manifest, options.chroma_url)
        check_server(manifest)
        manifest = sound(graph, path, manifest)
        if manifest.stages == STAGES and not options.train:
            if manifest != before:
                write_manifest(path, manifest)
            return manifest
        if manifest.additions:
            graph = _with_additions(path, manifest, options)
        if "graph" not in manifest.stages:
            save_graph(graph, path / "graph")
            manifest = finish(path, manifest, "graph")
        with rows_of(options.encoders, options.source, options.engine, options.ray_address) as rows:
            tables = embed(graph, path, encoders, progress, options.cache, rows)
        likeness = compare(graph, path, tables, encoders, progress)
        manifest = finish(path, manifest, "embeddings")
        if "bridge" not in manifest.stages or options.train:
            digest = _make_bridge(graph, path, tables, likeness, options, epochs, manifest, progress)
            manifest = finish(path, replace(manifest, bridge_sha256=digest, stages=STAGES[:2]), "bridge")
        index_nodes(graph, path, tables, manifest, progress)
        return finish(path, manifest, "index")


def _with_additions(path: Path, manifest: Manifest, options: BuildOptions) -> KnowledgeGraph:
    """The graph that the home holds, from which all but the bridge can be made again: that would learn from the additions."""
    if options.train or "bridge" not in manifest.stages:
        raise HomeMismatchError(
            f"The home {path} holds {manifest.additions:,} additions to its graph, so its bridge is not trained again.",
            "Undo them first (biobridge-rag add --undo), or build in an empty folder.",
        )
    return load_saved_graph(path / "graph")


def check_device(device: str) -> None:
    """Raises InputError for a device that is not here."""
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"The device {device!r} is not available: PyTorch finds no CUDA device here.", "Leave the option out.")


def check_server(manifest: Manifest) -> None:
    """Raises IndexServerError now rather than after hours of embedding and training."""
    if manifest.index_url:
        ask(read_address(manifest.index_url))


def sound(graph: KnowledgeGraph, path: Path, manifest: Manifest) -> Manifest:
    """The manifest with those stages only whose files are whole, so that the build makes the damaged ones again. A change of the home
    that was broken off is carried on first. Raises HomeError where a graph with additions is damaged: it cannot be made again."""
    if recover(path):
        manifest = read_manifest(path) or manifest
    stages = manifest.stages
    if stages == STAGES:
        try:
            open_home(path, chroma_url=manifest.index_url or EMBEDDED).index.close()
            return manifest
        except HomeError:
            stages = STAGES[:3]
    for file in sorted([*(path / "embeddings").glob("*.npy"), *(path / "similarities").glob("*.npy")]):
        if not _holds(partial(_readable, file)):
            file.unlink()
    if "graph" in stages and not _holds(lambda: load_saved_graph(path / "graph").sha256 == manifest.graph_sha256):
        if manifest.additions:
            raise HomeError(
                f"The graph in {path}, which holds {manifest.additions:,} additions, is damaged.",
                "Delete the folder, run biobridge-rag build again and add the same files again.",
            )
        save_graph(graph, path / "graph")
    if "bridge" in stages and not _holds(lambda: _bridge_digest(path) == manifest.bridge_sha256):
        stages = STAGES[:2]
    return replace(manifest, stages=stages)


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except HomeError:
        return False


def _readable(file: Path) -> bool:
    return open_array(file).ndim == 2


def _bridge_digest(path: Path) -> str:
    """The bridge's sha256, where its fusion weights are there and belong to it."""
    digest = load_bridge(path / "bridge")[1]
    read_fusions(path, digest)
    return digest


def finish(path: Path, manifest: Manifest, stage: str) -> Manifest:
    if stage in manifest.stages:
        return manifest
    manifest = replace(manifest, stages=(*manifest.stages, stage))
    write_manifest(path, manifest)
    return manifest


def version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _make_bridge(
    graph: KnowledgeGraph,
    path: Path,
    tables: Mapping[NodeType, Vectors],
    likeness: Mapping[NodeType, Likeness],
    options: BuildOptions,
    epochs: int,
    manifest: Manifest,
    progress: Progress,
) -> str:
    """Trains the bridge and the fusion, or takes those that ship with the package where they fit. Returns the bridge's sha256."""
    if not options.train and (shipped := _shipped(manifest)) is not None:
        with as_file(shipped) as folder:
            (path / "bridge").mkdir(parents=True, exist_ok=True)
            for name in ("model.safetensors", "config.json"):
                shutil.copyfile(folder / name, path / "bridge" / name)
            shutil.copyfile(folder / "fusion.json", path / "fusion.json")
        return load_bridge(path / "bridge")[1]
    trained = train_parts(
        graph, tables, likeness, options.bridge, epochs, options.seed, options.device, progress, path / "bridge", options.official
    )
    relations = {r.key: f.to_dict() for r, f in sorted(trained.fusions.items())}
    write_text(path / "fusion.json", json.dumps({"bridge_sha256": trained.sha256, "relations": relations}, indent=1) + "\n")
    return trained.sha256


@dataclass(frozen=True)
class Trained:
    """A bridge as read back from its checkpoint, the unit projections of all nodes, and the fusion of each relation."""

    bridge: Bridge
    sha256: str
    projections: dict[NodeType, Vectors]
    fusions: dict[Relation, Fusion]


def train_parts(
    graph: KnowledgeGraph,
    tables: Mapping[NodeType, Vectors],
    likeness: Mapping[NodeType, Likeness],
    kind: str,
    epochs: int,
    seed: int,
    device: str,
    progress: Progress,
    folder: Path,
    official: OfficialTraining | None = None,
) -> Trained:
    """Trains a bridge into `folder` and learns the fusion from its honest predictions for training heads.

    The official bridge writes a checkpoint each epoch into `folder`/training, from which a run that was killed goes on; of a
    finished one `training.json` stays, with the loss and the validation MRR of every epoch."""
    by_name = {t.value: x for t, x in tables.items()}
    honest: dict[Relation, LeftOut]
    bridge: Bridge
    if kind == "default":
        bridge, honest = train_default(graph, by_name, TrainingOptions(epochs=epochs, seed=seed), progress)
    else:
        from biobridge_rag.bridge.official_training import train_official

        chosen, log_dir = (official.chosen(), official.log_dir) if official else ({}, None)
        bridge, honest = train_official(
            graph, by_name, epochs=epochs, seed=seed, device=device, progress=progress, checkpoints=folder / "training", log_dir=log_dir,
            **chosen,  # type: ignore[arg-type]
        )  # fmt: skip
    save_bridge(bridge, folder)
    (folder / "training" / "checkpoint.pt").unlink(missing_ok=True)
    stored, digest = load_bridge(folder)
    projections = {t: unit(_project(stored, x, t)) for t, x in tables.items()}
    scorer, fusions = TailScorer(graph, tables, projections, stored, likeness), {}
    for i, (relation, left_out) in enumerate(sorted(honest.items())):
        progress("learning fusion", i, len(honest))
        cosines = unit(left_out.transforms) @ projections[NodeType(relation.tail_type)].T if kind == "official" else None
        fusions[relation] = fit(scorer, relation, left_out.rows, seed, cosines)
    progress("learning fusion", len(honest), len(honest))
    return Trained(stored, digest, projections, fusions)


def _shipped(manifest: Manifest) -> Traversable | None:
    """The folder of the package's own trained bridge, where it was trained on exactly this graph and these encoders."""
    folder = files("biobridge_rag.graph.starter").joinpath("bridge")
    description = folder.joinpath("trained_on.json")
    if not description.is_file():
        return None
    trained = json.loads(description.read_text())
    same = all(trained[key] == getattr(manifest, key) for key in TRAINED_ON)
    return folder if same else None


def _project(bridge: Bridge, x: Vectors, node_type: NodeType) -> Vectors:
    blocks = [bridge.project(np.asarray(x[i : i + 2048], dtype=np.float32), node_type.value) for i in range(0, len(x), 2048)]
    return np.concatenate(blocks)


def index_nodes(graph: KnowledgeGraph, path: Path, tables: Mapping[NodeType, Vectors], manifest: Manifest, progress: Progress) -> None:
    bridge, digest = load_bridge(path / "bridge")
    folder = path / "projections"
    folder.mkdir(exist_ok=True)
    index = open_index(path, manifest)
    try:
        for node_type, x in tables.items():
            nodes = [graph.nodes[i] for i in graph.by_type[node_type]]
            projected = unit(_project(bridge, x, node_type))
            save_array(folder / f"{node_type.slug}.npy", projected)
            label = f"{manifest.graph_sha256[:16]}-{manifest.encoders[node_type.modality.value]}"
            index.write(node_type, FROZEN, nodes, x, label, progress)
            index.write(node_type, BRIDGE, nodes, projected, f"{label}-{digest[:16]}", progress)
    finally:
        index.close()
