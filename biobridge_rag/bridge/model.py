"""The default bridge, a kernel network over frozen embeddings, and the reading and writing of checkpoints.

Knows: numpy, safetensors. Does not know: graphs, how the weights came about, chroma.

    phi(x)          = relu(X_t x)^3                  similarities to the anchors X_t of type t, cubed      (n_t,)
    project(x, t)   = phi(x) U_t                                                                            (hidden,)
    transform(x, r) = gamma_r project(x, head) + phi(x)[rows_r] A_r + b_r        relation-aware and additive  (hidden,)
    attention(s, r) = weights of a query of similarities s over the heads of r   see attention.py             (n_t,)

`transform` is what a vector store is searched with: it fits every tail of a head into `hidden` numbers. `attention` says the same
without that limit and ranks what was found.

A cubed similarity is a positive-definite kernel on unit vectors, so this is kernel regression with anchors: one layer of
attention whose keys are the training nodes. Every relation has its own values A_r and shift b_r; the inverse relation is a
relation of its own. Scores are cosines between `transform` of a head and `project` of a tail (BioBridge, Wang et al.,
ICLR 2024, arXiv 2310.03320, eq. 3 to 5, for the roles of the two functions).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from biobridge_rag.bridge.attention import attend, powered
from biobridge_rag.errors import HomeError, InputError
from biobridge_rag.types import Bridge, Indices, Relation, Vectors

POWER = 3
KEPT_BYTES = 1 << 26  # of the anchors of one relation, kept in memory once they have been gathered


def unit(x: Vectors) -> Vectors:
    """Rows scaled to length 1; a zero row stays zero."""
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.maximum(norm, 1e-12), dtype=np.float32)


def kernel(x: Vectors, anchors: Vectors) -> Vectors:
    """relu(x anchors^T)^3, (n, m) in [0, 1] for unit rows."""
    return powered(np.asarray(x, dtype=np.float32) @ np.asarray(anchors, dtype=np.float32).T, POWER)


@dataclass(frozen=True)
class RelationWeights:
    """rows (h,) positions among the head type's anchors; values (h, hidden); shift (hidden,); gamma a scalar;
    leverage (h,) the diagonal of (K + ridge I)^-1, which makes exact leave-one-out predictions cheap."""

    rows: Indices
    values: Vectors
    shift: Vectors
    gamma: float
    leverage: Vectors


class KernelBridge:
    """The default bridge. `anchors[t]` (n_t, d_t), `node_values[t]` (n_t, hidden), `relations[r]` RelationWeights."""

    kind = "default"
    version = 4

    def __init__(
        self,
        anchors: Mapping[str, Vectors],
        node_values: Mapping[str, Vectors],
        relations: Mapping[Relation, RelationWeights],
        ridge: float,
    ) -> None:
        self.anchors = dict(anchors)
        self.node_values = dict(node_values)
        self.relations = dict(relations)
        self.ridge = ridge
        self._own: dict[Relation, Vectors] = {}  # the anchors of relations with few; to gather them takes longer than the rest
        self.hidden_dim = next(iter(self.node_values.values())).shape[1]

    def _anchors(self, x: Vectors, node_type: str) -> Vectors:
        anchors = self.anchors.get(str(node_type))
        if anchors is None:
            raise InputError(f"The bridge knows no node type {node_type!r}.", f"It knows {', '.join(sorted(self.anchors))}.")
        if x.ndim != 2 or x.shape[1] != anchors.shape[1]:
            raise InputError(f"The bridge takes {node_type} embeddings of {anchors.shape[1]} numbers, not of shape {x.shape}.")
        return anchors

    def _weights(self, relation: Relation) -> RelationWeights:
        if relation not in self.relations:
            raise InputError(f"The bridge was not trained on the relation {relation}.")
        return self.relations[relation]

    def attention(self, similar: Vectors, heads: Indices, relation: Relation, among: Callable[[Indices], Vectors]) -> sparse.csr_matrix:
        """Weights of queries over the nodes of the head type, (n, n_t). similar: their similarities (n, n_t), -1 for a node that must
        not be used; heads: rows of the nodes that have an edge of the relation; among: as attention.attend's."""
        self._weights(relation)
        return attend(similar, heads, among, POWER, self.ridge)

    def project(self, x: Vectors, node_type: str) -> Vectors:
        """(n, d) float32 -> (n, hidden) float32, not normalised."""
        return kernel(x, self._anchors(x, node_type)) @ self.node_values[str(node_type)]

    def transform(self, x: Vectors, relation: Relation) -> Vectors:
        """Head embeddings (n, d) float32 -> tail space (n, hidden) float32, not normalised."""
        weights = self._weights(relation)
        anchors = self._anchors(x, relation.head_type)
        if not weights.gamma and 2 * len(weights.rows) < len(anchors):
            own = self._own.get(relation)
            if own is None:
                own = anchors[weights.rows]
                if own.nbytes <= KEPT_BYTES:
                    self._own[relation] = own
            return np.asarray(kernel(x, own) @ weights.values + weights.shift, dtype=np.float32)
        phi = kernel(x, anchors)
        out = phi[:, weights.rows] @ weights.values + weights.shift
        if weights.gamma:
            out = out + weights.gamma * (phi @ self.node_values[relation.head_type])
        return np.asarray(out, dtype=np.float32)

    def transform_left_out(self, rows: Indices, relation: Relation, x: Vectors | None = None) -> Vectors:
        """`transform` of graph nodes (positions among the anchors) as if each one's own edges had not been trained on:
        the exact leave-one-out solution of the ridge regression (Golub, Heath & Wahba 1979). -> (n, hidden) float32.
        x: (n, d) their embeddings, needed for nodes that came to the graph after training and are no anchors."""
        weights = self._weights(relation)
        anchors = self.anchors[relation.head_type]
        trained = rows < len(anchors)
        at = anchors[np.where(trained, rows, 0)]
        if x is not None:
            at = np.where(trained[:, None], at, x)
        elif not trained.all():
            raise InputError(f"The bridge was not trained with all of these {relation.head_type} nodes.", "Give their embeddings.")
        out = self.transform(np.asarray(at, dtype=np.float32), relation)
        for k, row in enumerate(rows):
            for i in np.flatnonzero(weights.rows == row):
                out[k] += (self.ridge - 1.0 / weights.leverage[i]) * weights.values[i]
        return out

    def tensors(self) -> dict[str, Vectors]:
        half = np.float16
        out: dict[str, Vectors] = {}
        for node_type, anchors in self.anchors.items():
            out[f"anchors.{node_type}"] = np.ascontiguousarray(anchors.astype(half))
            out[f"node_values.{node_type}"] = np.ascontiguousarray(self.node_values[node_type].astype(half))
        for relation, w in self.relations.items():
            out[f"rows.{relation.key}"] = np.ascontiguousarray(w.rows.astype(np.int32))
            out[f"values.{relation.key}"] = np.ascontiguousarray(w.values.astype(half))
            out[f"shift.{relation.key}"] = np.ascontiguousarray(w.shift.astype(np.float32))
            out[f"leverage.{relation.key}"] = np.ascontiguousarray(w.leverage.astype(np.float32))
        return out

    def config(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "version": self.version,
            "hidden_dim": self.hidden_dim,
            "ridge": self.ridge,
            "relations": [[r.name, r.head_type, r.tail_type, w.gamma] for r, w in sorted(self.relations.items())],
        }

    @classmethod
    def from_tensors(cls, config: Mapping[str, object], tensors: Mapping[str, Vectors]) -> KernelBridge:
        prefix = "anchors."
        types = [k[len(prefix) :] for k in tensors if k.startswith(prefix)]
        relations = {}
        for name, head, tail, gamma in config["relations"]:  # type: ignore[attr-defined]
            relation = Relation(name, head, tail)
            relations[relation] = RelationWeights(
                tensors[f"rows.{relation.key}"].astype(np.int64),
                tensors[f"values.{relation.key}"].astype(np.float32),
                tensors[f"shift.{relation.key}"],
                float(gamma),
                tensors[f"leverage.{relation.key}"],
            )
        return cls(
            {t: tensors[f"anchors.{t}"].astype(np.float32) for t in types},
            {t: tensors[f"node_values.{t}"].astype(np.float32) for t in types},
            relations,
            float(config["ridge"]),  # type: ignore[arg-type]
        )


def save_bridge(bridge: Bridge, directory: Path) -> str:
    """Writes `model.safetensors` and `config.json`, each beside its place and then renamed. Returns the weights' sha256."""
    from safetensors.numpy import save

    directory.mkdir(parents=True, exist_ok=True)
    data = save(bridge.tensors())  # type: ignore[attr-defined]
    digest = hashlib.sha256(data).hexdigest()
    config = json.dumps({**bridge.config(), "sha256": digest}, indent=1) + "\n"  # type: ignore[attr-defined]
    for name, content in (("model.safetensors", data), ("config.json", config.encode())):
        temporary = directory / (name + ".tmp")
        temporary.write_bytes(content)
        temporary.replace(directory / name)
    return digest


def load_bridge(directory: Path) -> tuple[Bridge, str]:
    """The bridge of a home and its sha256. Raises HomeError when a file is missing or was changed."""
    from safetensors.numpy import load

    try:
        config = dict(json.loads((directory / "config.json").read_text()))
        data = (directory / "model.safetensors").read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise HomeError(f"The bridge in {directory} is missing or damaged.", "Run biobridge-rag build again.") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != config.get("sha256"):
        raise HomeError(
            f"The bridge in {directory} does not match its config.json.", "Delete the folder and run biobridge-rag build again."
        )
    tensors = load(data)
    if config["kind"] == KernelBridge.kind:
        if config.get("version") != KernelBridge.version:
            raise HomeError(f"The bridge in {directory} was written by another version of biobridge-rag.", "Run biobridge-rag build again.")
        return KernelBridge.from_tensors(config, tensors), digest
    from biobridge_rag.bridge.official import OfficialBridge

    return OfficialBridge.from_tensors(config, tensors), digest
