"""Finds the weights of foundation models on this machine, and tells them apart by their content.

Knows: folders, the caches of fair-esm and of the Hugging Face hub. Does not know: models, networks: nothing is downloaded here.

A place that the user names comes first, then the library's own cache; where there is nothing, the error says what to fetch, with
which command, and where else it may be put.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from biobridge_rag.errors import InputError

PRECISIONS = ("fp32", "fp16", "bf16")
ESM_URL = "https://dl.fbaipublicfiles.com/fair-esm"
# One of these beside config.json makes a folder a model; safetensors first.
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Source:
    """weights: a file or folder that the user named: the model itself, or a folder that holds models by their names. device: "cpu" or
    "cuda". precision: one of PRECISIONS, or None: fp16 on CUDA, fp32 on a CPU. remote_code: whether code that comes with weights from
    a hub may be run."""

    weights: Path | None = None
    device: str = "cpu"
    precision: str | None = None
    remote_code: bool = False

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise InputError(f"There is no precision {self.precision!r}.", f"Valid names: {', '.join(PRECISIONS)}.")
        if self.weights is not None and not self.weights.exists():
            raise InputError(f"The weights {self.weights} are not there.", "Name a file or a folder that exists.")


ANYWHERE = Source()


def checkpoint_folder() -> Path:
    """Where fair-esm's own download puts its files."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def esm_urls(name: str) -> list[tuple[str, str]]:
    """(address, file name) of a fair-esm model and of its contact regression, as fair-esm downloads them."""
    regression = f"{name}-contact-regression.pt"
    return [(f"{ESM_URL}/models/{name}.pt", f"{name}.pt"), (f"{ESM_URL}/regression/{regression}", regression)]


def find_checkpoint(name: str, source: Source) -> Path | None:
    """The file NAME.pt: named by the user, in a folder that the user named, or in fair-esm's cache."""
    place = source.weights
    if place is not None and place.is_file():
        return place if place.suffix == ".pt" else None
    places = [checkpoint_folder()] if place is None else [place]
    return next((file for folder in places if (file := folder / f"{name}.pt").is_file()), None)


def is_model_folder(folder: Path) -> bool:
    """Whether the folder is laid out as `save_pretrained` writes it."""
    return (folder / "config.json").is_file() and any((folder / file).is_file() for file in WEIGHT_FILES)


def find_model_folder(name: str, source: Source) -> Path | None:
    """A folder in the layout of `save_pretrained`: `name` itself where it is a path, the folder that the user named, one within it that
    is called as the model is (ORGANISATION/MODEL, ORGANISATION--MODEL or MODEL), or the newest snapshot in the hub's cache."""
    if is_model_folder(Path(name)):
        return Path(name)
    if (place := source.weights) is not None:
        inside = [place, place / name, place / name.replace("/", "--"), place / name.rsplit("/", 1)[-1]]
        return next((folder for folder in inside if is_model_folder(folder)), None)
    return _cached(name)


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder is not None and is_model_folder(folder) else None


def missing(what: str, name: str, files: Sequence[str], source: Source) -> InputError:
    """The error for weights that are nowhere: what to fetch, and where it may be put."""
    searched = f" in {source.weights}" if source.weights is not None else " on this machine"
    return InputError(
        f"The weights of the {what} encoder {name!r} are not{searched}.",
        f"Run biobridge-rag fetch weights {name}, or fetch {' and '.join(files)} yourself and name the file or folder with --weights.",
    )


def weight_files(folder: Path) -> list[Path]:
    """The files of a model folder that its output depends on: weights, configuration, tokenizer, pooling."""
    kept = (".safetensors", ".bin", ".json", ".txt", ".model")
    single = (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file()
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.suffix in kept]
    return [f for f in files if not (single and f.suffix == ".bin")]


def fingerprint(files: Sequence[Path]) -> str:
    """16 hex digits of the files' contents, whatever they are called and wherever they lie. A process reads an unchanged file once."""
    digest = hashlib.sha256()
    for file in files:
        try:
            state = file.stat()
            digest.update(_digest(file.resolve(), state.st_size, state.st_mtime_ns, state.st_ctime_ns))
        except OSError as error:
            raise InputError(f"The weights {file} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()[:16]


@lru_cache(maxsize=256)
def _digest(file: Path, _size: int, _modified: int, _changed: int) -> bytes:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
