"""A built home: its parts, and opening them with every check that they belong together.

Knows: what a build leaves on disk. Does not know: how it was built, settings, the command line, the page.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.bridge.model import load_bridge
from biobridge_rag.bridge.training import MAX_PAIRS
from biobridge_rag.encoders import HeldEncoder, is_foundation, make_encoder
from biobridge_rag.encoders.cache import encode_groups, load_centre
from biobridge_rag.encoders.weights import ANYWHERE, Source
from biobridge_rag.errors import BiobridgeError, HomeError, HomeMismatchError, InputError
from biobridge_rag.graph.artefact import load_saved_graph
from biobridge_rag.retrieval.fusion import Fusion
from biobridge_rag.retrieval.likeness import Likeness
from biobridge_rag.store.index import BRIDGE, FROZEN, NodeIndex, collection_name
from biobridge_rag.store.manifest import Manifest, read_manifest
from biobridge_rag.store.server import read_address
from biobridge_rag.store.switching import is_pending
from biobridge_rag.types import Aligner, AligningEncoder, Bridge, Encoder, KnowledgeGraph, Modality, NodeType, Relation, Vectors

MEND = "Run the same biobridge-rag build (or import-official) again: it makes the damaged part again and keeps the rest."
STAGES = ("graph", "embeddings", "bridge", "index")
EMBEDDED = "embedded"  # in place of a server's URL: the index in the home itself


@dataclass(frozen=True)
class Home:
    """An opened home: everything that retrieval reads. tables (raw in an imported home, unit vectors in any other) and projections
    (unit vectors) are memory-mapped, (n, dim)."""

    path: Path
    manifest: Manifest
    graph: KnowledgeGraph
    bridge: Bridge
    tables: dict[NodeType, Vectors]
    projections: dict[NodeType, Vectors]
    likeness: dict[NodeType, Likeness]
    fusions: dict[Relation, Fusion]
    index: NodeIndex
    encoders: dict[Modality, Encoder]

    def encode(self, node_type: NodeType, groups: Sequence[tuple[str, ...]]) -> Vectors:
        """(n, dim) unit vectors of nodes that the graph does not hold, each with its values, comparable with the type's table."""
        return encode_groups(self._remembering[node_type.modality], groups, self._centres.get(node_type))

    @cached_property
    def _remembering(self) -> dict[Modality, Encoder]:
        return {modality: _Remembering(encoder) for modality, encoder in self.encoders.items()}

    @cached_property
    def _centres(self) -> dict[NodeType, Vectors | None]:
        return {t: load_centre(self.path / "embeddings", t.slug) for t in self.tables}


class _Remembering:
    """An encoder that does not encode a single value again that it was given lately: a question is held against every type of text."""

    def __init__(self, encoder: Encoder) -> None:
        self.id, self.modality, self.dim = encoder.id, encoder.modality, encoder.dim
        self._encoder, self._one = encoder, lru_cache(maxsize=8)(lambda value: encoder.encode([value]))

    def encode(self, values: Sequence[str]) -> Vectors:
        return self._one(values[0]).copy() if len(values) == 1 else self._encoder.encode(values)


def open_home(path: Path, source: Source = ANYWHERE, chroma_url: str = "") -> Home:
    """Opens a finished home and checks that its parts belong together. Raises HomeError or HomeMismatchError in one line, and
    IndexServerError where the index is on a server that does not answer.

    source: where the weights of its foundation models lie, if not where the manifest says; chroma_url: the Chroma server that holds
    the index, "embedded" for the home itself; empty for what the manifest says."""
    manifest = read_manifest(path)
    if manifest is None:
        raise InputError(f"There is no built home in {path}.", "Run biobridge-rag build --graph DIR --home DIR first.")
    if is_pending(path, manifest):
        raise HomeError(
            f"The home {path} is being added to, or an addition to it was broken off.",
            f"Run biobridge-rag add --list --home {path}: it carries the addition on to its end.",
        )
    if manifest.stages != STAGES:
        raise HomeError(
            f"The home {path} is only half built ({', '.join(manifest.stages) or 'nothing'} done).",
            "Run the same biobridge-rag build (or import-official) again: it goes on where it stopped.",
        )
    graph = load_saved_graph(path / "graph")
    if graph.sha256 != manifest.graph_sha256:
        raise HomeError(f"The graph in {path} is not the one that its manifest names.", MEND)
    bridge, digest = load_bridge(path / "bridge")
    if digest != manifest.bridge_sha256:
        raise HomeError(f"The bridge in {path} is not the one that its manifest names.", MEND)
    tables, projections, likeness = {}, {}, {}
    encoders = {m: _encoder(path, manifest, m, source) for m in sorted({t.modality for t in graph.by_type})}
    for node_type, positions in graph.by_type.items():
        modality = node_type.modality
        encoder = encoders[modality]
        found = sorted((path / "embeddings").glob(f"{node_type.slug}-*.npy"))
        projected = path / "projections" / f"{node_type.slug}.npy"
        if len(found) != 1 or not projected.exists():
            raise HomeError(f"The home {path} lacks vectors of {node_type.label} nodes.", MEND)
        tables[node_type], projections[node_type] = open_array(found[0]), open_array(projected)
        if tables[node_type].shape != (len(positions), manifest.dims[modality.value]) or len(projections[node_type]) != len(positions):
            raise HomeError(f"The vectors of {node_type.label} nodes in {path} do not fit its graph.", MEND)
        likeness[node_type] = _likeness(graph, path, node_type, tables[node_type], encoder)
    fusions = read_fusions(path, digest)
    index = open_index(path, manifest, chroma_url)
    try:
        counts = index.counts()
    except BiobridgeError:
        index.close()
        raise
    for node_type, positions in graph.by_type.items():
        for space in (FROZEN, BRIDGE):
            if counts.get(collection_name(node_type, space)) != len(positions):
                index.close()
                raise HomeError(f"The index in {path} lacks {node_type.label} nodes.", MEND)
    return Home(path, manifest, graph, bridge, tables, projections, likeness, fusions, index, encoders)


def _encoder(path: Path, manifest: Manifest, modality: Modality, source: Source) -> Encoder:
    name, id = manifest.encoder_names[modality.value], manifest.encoders[modality.value]
    if is_foundation(modality, name):
        if source.weights is None and manifest.weights and (kept := Path(manifest.weights)).exists():
            source = replace(source, weights=kept)
        return HeldEncoder(modality, name, id, manifest.dims[modality.value], source)
    encoder = make_encoder(modality, name)
    if encoder.id != id:
        raise HomeMismatchError(
            f"The home {path} was built with the encoder {id!r}; this version's is {encoder.id!r}.", "Build it again in an empty folder."
        )
    return encoder


def placed(path: Path, manifest: Manifest, chroma_url: str) -> Manifest:
    """The manifest with its index at `chroma_url` (see open_home). The first time on a server the home gets its prefix there: the
    graph's name and a hash of what the home is built from and where. It keeps it wherever the folder or the server moves."""
    if chroma_url == EMBEDDED:
        return replace(manifest, index_url="")
    url = read_address(chroma_url).url if chroma_url else manifest.index_url
    if not url or manifest.index_prefix:
        return replace(manifest, index_url=url)
    made_from = [manifest.graph_sha256, manifest.encoders, manifest.bridge_kind, manifest.seed, manifest.epochs, manifest.training]
    digest = hashlib.sha256(json.dumps([*made_from, str(path.resolve())], sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9]+", "-", manifest.graph_name).strip("-")[:40]
    return replace(manifest, index_url=url, index_prefix=f"{name or 'home'}-{digest[:12]}")


def open_index(path: Path, manifest: Manifest, chroma_url: str = "") -> NodeIndex:
    """The index of the home in `path`, embedded or on a server; see open_home."""
    manifest = placed(path, manifest, chroma_url)
    return NodeIndex(path / "chroma", manifest.index_url, manifest.index_prefix if manifest.index_url else "")


def _likeness(graph: KnowledgeGraph, path: Path, node_type: NodeType, table: Vectors, encoder: Encoder) -> Likeness:
    aligner, file = aligner_of(graph, node_type, encoder), path / "similarities" / f"{node_type.slug}.npy"
    among = open_array(file) if file.exists() and len(table) <= MAX_PAIRS else None  # a longer table may have grown from a short one
    if (aligner is not None and among is None) or (among is not None and among.shape != (len(table), len(table))):
        raise HomeError(f"The home {path} lacks similarities between {node_type.label} nodes.", MEND)
    return Likeness(table, among, aligner)


def open_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise HomeError(f"The file {path} is damaged.", MEND) from error
    return array


def read_fusions(path: Path, digest: str) -> dict[Relation, Fusion]:
    try:
        data = json.loads((path / "fusion.json").read_text())
        if data["bridge_sha256"] != digest:
            raise HomeError(f"The fusion weights in {path} were learned for another bridge.", MEND)
        out = {}
        for key, value in data["relations"].items():
            head, name, tail = key.split("|")
            out[Relation(name, head, tail)] = Fusion.from_dict(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HomeError(f"The file {path / 'fusion.json'} is missing or damaged.", MEND) from error
    return out


def aligner_of(graph: KnowledgeGraph, node_type: NodeType, encoder: Encoder) -> Aligner | None:
    """None where the encoder has none, and for a type with too many nodes to compare them all: there cosines do."""
    positions = graph.by_type[node_type]
    if not isinstance(encoder, AligningEncoder) or len(positions) > MAX_PAIRS:
        return None
    return encoder.aligner([graph.nodes[i].values[0] for i in positions])
