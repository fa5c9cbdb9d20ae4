"""Runs a transformer of transformers over values: tokens, batches, pooling, vectors. The base of the text and molecule encoders.

Knows: transformers and torch. Does not know: which models there are, what the values mean; nothing is downloaded here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.encoders.batching import batches, gathered
from biobridge_rag.encoders.folders import Layout
from biobridge_rag.encoders.weights import Source, fingerprint, weight_files
from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.types import Indices, Modality, Vectors

_CHUNK = 16_384  # values that are tokenised, and sorted by length, at a time
_BUDGET = {"cpu": (4_096, 64), "cuda": (65_536, 2_048)}  # padded tokens, and values, of a batch
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def precision(source: Source) -> str:
    """ "fp16" on CUDA and "fp32" on a CPU, where none is named."""
    return source.precision or ("fp16" if source.device == "cuda" else "fp32")


@dataclass(frozen=True)
class Network:
    """A model in memory. rows: of its table of token embeddings. ends: ids of the tokens that are put around a value."""

    tokenizer: Any
    model: Any
    rows: int
    padding: int
    ends: tuple[int, ...]


def load(layout: Layout, source: Source) -> Network:
    """Reads tokenizer and weights from the folder; weights are read as numbers only, never as a pickle with code in it. Raises
    InputError where they are damaged, of another model, need code that may not be run, or the device is not there."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel, AutoTokenizer
    from transformers.utils import logging

    if source.device == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device.", "Use the device cpu.")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    folder, foreign = layout.folder, layout.kind not in CONFIG_MAPPING
    if foreign and not layout.code:
        raise InputError(f"The installed transformers does not know the kind {layout.kind!r} of the model in {folder}.")
    if foreign and not source.remote_code:
        raise InputError(
            f"The model in {folder} ({layout.kind}) needs the Python code that comes with it, which is not run unless allowed.",
            "Read the code in that folder, then allow remote code; or name another model.",
        )
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": foreign}
    chosen = {"deterministic_eval": True} if layout.kind == "molformer" else {}  # its attention draws random features otherwise
    dtype = getattr(torch, _DTYPES[precision(source)])
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
        model, info = AutoModel.from_pretrained(str(folder), dtype=dtype, output_loading_info=True, **options, **chosen)
    except Exception as error:  # whatever the library, or the code that came with the weights, makes of a bad folder
        raise unreadable(folder, error, foreign) from error
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key.split("."))
    if missing:
        raise InputError(
            f"The weights in {folder} are not those of its config.json ({layout.kind}): {len(missing)} tables are missing ({missing[0]}).",
            "Fetch the model's folder again, whole.",
        )
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    rows, padding = model.get_input_embeddings().num_embeddings, tokenizer.pad_token_id or 0
    return Network(tokenizer, model.eval().to(source.device), rows, padding, tuple(i for i in ends if i is not None))


def unreadable(folder: Path, error: Exception, foreign: bool) -> InputError:
    """What the library says of a model folder that it cannot load, in one line. foreign: whether the folder's own code was run."""
    said = str(error).strip()
    if "Weights only load failed" in said:  # the library's own line advises to run the file
        return InputError(
            f"The weights in {folder} hold more than numbers, or are cut off, and are not read.", "Fetch them again as model.safetensors."
        )
    if "ignore_mismatched_sizes" in said:
        return InputError(f"The weights in {folder} have other sizes than its config.json says.", "Fetch the model's folder again, whole.")
    first = said.splitlines()[0] if said else type(error).__name__
    if foreign:
        return InputError(
            f"The code that comes with the model in {folder} fails under the installed transformers: {first}",
            "Name a model that transformers itself knows.",
        )
    return InputError(f"The model in {folder} cannot be loaded: {first}", "Fetch the model's folder again, whole.")


class TransformerEncoder(ABC):
    """Values to unit vectors by the pooled last layer of a transformer. Constructing reads nothing; `id` and `dim` read the folder;
    the first `encode` loads the model. `id`: label, pooling, window, precision where it is not fp32, fingerprint of the files."""

    modality: Modality
    centred = True  # the vectors of such models all point much the same way
    cuts = True  # whether a value longer than the window is cut there; otherwise it is refused

    def __init__(self, label: str, source: Source) -> None:
        self._label, self._source = label, source

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Raises InputError where the weights are nowhere or the folder is damaged."""

    @cached_property
    def id(self) -> str:
        layout, kind = self.layout, precision(self._source)
        files = weight_files(layout.folder) + (sorted(layout.folder.glob("*.py")) if self._source.remote_code else [])
        parts = [self._label, layout.pooling, str(layout.window), *([kind] if kind != "fp32" else []), fingerprint(files)]
        return "-".join(parts)

    @cached_property
    def dim(self) -> int:
        return self.layout.dim

    @cached_property
    def _network(self) -> Network:
        return load(self.layout, self._source)

    def unusable(self, values: Sequence[str]) -> dict[int, str]:
        """What `encode` would refuse: place in `values` -> the reason, one sentence."""
        found: dict[int, str] = {}
        for start in range(0, len(values), _CHUNK):
            refused = self._tokens(values[start : start + _CHUNK])[1]
            found.update({start + i: str(error) for i, error in refused.items()})
        return found

    def encode(self, values: Sequence[str]) -> Vectors:
        """n values -> (n, dim) float32 of unit length, in their order. Raises as `encode_batches`."""
        return gathered(len(values), self.dim, self.encode_batches(values))

    def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]:
        """Places in `values` and their unit vectors, as batches finish; memory does not grow with their number. Raises InputError for
        the first value that cannot be used (see `unusable`), before any of its chunk is encoded."""
        budget, most = _BUDGET[self._source.device]
        for start in range(0, len(values), _CHUNK):
            tokens, refused = self._tokens(values[start : start + _CHUNK])
            if refused:
                raise refused[min(refused)]
            for rows in batches([len(t) for t in tokens], budget, most):
                yield rows + start, self._vectors([tokens[i] for i in rows])

    @abstractmethod
    def _refusal(self, value: str) -> InputError | None:
        """Why a value cannot be used, apart from its tokens."""

    def _too_long(self, value: str, length: int) -> InputError:
        """The error for a value of `length` tokens, or of none."""
        return InputError(f"The value {value[:60]!r} has {length:,} tokens; the model reads 1 to {self.layout.window:,}.")

    def _tokens(self, values: Sequence[str]) -> tuple[list[list[int]], dict[int, InputError]]:
        """Token ids of each value, none for those refused, and the reasons."""
        refused = {i: error for i, value in enumerate(values) if (error := self._refusal(value)) is not None}
        used = [i for i in range(len(values)) if i not in refused]
        tokens: list[list[int]] = [[] for _ in values]
        if not used:
            return tokens, refused
        layout, network = self.layout, self._network
        given = [values[i].lower() if layout.lower else values[i] for i in used]
        cut = {"truncation": True, "max_length": layout.window} if self.cuts else {"truncation": False}
        found = network.tokenizer(given, padding=False, return_attention_mask=False, return_token_type_ids=False, **cut)["input_ids"]
        for i, ids in zip(used, found, strict=True):
            inner = len(ids) if layout.pooling != "inner" else sum(token not in network.ends for token in ids)
            if not inner or len(ids) > layout.window:
                refused[i] = self._too_long(values[i], len(ids))
            else:
                tokens[i] = ids
        return tokens, refused

    def _vectors(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        import torch

        network, device = self._network, self._source.device
        ids = np.full((len(tokens), max(map(len, tokens))), network.padding, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.int64)
        for row, one in enumerate(tokens):
            ids[row, : len(one)], mask[row, : len(one)] = one, 1
        if ids.max() >= network.rows:
            raise InputError(f"The tokenizer in {self.layout.folder} is that of another model.", "Fetch the model's folder again, whole.")
        pooled = mask * ~np.isin(ids, network.ends) if self.layout.pooling == "inner" else mask
        try:
            with torch.inference_mode():
                given = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
                states = network.model(**given).last_hidden_state.float()
                weights = torch.from_numpy(pooled).to(device).unsqueeze(-1).to(states.dtype)
                out = torch.nn.functional.normalize(_pool(states, weights, self.layout.pooling), dim=1).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise BiobridgeError("The GPU's memory is too small for the encoder.", "Use fp16, or the device cpu.") from error
        if not np.allclose(np.linalg.norm(out, axis=1), 1.0, atol=1e-3):
            raise BiobridgeError(
                f"The encoder {self._label} gives numbers that are not finite in {precision(self._source)}.", "Use fp32 or bf16."
            )
        return np.asarray(out, dtype=np.float32)


def _pool(states: Any, weights: Any, pooling: str) -> Any:
    """states (n, tokens, dim) and weights (n, tokens, 1) -> (n, dim)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(weights == 0, float("-inf")).amax(1)
    return (states * weights).sum(1) / weights.sum(1)
