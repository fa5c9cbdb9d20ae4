"""The tables of a graph: which nodes can be encoded, by which engine they are, and how like each other they are.

Knows: graphs, encoders, the files that a build keeps. Does not know: bridges, the index, settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.training import MAX_PAIRS
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import Rows, cached_embeddings, encoded, fill, save_array
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import InputError
from biobridge_rag.graph.parts import part
from biobridge_rag.homes import aligner_of, open_array
from biobridge_rag.retrieval.likeness import Likeness
from biobridge_rag.types import ChoosyEncoder, Encoder, KnowledgeGraph, Modality, NodeType, Vectors

Progress = Callable[[str, int, int], None]
Engine = Literal["local", "ray"]


def usable(graph: KnowledgeGraph, encoders: Mapping[Modality, Encoder]) -> KnowledgeGraph:
    """The graph to build from: without the nodes that have a value which their encoder cannot use, counted by type in its `skipped`."""
    keep, skipped = np.ones(len(graph.nodes), dtype=bool), Counter[str]()
    for node_type, positions in graph.by_type.items():
        encoder = encoders[node_type.modality]
        if isinstance(encoder, ChoosyEncoder):
            values = [graph.nodes[i].values for i in positions]
            refused = encoder.unusable([value for group in values for value in group])
            place = np.cumsum([0, *map(len, values)])
            bad = [any(int(k) in refused for k in range(place[i], place[i + 1])) for i in range(len(values))]
            keep[positions[bad]] = False
            skipped[f"{node_type.label} node that the encoder {encoder.id} cannot read"] += sum(bad)
    return graph if keep.all() else part(graph, keep, skipped, "edge to a node that its encoder cannot read")


@contextmanager
def rows_of(encoders: Mapping[Modality, str], source: Source, engine: Engine, ray_address: str) -> Iterator[Mapping[Modality, Rows]]:
    """What makes the rows of each modality: empty for this process. Raises InputError for a Ray address without Ray."""
    if engine == "local":
        if ray_address:
            raise InputError("A Ray address is an option of the engine 'ray'.", "Add --engine ray.")
        yield {}
        return
    from biobridge_rag.encoders.distributed import RayEngine

    with RayEngine(ray_address, gpus_per_worker=0 if source.device == "cpu" else 1) as joined:
        yield {m: joined.rows(partial(make_encoder, m, name, source)) for m, name in encoders.items()}


def embed(
    graph: KnowledgeGraph,
    path: Path,
    encoders: Mapping[Modality, Encoder],
    progress: Progress,
    cache: Path | None = None,
    rows: Mapping[Modality, Rows] | None = None,
) -> dict[NodeType, Vectors]:
    """The unit vectors (n, dim) of all nodes by type, kept in `path`/embeddings. cache: a folder that several builds share; rows: what
    makes the vectors of a modality, if not this process."""
    out = {}
    for node_type, positions in graph.by_type.items():
        groups, modality = [graph.nodes[i].values for i in positions], node_type.modality
        made = (rows or {}).get(modality, encoded)
        out[node_type] = cached_embeddings(path / "embeddings", node_type.slug, encoders[modality], groups, progress, cache, made)
    return out


def fill_cache(
    graph: KnowledgeGraph,
    cache: Path,
    encoders: Mapping[Modality, Encoder],
    progress: Progress,
    rows: Mapping[Modality, Rows],
    only_missing: bool,
) -> dict[NodeType, dict[str, int]]:
    """Encodes the graph's nodes into the shared folder `cache`. Rows that are there are checked first, and damaged ones made again,
    unless `only_missing`. Returns by type how many values there are, were encoded, and were damaged."""
    out = {}
    for node_type, positions in graph.by_type.items():
        encoder = encoders[node_type.modality]
        values = [value for i in positions for value in graph.nodes[i].values]
        with EmbeddingStore(cache, encoder.id, encoder.dim) as store:
            damaged = 0 if only_missing else store.verify()
            made = rows.get(node_type.modality, encoded)
            count = fill(store, encoder, values, progress, f"encoding {node_type.slug}", made)
        out[node_type] = {"values": len(set(values)), "encoded": count, "damaged": damaged}
    return out


def compare(
    graph: KnowledgeGraph, path: Path, tables: Mapping[NodeType, Vectors], encoders: Mapping[Modality, Encoder], progress: Progress
) -> dict[NodeType, Likeness]:
    """How like each other the nodes of each type are, kept in `path`/similarities for types of at most 12,000 nodes. Where the
    encoder aligns, nodes are compared by the first of their values."""
    folder, out = path / "similarities", {}
    folder.mkdir(parents=True, exist_ok=True)
    for node_type, x in tables.items():
        aligner, among = aligner_of(graph, node_type, encoders[node_type.modality]), None
        if len(x) <= MAX_PAIRS:
            file = folder / f"{node_type.slug}.npy"
            if not file.exists() or open_array(file).shape != (len(x), len(x)):
                save_array(file, _cosines(x) if aligner is None else aligner.table(progress))
            among = open_array(file)
        out[node_type] = Likeness(x, among, aligner)
    return out


def _cosines(x: Vectors) -> NDArray[np.float16]:
    units = unit(np.asarray(x, dtype=np.float32))
    return np.asarray(units @ units.T, dtype=np.float16)
