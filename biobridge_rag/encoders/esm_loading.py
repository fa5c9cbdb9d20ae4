"""Loads ESM-2 and ESM-1b from fair-esm's checkpoints and from folders of transformers, both as transformers' EsmModel.

Knows: both formats. Does not know: where weights lie, sequences, batches.

fair-esm's own loader checks a checkpoint (on tensors without storage); its weights then run in EsmModel, whose attention needs no
table of all pairs of residues: the same numbers in less time and memory. Nothing in a file is run: checkpoints are read with
weights_only.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from biobridge_rag.encoders.weights import is_model_folder
from biobridge_rag.errors import InputError

# Tokens of both models, by their number: `Alphabet.from_architecture("ESM-1b")` in fair-esm, vocab.txt in a model folder.
RESIDUE_TOKENS = "LAGVSERTIDPKQNFYMHWCXBUZO"
TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *RESIDUE_TOKENS, ".", "-", "<null_1>", "<mask>")
CLS, PAD, EOS, FIRST_RESIDUE = 0, 1, 2, 4
_HELP = "Fetch the file again from where fair-esm or the Hugging Face hub has it."
# Parts that embeddings do not need, and numbers that EsmModel can compute.
_UNUSED = re.compile(r"(^|\.)(lm_head|contact_head|pooler|position_ids|position_embeddings|rotary_embeddings)\b")
_NEEDED = re.compile(r"^(?!contact_head|.*position_ids|.*inv_freq)")
_RENAMED = {
    r"^(encoder\.)?(sentence_encoder\.)?": "",
    r"^embed_tokens\.": "embeddings.word_embeddings.",
    r"^embed_positions\.": "embeddings.position_embeddings.",
    r"^emb_layer_norm_before\.": "embeddings.layer_norm.",
    r"^emb_layer_norm_after\.": "encoder.emb_layer_norm_after.",
    r"^layers\.0\.self_attn\.rot_emb\.inv_freq": "rotary_embeddings.inv_freq",
    r"^layers\.": "encoder.layer.",
    r"\.self_attn_layer_norm\.": ".attention.LayerNorm.",
    r"\.self_attn\.q_proj\.": ".attention.self.query.",
    r"\.self_attn\.k_proj\.": ".attention.self.key.",
    r"\.self_attn\.v_proj\.": ".attention.self.value.",
    r"\.self_attn\.out_proj\.": ".attention.output.dense.",
    r"\.final_layer_norm\.": ".LayerNorm.",
    r"\.fc1\.": ".intermediate.dense.",
    r"\.fc2\.": ".output.dense.",
}


class Shape(NamedTuple):
    architecture: str
    layers: int
    dim: int
    heads: int

    def __str__(self) -> str:
        return f"{self.architecture} with {self.layers} layers, {self.dim} wide, {self.heads} heads"


def load_model(place: Path, shape: Shape | None, window: int, precision: str, device: str) -> Any:
    """The EsmModel of a checkpoint file or a model folder, in evaluation mode on `device`. shape: what the model must be, or None.

    Raises InputError where the weights are damaged, incomplete, of another shape or not ESM's, hold code, or do not take `window`
    residues, and where there is no such device."""
    import torch
    from transformers.utils import logging

    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"The device {device!r} is not available: PyTorch finds no CUDA device here.", "Leave the option out.")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    model = _from_folder(place, shape, dtype) if place.is_dir() else _from_checkpoint(place, shape, dtype)
    config = model.config
    if config.position_embedding_type == "absolute" and config.max_position_embeddings < window + 2 + PAD + 1:
        raise InputError(f"The model {place} takes {config.max_position_embeddings} positions, too few for {window} residues.")
    for layer in model.encoder.layer:  # The same function in one pass over memory.
        layer.intermediate = torch.nn.Sequential(layer.intermediate.dense, torch.nn.GELU())
    return model.eval().to(device)


def _check(found: Shape, wanted: Shape | None, place: Path) -> None:
    if wanted is not None and found != wanted:
        raise InputError(f"The weights {place} are {found}; the model of that name is {wanted}.", "Name the model that the weights are of.")


def _from_checkpoint(file: Path, shape: Shape | None, dtype: Any) -> Any:
    import esm
    import torch
    from transformers import EsmConfig

    data = _read(file)
    architecture = "ESM-2" if "cfg" in data else "ESM-1b"
    if architecture == "ESM-1b" and getattr(data.get("args"), "arch", None) != "roberta_large":
        raise InputError(f"The checkpoint {file} is not of ESM-2 or ESM-1b.", _HELP)
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            skeleton, _ = esm.pretrained.load_model_and_alphabet_core("esm2" if architecture == "ESM-2" else "esm1b", data, None)
    except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"The checkpoint {file} does not hold the whole model it describes: {_line(error)}.", _HELP) from error
    dim, layers, first = skeleton.embed_tokens.embedding_dim, len(skeleton.layers), skeleton.layers[0]
    _check(Shape(architecture, layers, dim, first.self_attn.num_heads), shape, file)
    config = EsmConfig(
        vocab_size=len(TOKENS),
        pad_token_id=PAD,
        mask_token_id=TOKENS.index("<mask>"),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=first.self_attn.num_heads,
        intermediate_size=first.fc1.out_features,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=skeleton.emb_layer_norm_after.eps,
        max_position_embeddings=1026 if architecture == "ESM-2" else skeleton.embed_positions.num_embeddings,
        position_embedding_type="rotary" if architecture == "ESM-2" else "absolute",
        emb_layer_norm_before=bool(getattr(skeleton, "emb_layer_norm_before", None)),
        token_dropout=bool(skeleton.token_dropout if architecture == "ESM-2" else getattr(skeleton.args, "token_dropout", False)),
    )
    named = {_renamed(name): tensor for name, tensor in data["model"].items()}
    kept = {name: tensor for name, tensor in named.items() if not name.startswith(("lm_head", "contact_head")) and "rot_emb" not in name}
    return _build(file, dtype, None, config=config, state_dict=kept)


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED.items():
        name = re.sub(pattern, replacement, name)
    return name


def _read(file: Path) -> dict[str, Any]:
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise InputError(f"The checkpoint {file} holds more than weights, so it is not read: it could run code.", _HELP) from error
        raise InputError(f"The checkpoint {file} is damaged, or is no checkpoint of PyTorch.", _HELP) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise InputError(f"The checkpoint {file} is damaged or cannot be read: {_line(error)}.", _HELP) from error
    state = data.get("model") if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"The checkpoint {file} is not of ESM-2 or ESM-1b.", _HELP)
    return data


def _from_folder(folder: Path, shape: Shape | None, dtype: Any) -> Any:
    if not is_model_folder(folder):
        raise InputError(f"The folder {folder} holds no model.", "It must hold config.json and model.safetensors.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The file {folder / 'config.json'} is damaged or cannot be read.", _HELP) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "esm" or config.get("is_folding_model"):
        raise InputError(f"The folder {folder} holds a model of type {kind!r}, not an ESM-2 or ESM-1b encoder.")
    rotary = config.get("position_embedding_type") == "rotary"
    sizes = [config.get(key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")]
    _check(Shape("ESM-2" if rotary else "ESM-1b", *sizes), shape, folder)
    vocabulary = folder / "vocab.txt"
    if config.get("vocab_size") != len(TOKENS) or (vocabulary.is_file() and tuple(vocabulary.read_text().split()) != TOKENS):
        raise InputError(f"The folder {folder} has another vocabulary than ESM-2 and ESM-1b.", _HELP)
    return _build(folder, dtype, folder, local_files_only=True)


def _build(place: Path, dtype: Any, folder: Path | None, **given: Any) -> Any:
    """transformers' own loading, of `folder` or of what is given, with every weight accounted for. place: for errors."""
    from transformers import EsmModel

    try:
        model, info = EsmModel.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            add_pooling_layer=False,
            ignore_mismatched_sizes=True,  # They are told below.
            output_loading_info=True,
            **given,
        )
    except Exception as error:  # Damaged files raise nearly anything.
        raise InputError(f"The weights {place} cannot be loaded: {_line(error)}.", _HELP) from error
    wrong = [key for key in info["missing_keys"] if _NEEDED.match(key)]
    wrong += [key for key in info["unexpected_keys"] if not _UNUSED.search(key)]
    wrong += [key for key, *_ in info["mismatched_keys"]]
    if wrong:
        raise InputError(f"The weights {place} do not fit their configuration: {len(wrong)} tensors, first {sorted(wrong)[0]}.", _HELP)
    return model


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 200 else f"{text[:200]} …"
