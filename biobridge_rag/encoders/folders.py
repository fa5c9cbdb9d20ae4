"""What the folder of a transformer says of itself: width, window, pooling, whether it needs code of its own.

Knows: the JSON files that transformers' `save_pretrained` and sentence-transformers write. Does not know: networks, tokens, values.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biobridge_rag.errors import InputError

# How the states of the last layer become one vector. "inner" is the mean without the tokens that the tokenizer puts around a value.
POOLINGS = ("mean", "cls", "max", "inner")
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
_POSITIONS = ("max_position_embeddings", "n_positions")
# These number their positions from the one after the padding token's.
_SHIFTED = ("camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_DEFAULT_WINDOW = 512
_SWITCH = re.compile(r"pooling_mode_(\w+?)(?:_tokens?)?")
_HELP = "Fetch the model's folder again, whole, or name another."


@dataclass(frozen=True)
class Layout:
    """A model's folder. kind: transformers' `model_type`. dim: numbers of a vector. window: most tokens of a value, those around it
    included. lower: values are made lower-case first. code: the folder asks for code of its own ("auto_map")."""

    folder: Path
    kind: str
    dim: int
    window: int
    pooling: str
    lower: bool = False
    code: bool = False


def read_layout(folder: Path, pooling: str = "mean", window: int = _DEFAULT_WINDOW) -> Layout:
    """`pooling` and `window` hold where the folder is none of sentence-transformers, whose own files are followed; no window is longer
    than the positions that the model has. Raises InputError for a folder that is damaged or of a model that reads no tokens."""
    config = _read(folder / "config.json")
    kind, dim = str(config.get("model_type", "")), next((config[key] for key in _WIDTHS if key in config), None)
    if not isinstance(dim, int) or not isinstance(config.get("vocab_size"), int) or config.get("is_encoder_decoder"):
        raise InputError(f"The model in {folder} ({kind or 'of no stated kind'}) is no encoder of tokens.", "Name a folder of one.")
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise InputError(f"The folder {folder} holds no tokenizer ({', '.join(_TOKENIZERS)}).", _HELP)
    stated = _read(folder / "tokenizer_config.json", needed=False).get("model_max_length")
    lower = False
    if (folder / "modules.json").is_file():
        pooling = _pooling(folder)
        sentence = _read(folder / "sentence_bert_config.json", needed=False)
        lower, stated = bool(sentence.get("do_lower_case")), sentence.get("max_seq_length") or stated
        window = stated if isinstance(stated, int) else window
    bounds = [window, stated, _positions(config, kind)]
    shortest = min(int(bound) for bound in bounds if isinstance(bound, int | float) and bound > 0)
    return Layout(folder, kind, dim, shortest, pooling, lower, "auto_map" in config)


def _positions(config: dict[str, Any], kind: str) -> int | None:
    most = next((config[key] for key in _POSITIONS if isinstance(config.get(key), int)), None)
    return most - int(config.get("pad_token_id", 1) or 0) - 1 if most is not None and kind in _SHIFTED else most


def _pooling(folder: Path) -> str:
    """How a folder of sentence-transformers pools. Its Normalize module changes nothing here: all rows are of unit length."""
    pooling = ""
    modules = _read(folder / "modules.json", kind=list)
    if _read(folder / "config_sentence_transformers.json", needed=False).get("default_prompt_name"):
        raise InputError(f"The model in {folder} puts a prompt before each text, which is not supported.", "Name another model.")
    for module in modules:
        name, path = str(module.get("type", "")).rsplit(".", 1)[-1], str(module.get("path", ""))
        if name == "Pooling":
            pooling = _pooling_name(_read(folder / path / "config.json"), folder)
        elif name not in ("Transformer", "Normalize") or (name == "Transformer" and path):
            raise InputError(
                f"The model in {folder} has a module {name!r}{f' in {path}' if path else ''}, which is not supported.",
                "Supported are Transformer at the top of the folder, Pooling and Normalize.",
            )
    if not pooling:
        raise InputError(f"The model in {folder} has no Pooling module.", "Name another model.")
    return pooling


def _pooling_name(config: dict[str, Any], folder: Path) -> str:
    """Older files have a switch for each kind ("pooling_mode_mean_tokens": true), newer ones name the kinds ("pooling_mode": "mean")."""
    named = config.get("pooling_mode")
    if named is None:
        named = [match[1] for key, on in config.items() if on is True and (match := _SWITCH.fullmatch(key))]
    names = [named] if isinstance(named, str) else list(named)
    if len(names) != 1 or names[0] not in ("mean", "cls", "max"):
        raise InputError(
            f"The model in {folder} pools by {' + '.join(names) or 'nothing'}, which is not supported.", "Supported: mean, cls, max."
        )
    return str(names[0])


def _read(file: Path, needed: bool = True, kind: type = dict) -> Any:
    if not needed and not file.is_file():
        return kind()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The file {file} cannot be read as JSON: {error}.", _HELP) from error
    if not isinstance(content, kind):
        raise InputError(f"The file {file} is not of the form that was expected.", _HELP)
    return content
