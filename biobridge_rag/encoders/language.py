"""Text encoders: BiomedBERT (PubMedBERT), SapBERT, BioLORD, and any other transformer or sentence-transformers folder.

Knows: which models there are, how their authors pool them, where their folders are looked for. Does not know: networks, graphs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from biobridge_rag.encoders.folders import Layout, read_layout
from biobridge_rag.encoders.transformer import TransformerEncoder
from biobridge_rag.encoders.weights import Source, find_model_folder, is_model_folder, missing
from biobridge_rag.errors import InputError
from biobridge_rag.types import Encoder, Modality

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Published:
    """A model as it was published. hubs: its names on the Hugging Face hub, the current one first. pooling: one of folders.POOLINGS, as
    its authors use it. window: most tokens that it reads; the folder itself may say less."""

    label: str
    hubs: tuple[str, ...]
    pooling: str = "mean"
    window: int = 512


_MICROSOFT = "microsoft/BiomedNLP-{}-base-uncased-abstract-fulltext"
# Gu et al. 2021, arXiv 2007.15779; the mean over the tokens is what BioBridge takes (Wang et al. 2024, arXiv 2310.03320).
_BIOMEDBERT = Published("biomedbert", (_MICROSOFT.format("BiomedBERT"), _MICROSOFT.format("PubMedBERT")))
TEXT_NAMES: dict[str, Published] = {
    "biomedbert": _BIOMEDBERT,
    "pubmedbert": _BIOMEDBERT,
    # Liu et al. 2021, arXiv 2010.11784: the first token. It was trained on names of up to 25 tokens; definitions are read on to 512.
    "sapbert": Published("sapbert", ("cambridgeltl/SapBERT-from-PubMedBERT-fulltext",), "cls"),
    # Remy et al. 2024, arXiv 2311.16075: a sentence-transformers folder, whose own files are followed.
    "biolord": Published("biolord", ("FremyCompany/BioLORD-2023",)),
}


def resolve(what: str, name: str, names: Mapping[str, Published], others: Sequence[str], pooling: str = "mean") -> Published:
    """The model of that short name or name on the hub; or one that is not listed, pooled by `pooling`, where `name` is a folder or
    reads ORGANISATION/MODEL. Raises InputError listing the valid names and `others`."""
    for short, model in names.items():
        if name == short or name in model.hubs:
            return model
    path = Path(name)
    if path.is_dir():
        if not is_model_folder(path):
            raise InputError(f"The folder {name} holds no model.", "A model's folder holds config.json and model.safetensors.")
        return Published(path.resolve().name, (name,), pooling)
    if _HUB.fullmatch(name):
        return Published(name.replace("/", "--"), (name,), pooling)
    valid = ", ".join([*others, *names])
    raise InputError(f"There is no {what} encoder named {name!r}.", f"Valid names: {valid}, a model's folder, or ORGANISATION/MODEL.")


def find(what: str, name: str, model: Published, source: Source) -> Layout:
    """Where the model lies, and what its folder says. Raises InputError where it is nowhere or damaged."""
    for known in dict.fromkeys((name, *model.hubs, model.label)):
        if (folder := find_model_folder(known, source)) is not None:
            return read_layout(folder, model.pooling, model.window)
    raise missing(what, name, [f"https://huggingface.co/{model.hubs[0]}"], source)


class TextEncoder(TransformerEncoder):
    """`encode`: n texts -> (n, dim). Texts with more tokens than the model reads are cut there; an empty one is refused."""

    modality = Modality.TEXT

    def __init__(self, name: str, model: Published, source: Source) -> None:
        super().__init__(model.label, source)
        self._name, self._model = name, model

    @cached_property
    def layout(self) -> Layout:
        return find("text", self._name, self._model, self._source)

    def _refusal(self, value: str) -> InputError | None:
        return None if value.strip() else InputError("A text to encode is empty.")


def make_text(name: str, source: Source, others: Sequence[str] = ()) -> Encoder:
    """The text encoder of a short name, a name on the hub, or a folder. Raises InputError listing the valid names."""
    return TextEncoder(name, resolve("text", name, TEXT_NAMES, others), source)
