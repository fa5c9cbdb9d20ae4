"""A change of a finished home that is made wholly or not at all: prepared beside the home's files, then put in their places.

Knows: the home's files, the index, the manifest, the journal additions/pending.json. Does not know: why the home changes, encoders.

Until the journal is written the home is as it was, and what was prepared is thrown away by the next writer. From then on the change
is carried on to its end: every step may be done twice, the manifest comes last, and only then does the journal go. A home with a
journal is not opened before a writer has carried the change on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.encoders.cache import save_array
from biobridge_rag.errors import DiskFullError, HomeError
from biobridge_rag.graph.artefact import EDGES, GRAPH, NODES, load_saved_graph, save_graph
from biobridge_rag.store.index import BRIDGE, FROZEN, NodeIndex
from biobridge_rag.store.manifest import Manifest, read_manifest, write_manifest, write_text
from biobridge_rag.types import KnowledgeGraph, NodeType, Progress

FOLDER = "additions"
_PENDING, _STAGING, _MANIFEST = "pending.json", "staging", "manifest.json"


@dataclass(frozen=True)
class NewRows:
    """Nodes of one type for the index: those from row `first` on, and the files of their vectors, relative to the home."""

    node_type: str
    first: int
    frozen: str
    bridge: str


@dataclass(frozen=True)
class Change:
    """What becomes of a home. graph_sha256: of the graph that it then holds; files: those in `staging` that take the places of the
    same names, relative to the home; gone: files that are deleted; added, removed (node type -> ids): nodes of the index."""

    graph_sha256: str
    files: tuple[str, ...]
    gone: tuple[str, ...] = ()
    added: tuple[NewRows, ...] = ()
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def silent(_stage: str, _done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass
class Staging:
    """The folder that a change is prepared in, emptied at the start; remembers the files' names, the manifest's last. Needs the home's
    lock, and no change that is pending. total: about how many files there will be, for the progress."""

    home: Path
    total: int
    progress: Progress
    files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.home / FOLDER / _STAGING
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        self.progress("writing files", min(len(self.files), self.total), self.total)
        self.files.append(name)
        place = self.folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskFullError(f"Cannot write {place}: {error.strerror or error}.", "Free some space and run the same again.") from error
        return place

    def array(self, name: str, array: NDArray[Any]) -> None:
        save_array(self._place(name), np.ascontiguousarray(array))

    def text(self, name: str, text: str) -> None:
        write_text(self._place(name), text)

    def graph(self, graph: KnowledgeGraph) -> None:
        save_graph(graph, self._place(f"graph/{GRAPH}").parent)
        self.files += [f"graph/{NODES}", f"graph/{EDGES}"]

    def manifest(self, manifest: Manifest) -> None:
        write_manifest(self._place(_MANIFEST).parent, manifest)


def discard(home: Path) -> None:
    """Throws away what was prepared, and the folder of the additions where nothing else is in it."""
    shutil.rmtree(home / FOLDER / _STAGING, ignore_errors=True)
    if (home / FOLDER).is_dir() and not any((home / FOLDER).iterdir()):
        (home / FOLDER).rmdir()


def is_pending(home: Path, manifest: Manifest) -> bool:
    """Whether a change was begun and is not finished: then the home's files may not belong together."""
    change = _read(home / FOLDER / _PENDING)
    return change is not None and change.graph_sha256 != manifest.graph_sha256


def carry_out(home: Path, change: Change, progress: Progress) -> None:
    """Puts a change that is prepared, the manifest among its files, into its place. Needs the home's lock."""
    progress("putting the change into its place", 0, 1)
    write_text(home / FOLDER / _PENDING, json.dumps(asdict(change), indent=1) + "\n")
    _finish(home, change, progress)


def recover(home: Path) -> bool:
    """Carries on a change that was broken off, or throws away one that had not begun. Needs the home's lock. Returns whether the home
    was changed."""
    change = _read(home / FOLDER / _PENDING)
    if change is None:
        discard(home)
        return False
    _finish(home, change, silent)
    return True


def _read(journal: Path) -> Change | None:
    try:
        data = json.loads(journal.read_text())
        return Change(
            data["graph_sha256"],
            tuple(data["files"]),
            tuple(data["gone"]),
            tuple(NewRows(**rows) for rows in data["added"]),
            {str(node_type): tuple(ids) for node_type, ids in data["removed"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HomeError(f"The file {journal} is damaged.", "Delete the folder and run biobridge-rag build again.") from error


def _finish(home: Path, change: Change, progress: Progress) -> None:
    steps: list[Callable[[], object]] = [partial(_move, home, name) for name in change.files if name != _MANIFEST]
    steps += [partial((home / name).unlink, missing_ok=True) for name in change.gone]
    manifest = read_manifest(home)
    if manifest is None:
        raise HomeError(f"The home {home} has no manifest.", "Delete the folder and run biobridge-rag build again.")
    index = NodeIndex(home / "chroma", manifest.index_url, manifest.index_prefix if manifest.index_url else "")
    try:
        for rows in change.added:
            steps += [partial(_add, index, home, rows, space) for space in (FROZEN, BRIDGE)]
        for node_type, ids in change.removed.items():
            steps += [partial(index.delete, NodeType(node_type), space, ids) for space in (FROZEN, BRIDGE)]
        steps += [partial(_move, home, _MANIFEST), partial((home / FOLDER / _PENDING).unlink, missing_ok=True), partial(discard, home)]
        for done, step in enumerate(steps):
            progress("putting the change into its place", done, len(steps))
            step()
        progress("putting the change into its place", len(steps), len(steps))
    finally:
        index.close()


def _move(home: Path, name: str) -> None:
    """A file that is not in the staging folder any more stands in its place already."""
    staged, place = home / FOLDER / _STAGING / name, home / name
    if staged.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(place)
    elif not place.exists():
        raise HomeError(f"The file {place} is missing.", "Delete the folder and run biobridge-rag build again.")


def _add(index: NodeIndex, home: Path, rows: NewRows, space: str) -> None:
    graph, node_type = load_saved_graph(home / "graph"), NodeType(rows.node_type)
    nodes = [graph.nodes[i] for i in graph.by_type[node_type][rows.first :]]
    vectors = np.load(home / (rows.frozen if space == FROZEN else rows.bridge), mmap_mode="r", allow_pickle=False)
    index.upsert(node_type, space, nodes, vectors[rows.first :])
