"""The BioBridge authors' architecture: a transformer over four tokens, and the reading of their checkpoint.

Knows: torch. Does not know: graphs, how it is trained, encoders, the store.

    project(x, t)   = W_t x                                                              no bias
    transform(x, r) = encoder([W x, head type, relation, tail type])[token 0] + W x      no positions

The embeddings of types and relations pass a LayerNorm; the encoder is torch's, post-norm, GELU, 12 heads, FF 2048. A relation
and its inverse share one embedding: the type tokens tell them apart (Wang et al., ICLR 2024, arXiv 2310.03320).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from biobridge_rag.errors import GraphFormatError, HomeError, InputError
from biobridge_rag.types import Relation, Vectors

HEADS, FEED_FORWARD, DROPOUT = 12, 2048, 0.1
_BLOCK = 1024
# Where each file lies in a checkout of the authors' repository, and what torch's wrappers put before the names of weights.
_IN_CHECKOUT = {"model_config.json": "checkpoints", "pytorch_model.bin": "checkpoints", "data_config.json": "data/BindData"}
_WRAPPERS = ("module.", "_orig_mod.")


class OfficialNetwork(nn.Module):
    """The network under the parameter names of the authors' checkpoint. proj_dim: node type id -> embedding width."""

    def __init__(
        self, n_node: int, n_relation: int, proj_dim: Mapping[int, int], hidden_dim: int, n_layer: int, n_head: int = HEADS
    ) -> None:
        super().__init__()
        self.node_type_embed = nn.Sequential(nn.Embedding(n_node, hidden_dim), nn.LayerNorm(hidden_dim))
        self.relation_type_embed = nn.Sequential(nn.Embedding(n_relation, hidden_dim), nn.LayerNorm(hidden_dim))
        self.proj_layer = nn.ModuleDict({str(i): nn.Linear(dim, hidden_dim, bias=False) for i, dim in proj_dim.items()})
        layer = nn.TransformerEncoderLayer(hidden_dim, n_head, FEED_FORWARD, DROPOUT, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, n_layer, enable_nested_tensor=False)

    def forward(self, projected: torch.Tensor, head_type: torch.Tensor, relation: torch.Tensor, tail_type: torch.Tensor) -> torch.Tensor:
        """projected heads (n, hidden), three id vectors (n,) -> (n, hidden)."""
        parts = [projected, self.node_type_embed(head_type), self.relation_type_embed(relation), self.node_type_embed(tail_type)]
        return self.encoder(torch.stack(parts, dim=1))[:, 0] + projected


class OfficialBridge:
    """The authors' bridge. node_types and relation_types: name -> id, as in their data_config.json."""

    kind = "official"

    def __init__(
        self, network: OfficialNetwork, node_types: Mapping[str, int], relation_types: Mapping[str, int], n_head: int = HEADS
    ) -> None:
        self.network = network.cpu().eval().requires_grad_(False)
        self.node_types, self.relation_types, self.n_head = dict(node_types), dict(relation_types), n_head
        self.hidden_dim = int(network.node_type_embed[0].embedding_dim)

    @property
    def dims(self) -> dict[str, int]:
        """Node type -> width of the embeddings that the bridge takes."""
        layers = self.network.proj_layer
        return {t: int(layers[str(i)].in_features) for t, i in self.node_types.items() if str(i) in layers}

    def project(self, x: Vectors, node_type: str) -> Vectors:
        """(n, d) float32 -> (n, hidden) float32, not normalised."""
        layer = self._layer(x, node_type)
        return self._blocks(x, layer)

    def transform(self, x: Vectors, relation: Relation) -> Vectors:
        """Head embeddings (n, d) float32 -> tail space (n, hidden) float32, not normalised."""
        layer = self._layer(x, relation.head_type)
        for node_type in (relation.head_type, relation.tail_type):
            if node_type not in self.node_types:
                raise InputError(f"The bridge knows no node type {node_type!r}.", f"It knows {', '.join(sorted(self.node_types))}.")
        if relation.name not in self.relation_types:
            raise InputError(f"The bridge knows no relation {relation.name!r}.", f"It knows {', '.join(sorted(self.relation_types))}.")
        ids = (self.node_types[relation.head_type], self.relation_types[relation.name], self.node_types[relation.tail_type])

        def carry(block: torch.Tensor) -> torch.Tensor:
            head, name, tail = (torch.full((len(block),), i) for i in ids)
            return self.network(layer(block), head, name, tail)

        return self._blocks(x, carry)

    def _layer(self, x: Vectors, node_type: str) -> Any:
        dims = self.dims
        if str(node_type) not in dims:
            raise InputError(
                f"The bridge takes no embeddings of {str(node_type)!r} nodes.", f"It takes those of {', '.join(sorted(dims))}."
            )
        width = dims[str(node_type)]
        if x.ndim != 2 or x.shape[1] != width:
            raise InputError(f"The bridge takes {node_type} embeddings of {width} numbers, not of shape {x.shape}.")
        return self.network.proj_layer[str(self.node_types[str(node_type)])]

    def _blocks(self, x: Vectors, function: Any) -> Vectors:
        out = np.empty((len(x), self.hidden_dim), dtype=np.float32)
        with torch.no_grad():
            for start in range(0, len(x), _BLOCK):
                block = torch.from_numpy(np.array(x[start : start + _BLOCK], dtype=np.float32))
                out[start : start + _BLOCK] = function(block).numpy()
        return out

    def tensors(self) -> dict[str, Vectors]:
        return {name: np.ascontiguousarray(value.numpy()) for name, value in self.network.state_dict().items()}

    def config(self) -> dict[str, object]:
        model = {
            "n_node": self.network.node_type_embed[0].num_embeddings,
            "n_relation": self.network.relation_type_embed[0].num_embeddings,
            "proj_dim": {i: int(layer.in_features) for i, layer in self.network.proj_layer.items()},
            "hidden_dim": self.hidden_dim,
            "n_layer": len(self.network.encoder.layers),
            "n_head": self.n_head,
        }
        return {
            "kind": self.kind, "version": 1, "hidden_dim": self.hidden_dim, "model": model,
            "node_type": self.node_types, "relation_type": self.relation_types,
        }  # fmt: skip

    @classmethod
    def from_tensors(cls, config: Mapping[str, object], tensors: Mapping[str, Vectors]) -> OfficialBridge:
        """What `config` and `tensors` gave. Raises HomeError where the two do not fit."""
        try:
            return _assemble(config["model"], config, {name: torch.from_numpy(np.array(x)) for name, x in tensors.items()})
        except _Misfit as error:
            raise HomeError(f"The saved bridge is damaged: {error}.", "Run biobridge-rag build again.") from error
        except (KeyError, TypeError) as error:
            raise HomeError("The saved bridge is damaged: its config.json lacks a value.", "Run biobridge-rag build again.") from error


class _Misfit(ValueError):
    """Settings and weights that do not fit each other, in half a sentence."""


def _assemble(model: Any, data: Any, state: Any) -> OfficialBridge:
    """model: model_config.json; data: data_config.json; state: the weights. Raises _Misfit."""
    try:
        node_types = {str(name): int(i) for name, i in data["node_type"].items()}
        relation_types = {str(name): int(i) for name, i in data["relation_type"].items()}
        proj_dim = {int(i): int(dim) for i, dim in model["proj_dim"].items()}
        sizes = {key: int(model[key]) for key in ("n_node", "n_relation", "hidden_dim", "n_layer")}
        stated = {str(name): int(dim) for name, dim in data.get("emb_dim", {}).items()}
    except KeyError as error:
        raise _Misfit(f"the configuration lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _Misfit("the configuration has a value of the wrong kind") from error
    n_head = model.get("n_head", HEADS)
    if not isinstance(n_head, int) or n_head < 1 or min(sizes.values()) < 1 or sizes["hidden_dim"] % n_head:
        raise _Misfit(f"a hidden_dim of {sizes['hidden_dim']} in {sizes['n_layer']} layers with {n_head} heads makes no network")
    for what, ids, n in (("node_type", node_types, sizes["n_node"]), ("relation_type", relation_types, sizes["n_relation"])):
        if len(set(ids.values())) < len(ids) or not set(ids.values()) <= set(range(n)):
            raise _Misfit(f"{what} must give every name an id of its own below {n}")
    if any(proj_dim.get(node_types.get(name, int(name) if name.isdecimal() else -1)) != dim for name, dim in stated.items()):
        raise _Misfit("emb_dim and proj_dim differ")
    if not isinstance(state, Mapping) or not all(isinstance(k, str) and _is_dense(t) for k, t in state.items()):
        raise _Misfit("the weights are no table of floating-point tensors")
    state = _unwrapped(state)
    with torch.device("meta"):
        network = OfficialNetwork(sizes["n_node"], sizes["n_relation"], proj_dim, sizes["hidden_dim"], sizes["n_layer"], n_head)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise _Misfit(f"the weights {name} are {_shape(found.get(name))} where the configuration wants {_shape(wanted.get(name))}")
    if bad := next((name for name, value in state.items() if not torch.isfinite(value).all()), ""):
        raise _Misfit(f"the weights {bad} hold numbers that are not finite")
    network.load_state_dict({name: value.detach().to("cpu", torch.float32) for name, value in state.items()}, strict=True, assign=True)
    return OfficialBridge(network, node_types, relation_types, n_head)


def _is_dense(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and value.is_floating_point()


def _unwrapped(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under their own names: DataParallel and torch.compile put a prefix before all of them, maybe both."""
    out = dict(state)
    while prefix := next((p for p in _WRAPPERS if out and all(name.startswith(p) for name in out)), ""):
        out = {name.removeprefix(prefix): value for name, value in out.items()}
    return out


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))


def _released(folder: Path, name: str) -> Path:
    """The file in the folder itself or, where it is none of its own, in its place in a checkout of the authors' repository."""
    inner = folder / _IN_CHECKOUT[name] / name
    return inner if inner.is_file() and not (folder / name).is_file() else folder / name


def load_official(directory: Path | str) -> OfficialBridge:
    """The bridge of a folder with the authors' model_config.json, data_config.json and pytorch_model.bin, or of a checkout of
    their repository, which keeps the three in checkpoints/ and data/BindData/.

    Raises GraphFormatError, in one line, where a file is missing, damaged or does not fit the others.
    """
    folder = Path(directory)
    help = "It takes model_config.json, data_config.json and pytorch_model.bin as the BioBridge authors released them."
    configs = []
    for name in ("model_config.json", "data_config.json"):
        try:
            configs.append(json.loads(_released(folder, name).read_text(encoding="utf-8")))
        except OSError as error:
            raise GraphFormatError(f"The folder {folder} has no {name} that can be read.", help) from error
        except ValueError as error:
            raise GraphFormatError(f"The file {folder / name} is no JSON.", help) from error
        if not isinstance(configs[-1], dict):
            raise GraphFormatError(f"The file {folder / name} holds no JSON object.", help)
    weights = _released(folder, "pytorch_model.bin")
    if not weights.is_file():
        raise GraphFormatError(f"The folder {folder} has no pytorch_model.bin.", help)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise GraphFormatError(f"The file {weights} is damaged, or a Git LFS pointer to the weights.", help) from error
    try:
        return _assemble(configs[0], configs[1], state)
    except _Misfit as error:
        raise GraphFormatError(f"The BioBridge checkpoint in {folder} does not fit together: {error}.", help) from error
