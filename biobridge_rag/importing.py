"""Makes a home of the BioBridge authors' release: their bridge and frozen embeddings over a graph, ready to be asked.

Knows: releases, graphs, the stages of a home. Does not know: settings, the command line, how a bridge is trained.

The stages, their order and the lock are those of a build, so an import that was killed goes on where it stopped. Nothing is
encoded and nothing is trained. The tables stay as released, not of unit length: the bridge takes them so. Fusion is not learned
either: the released weights saw most heads of the graph, so no honest prediction is left to learn it from; the default weights
are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from biobridge_rag.bridge.model import load_bridge, save_bridge
from biobridge_rag.bridge.official import OfficialBridge
from biobridge_rag.bridge.release import Release, graph_and_tables
from biobridge_rag.building import VERSIONED, check_server, finish, index_nodes, sound, version_of
from biobridge_rag.encoders.cache import content_key, save_array
from biobridge_rag.encoders.released import ReleasedEncoder, released_encoders
from biobridge_rag.errors import GraphFormatError, HomeMismatchError
from biobridge_rag.graph.artefact import save_graph
from biobridge_rag.homes import STAGES, placed
from biobridge_rag.store.manifest import Manifest, read_manifest, write_manifest, write_text, writing
from biobridge_rag.types import KnowledgeGraph, Modality, NodeType, Progress, Vectors


def import_release(
    release: Release, graph: KnowledgeGraph, listed: Mapping[int, tuple[str, str]], path: Path, progress: Progress, chroma_url: str = ""
) -> tuple[Manifest, KnowledgeGraph]:
    """Makes the home `path` of a release and the part of the graph that it has embeddings of, or goes on with it; a finished home
    of the same release is left as it is. Holds the home's lock. Returns the manifest and that part of the graph.

    listed: node_index -> (node type, node id), used where the release has no nodes.csv; chroma_url: where the index goes, as in
    homes.open_home. What the release or the bridge does not cover is counted by reason in the manifest's `skipped`. Raises
    GraphFormatError where the release and the graph have no node or no relation in common, HomeMismatchError where the home was made
    of anything else, HomeLockedError and DiskFullError as a build does.
    """
    part, tables = graph_and_tables(release, graph, listed)
    part = with_known_relations(part, release.bridge)
    encoders = released_encoders(tables)
    names = {m.value: encoder.id for m, encoder in sorted(encoders.items())}
    digest = _digest(release.bridge)
    wanted = Manifest(
        graph_name=part.name,
        graph_sha256=part.sha256,
        encoders=names,
        encoder_names=names,
        dims={m.value: encoder.dim for m, encoder in sorted(encoders.items())},
        bridge_kind=release.bridge.kind,
        seed=0,
        epochs=0,
        bridge_sha256=digest,
        versions={name: version_of(name) for name in VERSIONED},
        skipped=dict(part.skipped),
    )
    with writing(path):
        manifest = read_manifest(path) or wanted
        difference = manifest.difference(wanted) or ("" if manifest.bridge_sha256 == digest else "it holds a bridge with other weights")
        before = manifest
        if not difference:
            manifest = placed(path, manifest, chroma_url)
            check_server(manifest)
            manifest = sound(part, path, manifest)
            if "bridge" in manifest.stages and _config(path) != release.bridge.config():
                difference = "its bridge gives the same weights another meaning"
        if difference:
            raise HomeMismatchError(
                f"The home {path} cannot take this release: {difference}.", "Choose another --home, or delete that folder."
            )
        if manifest.stages == STAGES:
            if manifest != before:
                write_manifest(path, manifest)
            return manifest, part
        if "graph" not in manifest.stages:
            save_graph(part, path / "graph")
            manifest = finish(path, manifest, "graph")
        _save_tables(part, path / "embeddings", tables, encoders, progress)
        manifest = finish(path, manifest, "embeddings")
        if "bridge" not in manifest.stages:
            save_bridge(release.bridge, path / "bridge")
            write_text(path / "fusion.json", json.dumps({"bridge_sha256": digest, "relations": {}}, indent=1) + "\n")
            manifest = finish(path, manifest, "bridge")
        index_nodes(part, path, tables, manifest, progress)
        return finish(path, manifest, "index"), part


def with_known_relations(graph: KnowledgeGraph, bridge: OfficialBridge) -> KnowledgeGraph:
    """The graph without the relations that the bridge has no embedding of; their edges are counted by relation in `skipped`.

    Nodes stay, also those that lose all their edges. Raises GraphFormatError where no relation is left.
    """
    known = [i for i, relation in enumerate(graph.relations) if relation.name in bridge.relation_types]
    if len(known) == len(graph.relations) and known:
        return graph
    if not known:
        names = ", ".join(sorted({relation.name for relation in graph.relations})) or "none"
        raise GraphFormatError(
            f"The bridge knows none of the relations between the nodes that the release has embeddings of ({names}).",
            f"It knows {', '.join(sorted(bridge.relation_types))}.",
        )
    count = np.bincount(graph.relation, minlength=len(graph.relations))
    skipped = dict(graph.skipped)
    for i, relation in enumerate(graph.relations):
        if i not in known:
            reason = f"edge of the relation {relation.name!r}, which the released bridge does not know"
            skipped[reason] = skipped.get(reason, 0) + int(count[i])
    new = np.full(len(graph.relations), -1, dtype=np.int16)
    new[known] = np.arange(len(known))
    keep = new[graph.relation] >= 0
    return replace(
        graph,
        relations=tuple(graph.relations[i] for i in known),
        head=graph.head[keep],
        relation=new[graph.relation[keep]],
        tail=graph.tail[keep],
        source=graph.source[keep],
        skipped=skipped,
    )


def _save_tables(
    graph: KnowledgeGraph,
    folder: Path,
    tables: Mapping[NodeType, Vectors],
    encoders: Mapping[Modality, ReleasedEncoder],
    progress: Progress,
) -> None:
    """Writes each table where a build looks for it; one that is there already, whole and equal, is left alone."""
    folder.mkdir(exist_ok=True)
    for done, (node_type, x) in enumerate(tables.items()):
        progress("importing embeddings", done, len(tables))
        groups = [graph.nodes[i].values for i in graph.by_type[node_type]]
        file = folder / f"{node_type.slug}-{content_key(encoders[node_type.modality].id, groups)}.npy"
        if not file.exists() or not np.array_equal(np.load(file, mmap_mode="r", allow_pickle=False), x):
            save_array(file, x)
    progress("importing embeddings", len(tables), len(tables))


def _digest(bridge: OfficialBridge) -> str:
    """The sha256 that the bridge's weights have once they are saved."""
    from safetensors.numpy import save

    return hashlib.sha256(save(bridge.tensors())).hexdigest()


def _config(path: Path) -> dict[str, object]:
    """What the home's bridge says of its weights."""
    bridge = load_bridge(path / "bridge")[0]
    return bridge.config() if isinstance(bridge, OfficialBridge) else {}
