"""Protein language models: ESM-2 in its six sizes (Lin et al. 2023, Science 379:1123) and ESM-1b (Rives et al. 2021, PNAS
118:e2016239118), a sequence's embedding being the mean over its residues of the last layer, scaled to length 1.

Knows: sequences, windows, batches. Does not know: the formats of the weights, caches, graphs.

The models were trained on 1,022 residues at most. A longer sequence is read in windows of 1,022, a new one every 511, the last one
flush with the end; a residue in several windows gets the mean of its states, and the embedding is the mean over residues, as ever.
Windows of all sequences share batches, the longest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.encoders.batching import batches, gathered
from biobridge_rag.encoders.esm_loading import CLS, EOS, FIRST_RESIDUE, PAD, RESIDUE_TOKENS, Shape, load_model
from biobridge_rag.encoders.sequences import is_residues
from biobridge_rag.encoders.weights import (
    Source,
    checkpoint_folder,
    esm_urls,
    find_checkpoint,
    find_model_folder,
    fingerprint,
    missing,
    weight_files,
)
from biobridge_rag.errors import BiobridgeError, InputError, SequenceError
from biobridge_rag.types import Indices, Modality, Vectors

WINDOW, STRIDE = 1022, 511
_SHAPES = {
    "esm2_t6_8M_UR50D": Shape("ESM-2", 6, 320, 20),
    "esm2_t12_35M_UR50D": Shape("ESM-2", 12, 480, 20),
    "esm2_t30_150M_UR50D": Shape("ESM-2", 30, 640, 20),
    "esm2_t33_650M_UR50D": Shape("ESM-2", 33, 1280, 20),
    "esm2_t36_3B_UR50D": Shape("ESM-2", 36, 2560, 40),
    "esm2_t48_15B_UR50D": Shape("ESM-2", 48, 5120, 40),
    "esm1b_t33_650M_UR50S": Shape("ESM-1b", 33, 1280, 20),
}
ESM_NAMES = tuple(_SHAPES)
# Padded tokens of a batch. A CPU is as fast with few, and padding costs it time; a GPU takes what its free memory allows.
_CPU_TOKENS, _GPU_TOKENS = 1024, 65_536
_ORGANISATION = "facebook/"
_TOKEN = np.full(128, PAD, dtype=np.int64)
_TOKEN[np.frombuffer(RESIDUE_TOKENS.encode(), dtype=np.uint8)] = FIRST_RESIDUE + np.arange(len(RESIDUE_TOKENS))


def make_esm(name: str, source: Source, others: Sequence[str] = ()) -> EsmEncoder:
    """name: one of ESM_NAMES, with or without "facebook/", or the path of a checkpoint (.pt) or model folder. Raises InputError for
    any other, which lists the valid names and `others`, and for fp16 on a CPU. The weights are looked for when they are needed."""
    known, path = name.removeprefix(_ORGANISATION), Path(name)
    if known in _SHAPES:
        return EsmEncoder(known, source)
    if path.is_dir() or (path.is_file() and path.suffix == ".pt"):
        return EsmEncoder(path.stem if path.is_file() else path.resolve().name, replace(source, weights=path))
    raise InputError(
        f"There is no protein encoder named {name!r}.",
        f"Valid names: {', '.join([*others, *ESM_NAMES])}, or a path of a .pt file or model folder.",
    )


def window_starts(length: int) -> range | list[int]:
    """Where the windows of a sequence of `length` residues start."""
    if length <= WINDOW:
        return [0]
    return [*range(0, length - WINDOW, STRIDE), length - WINDOW]


class EsmEncoder:
    """`encode`: n sequences -> (n, dim) float32 of unit length. Weights are found, read and named in `id` on first use: a checkpoint
    of fair-esm where there is one, else a folder of transformers. Both hold the same numbers, in files that differ."""

    modality = Modality.PROTEIN
    centred = True

    def __init__(self, name: str, source: Source) -> None:
        self._name, self._source, self._shape = name, source, _SHAPES.get(name)
        self._precision = source.precision or ("fp32" if source.device == "cpu" else "fp16")
        if self._precision == "fp16" and source.device == "cpu":
            raise InputError("The precision fp16 is for CUDA devices.", "On a CPU, choose fp32 or bf16.")

    @cached_property
    def id(self) -> str:
        """Raises InputError where there are no weights, as `encode` does."""
        precision = "" if self._precision == "fp32" else f"-{self._precision}"
        files = weight_files(self._place) if self._place.is_dir() else [self._place]
        return f"{self._name}-mean-w{WINDOW}-s{STRIDE}{precision}-{fingerprint(files)}"

    @cached_property
    def dim(self) -> int:
        return self._shape.dim if self._shape else int(self._model.config.hidden_size)

    def encode(self, values: Sequence[str]) -> Vectors:
        """Raises SequenceError for a value that is empty or holds letters that are no residues, InputError where the weights are
        missing or cannot be used."""
        return gathered(len(values), self.dim, self.encode_batches(values))

    def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]:
        """(places in `values` (k,), their vectors (k, dim)) as batches finish, each place once, long sequences first. Errors: see
        `encode`; bad values are found before the first batch."""
        for i, value in enumerate(values):
            if not is_residues(value):
                raise SequenceError(f"Protein sequence {i + 1} of {len(values)} is empty or holds letters that are no amino-acid codes.")
        windows = [(i, start) for i, value in enumerate(values) for start in window_starts(len(value))]
        lengths = [min(len(values[i]), WINDOW) + 2 for i, _ in windows]
        left = np.bincount([i for i, _ in windows], minlength=len(values))
        sums: dict[int, Vectors] = {}
        for batch in batches(lengths, self._budget() if windows else 1):
            members = [windows[j] for j in batch]
            done = []
            for (i, _), part in zip(members, self._weighted_sums(values, members), strict=True):
                sums[i] = sums[i] + part if i in sums else part
                left[i] -= 1
                if not left[i]:
                    done.append(i)
            if done:
                yield np.asarray(done, dtype=np.int64), self._units(np.stack([sums.pop(i) for i in done]))

    def _weighted_sums(self, values: Sequence[str], members: Sequence[tuple[int, int]]) -> Vectors:
        """Each window's part (k, dim) of the mean over its sequence's residues."""
        import torch

        width = max(min(len(values[i]), WINDOW) for i, _ in members) + 2
        tokens = np.full((len(members), width), PAD, dtype=np.int64)
        weights = np.zeros((len(members), width), dtype=np.float32)
        for row, (i, start) in enumerate(members):
            part = np.frombuffer(values[i][start : start + WINDOW].encode("ascii"), dtype=np.uint8)
            tokens[row, 0], tokens[row, len(part) + 1] = CLS, EOS
            tokens[row, 1 : len(part) + 1] = _TOKEN[part]
            weights[row, 1 : len(part) + 1] = residue_weights(len(values[i]))[start : start + WINDOW]
        device = self._source.device
        ids, scales = torch.from_numpy(tokens).to(device), torch.from_numpy(weights).to(device)
        try:
            with torch.inference_mode():
                states = self._model(ids, attention_mask=(ids != PAD).long()).last_hidden_state
                return np.asarray(torch.bmm(scales[:, None], states.float())[:, 0].cpu().numpy())
        except torch.OutOfMemoryError as error:
            raise BiobridgeError(
                f"The memory of the device {device} ran out in a batch of {tokens.size:,} tokens.",
                "Choose a smaller model, or --device cpu.",
            ) from error

    def _units(self, means: Vectors) -> Vectors:
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and norms.all()):
            raise BiobridgeError(f"The model {self._name} gave no finite numbers in {self._precision}.", "Choose bf16 or fp32.")
        return np.asarray(means / norms, dtype=np.float32)

    def _budget(self) -> int:
        if self._source.device == "cpu":
            return _CPU_TOKENS
        import torch

        config, size = self._model.config, 4 if self._precision == "fp32" else 2
        token = 4 * size * (config.intermediate_size + 4 * config.hidden_size)
        return max(min(int(torch.cuda.mem_get_info()[0] // 2 // token), _GPU_TOKENS), WINDOW + 2)

    @cached_property
    def _place(self) -> Path:
        found = find_checkpoint(self._name, self._source) or find_model_folder(_ORGANISATION + self._name, self._source)
        if found is None and self._shape is None:
            raise InputError(
                f"{self._source.weights} holds no ESM model.", "Name a checkpoint (.pt), or a folder as save_pretrained writes it."
            )
        if found is None:
            url, file = esm_urls(self._name)[0]
            raise missing("protein", self._name, [f"{url} (as {checkpoint_folder() / file})"], self._source)
        return found

    @cached_property
    def _model(self) -> Any:
        return load_model(self._place, self._shape, WINDOW, self._precision, self._source.device)


def residue_weights(length: int) -> Vectors:
    """(length,): what a residue's state in one window weighs in the mean over residues and over the windows that hold it."""
    count = np.zeros(length, dtype=np.float32)
    for start in window_starts(length):
        count[start : start + WINDOW] += 1.0
    return np.asarray(1.0 / (count * length), dtype=np.float32)
