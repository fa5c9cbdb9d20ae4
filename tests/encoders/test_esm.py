"""ESM encoders, on tiny models in the real formats: against fair-esm itself, over windows, in batches, and with files that are wrong."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import esm
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, EsmConfig, EsmForMaskedLM

from biobridge_rag.encoders import esm as esm_encoder
from biobridge_rag.encoders.esm import ESM_NAMES, STRIDE, WINDOW, EsmEncoder, make_esm, residue_weights, window_starts
from biobridge_rag.encoders.esm_loading import RESIDUE_TOKENS, TOKENS, Shape
from biobridge_rag.encoders.sequences import RESIDUES
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import BiobridgeError, InputError, SequenceError
from biobridge_rag.types import Encoder, Modality, Vectors

LAYERS, DIM, HEADS = 2, 40, 4
ESM2, ESM1B = "esm2_t6_8M_UR50D", "esm1b_t33_650M_UR50S"
ALPHABET = esm.Alphabet.from_architecture("ESM-1b")


def proteins(*lengths: int) -> list[str]:
    rng = np.random.default_rng(sum(lengths))
    return ["".join(rng.choice(list(RESIDUE_TOKENS), n)) for n in lengths]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """With weights large enough that attention, positions and norms tell residues apart."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.add_(torch.randn_like(tensor) * (0.3 if tensor.dim() > 1 else 0.1))
            if name == "embed_tokens.weight":
                tensor[1].zero_()
    return model.eval()


def save_esm2(file: Path, dim: int = DIM) -> torch.nn.Module:
    """A checkpoint as fair-esm's are; returns fair-esm's own model of it."""
    model = shaken(esm.model.esm2.ESM2(LAYERS, dim, HEADS))
    state = {f"encoder.{'' if k.startswith('lm_head') else 'sentence_encoder.'}{k}": v for k, v in model.state_dict().items()}
    cfg = argparse.Namespace(encoder_layers=LAYERS, encoder_embed_dim=dim, encoder_attention_heads=HEADS, token_dropout=True)
    torch.save({"cfg": {"model": cfg}, "model": {k: v for k, v in state.items() if "contact_head" not in k}}, file)
    return model


def save_esm1b(file: Path, arch: str = "roberta_large") -> torch.nn.Module:
    args = {"arch": "roberta_large", "layers": LAYERS, "embed_dim": DIM, "ffn_embed_dim": 4 * DIM, "attention_heads": HEADS}
    args |= {"max_positions": 1024, "emb_layer_norm_before": True, "token_dropout": True}
    model = shaken(esm.ProteinBertModel(argparse.Namespace(**args), ALPHABET))
    state = {f"encoder.{'' if k.startswith('lm_head') else 'sentence_encoder.'}{k}": v for k, v in model.state_dict().items()}
    stored = {f"encoder_{k}" if k in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads") else k: v for k, v in args.items()}
    del stored["emb_layer_norm_before"]
    stored["arch"] = arch
    kept = {k: v for k, v in state.items() if "contact_head" not in k}
    torch.save({"args": argparse.Namespace(**stored), "model": kept}, file, _use_new_zipfile_serialization=False)
    return model


def save_folder(folder: Path, model: torch.nn.Module, **changes: object) -> Path:
    """The fair-esm model as the hub has it: written out by hand, module by module, so as to check the package's table of names."""
    rotary = isinstance(model, esm.ESM2)
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=DIM, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * DIM, max_position_embeddings=1026, layer_norm_eps=1e-5, token_dropout=True,
        position_embedding_type="rotary" if rotary else "absolute", emb_layer_norm_before=not rotary,
    )  # fmt: skip
    other = EsmForMaskedLM(config).eval()
    pairs = [
        (other.esm.embeddings.word_embeddings, model.embed_tokens),
        (other.esm.encoder.emb_layer_norm_after, model.emb_layer_norm_after),
    ]
    if not rotary:
        pairs.append((other.esm.embeddings.position_embeddings, model.embed_positions))
        pairs.append((other.esm.embeddings.layer_norm, model.emb_layer_norm_before))
    for theirs, ours in zip(other.esm.encoder.layer, model.layers, strict=True):
        attention = theirs.attention
        pairs += [(attention.self.query, ours.self_attn.q_proj), (attention.self.key, ours.self_attn.k_proj)]
        pairs += [(attention.self.value, ours.self_attn.v_proj), (attention.output.dense, ours.self_attn.out_proj)]
        pairs += [(attention.LayerNorm, ours.self_attn_layer_norm), (theirs.LayerNorm, ours.final_layer_norm)]
        pairs += [(theirs.intermediate.dense, ours.fc1), (theirs.output.dense, ours.fc2)]
    for module, source in pairs:
        module.load_state_dict(source.state_dict())
    other.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(TOKENS))
    settings_file = folder / "config.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | changes))
    return folder


def naive(model: torch.nn.Module, sequence: str) -> Vectors:
    """fair-esm, window by window: for each residue the mean of its states, then the mean of the residues."""
    states: list[list[torch.Tensor]] = [[] for _ in sequence]
    for start in sorted({*range(0, max(len(sequence) - WINDOW, 0), STRIDE), max(len(sequence) - WINDOW, 0)}):
        tokens = ALPHABET.get_batch_converter()([("", sequence[start : start + WINDOW])])[2]
        with torch.no_grad():
            out = model(tokens, repr_layers=[LAYERS])["representations"][LAYERS][0, 1:-1]
        for i, state in enumerate(out):
            states[start + i].append(state)
    mean = torch.stack([torch.stack(s).mean(0) for s in states]).mean(0)
    return (mean / mean.norm()).numpy()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def esm2(place: Path) -> tuple[Path, torch.nn.Module]:
    return place / "tiny2.pt", save_esm2(place / "tiny2.pt")


@pytest.fixture(scope="module")
def esm1b(place: Path) -> tuple[Path, torch.nn.Module]:
    return place / "tiny1b.pt", save_esm1b(place / "tiny1b.pt")


@pytest.fixture(scope="module")
def encoder(esm2: tuple[Path, torch.nn.Module]) -> EsmEncoder:
    return make_esm(str(esm2[0]), Source())


def test_the_tokens_are_those_of_fair_esm() -> None:
    assert list(TOKENS) == ALPHABET.all_toks
    assert frozenset(RESIDUE_TOKENS) == RESIDUES


def test_the_names_are_those_of_fair_esm_and_encoders_are_cheap() -> None:
    assert len(ESM_NAMES) == 7
    for name in ESM_NAMES:
        assert hasattr(esm.pretrained, name)
        encoder = make_esm(f"facebook/{name}", Source())
        assert isinstance(encoder, EsmEncoder) and encoder.modality is Modality.PROTEIN and encoder.dim >= 320
        assert name.startswith(f"{'esm1b' if encoder._shape.architecture == 'ESM-1b' else 'esm2'}_t{encoder._shape.layers}_")


@pytest.mark.parametrize("which", ["esm2", "esm1b"])
def test_a_checkpoint_and_a_folder_give_what_fair_esm_gives(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    file, model = request.getfixturevalue(which)
    values = [*proteins(1, 7, 60, 59, WINDOW), RESIDUE_TOKENS]
    expected = np.stack([naive(model, value) for value in values])
    from_file = make_esm(str(file), Source())
    from_folder = make_esm(str(save_folder(tmp_path / "model", model)), Source())
    assert isinstance(from_file, Encoder)
    for encoder in (from_file, from_folder):
        vectors = encoder.encode(values)
        assert vectors.shape == (6, encoder.dim) == (6, DIM) and vectors.dtype == np.float32
        assert np.abs(vectors - expected).max() < 1e-5
    assert np.abs(expected - expected[::-1]).max() > 1e-2  # the model tells sequences apart
    assert from_file.id.startswith(f"{file.stem}-mean-w1022-s511-") and from_file.id != from_folder.id


@pytest.mark.parametrize("which", ["esm2", "esm1b"])
def test_long_sequences_are_averaged_by_residue(which: str, request: pytest.FixtureRequest) -> None:
    file, model = request.getfixturevalue(which)
    values = proteins(1023, 1700, 40)
    expected = np.stack([naive(model, value) for value in values])
    vectors = make_esm(str(file), Source()).encode(values)
    assert np.abs(vectors - expected).max() < 1e-5
    assert np.abs(naive(model, values[1][:WINDOW]) - expected[1]).max() > 1e-3  # cutting would show


@given(st.integers(1, 6000))
def test_windows_cover_every_residue(length: int) -> None:
    starts = list(window_starts(length))
    covered = sum(residue_weights(length)[s : s + WINDOW].sum() for s in starts)
    assert starts == sorted(set(starts)) and starts[0] == 0 and covered == pytest.approx(1.0, abs=1e-4)
    assert all(b - a <= STRIDE for a, b in pairwise(starts))
    assert starts[-1] + min(length, WINDOW) == length


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 130), min_size=1, max_size=12), st.integers(1, 600))
def test_batches_do_not_change_the_numbers(encoder: EsmEncoder, lengths: list[int], budget: int) -> None:
    values = proteins(*lengths)
    alone = np.concatenate([encoder.encode([value]) for value in values])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esm_encoder, "_CPU_TOKENS", budget)
        assert np.abs(encoder.encode(values) - alone).max() < 1e-5


def test_batches_come_whole_and_once_each(encoder: EsmEncoder) -> None:
    values = proteins(2000, 50, 1500, 1, 300, 300)
    seen, vectors = zip(*encoder.encode_batches(values), strict=True)
    assert len(seen) > 2 and sorted(np.concatenate(seen)) == list(range(len(values)))
    out = np.zeros((len(values), DIM), dtype=np.float32)
    out[np.concatenate(seen)] = np.concatenate(vectors)
    assert np.array_equal(out, encoder.encode(values)) and np.allclose(np.linalg.norm(out, axis=1), 1.0, atol=1e-6)


def test_nothing_in_nothing_out() -> None:
    encoder = make_esm(ESM2, Source())
    assert encoder.encode([]).shape == (0, 320) and list(encoder.encode_batches([])) == []


@pytest.mark.parametrize("value", ["", "MKJ", "mkt", "MK T", "MK*", "<mask>", "MKÄ"])
def test_what_is_no_protein_is_refused_before_the_model_is_read(value: str) -> None:
    with pytest.raises(SequenceError, match="2 of 2"):
        make_esm(ESM2, Source()).encode(["MKT", value])


def test_bf16_is_near_and_named(esm2: tuple[Path, torch.nn.Module], encoder: EsmEncoder) -> None:
    half = make_esm(str(esm2[0]), Source(precision="bf16"))
    values = proteins(300, 1200)
    cosines = (half.encode(values) * encoder.encode(values)).sum(axis=1)
    assert (cosines > 0.99).all() and (cosines < 1.0 - 1e-7).any()
    assert "-bf16-" in half.id and "fp" not in encoder.id
    frequencies = half._model.rotary_embeddings.inv_freq
    assert frequencies.dtype == torch.float32 and torch.equal(frequencies, encoder._model.rotary_embeddings.inv_freq)


def test_devices_and_precisions_that_are_not_there_are_named(esm2: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(InputError, match="fp16"):
        make_esm(ESM2, Source(precision="fp16"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cuda"):
            make_esm(str(esm2[0]), Source(device="cuda")).encode(["MKT"])


def test_weights_that_are_no_numbers_are_told(esm2: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    data = torch.load(esm2[0], weights_only=False)
    data["model"]["encoder.sentence_encoder.emb_layer_norm_after.weight"] += torch.nan
    torch.save(data, tmp_path / "broken.pt")
    with pytest.raises(BiobridgeError, match="no finite numbers"):
        make_esm(str(tmp_path / "broken.pt"), Source()).encode(["MKT"])


def test_batches_follow_the_free_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_esm(ESM2, Source(device="cuda"))
    encoder.__dict__["_model"] = SimpleNamespace(config=SimpleNamespace(hidden_size=320, intermediate_size=1280))
    budgets = []
    for free in (0, 10**9, 10**12):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 10**12))
        budgets.append(encoder._budget())
    assert budgets[0] == WINDOW + 2 < budgets[1] < budgets[2] <= 65_536


def test_a_gpu_without_room_is_one_line() -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = make_esm(ESM2, Source())
    encoder.__dict__["_model"] = full
    with pytest.raises(BiobridgeError, match="batch of 5 tokens"):
        encoder.encode(["MKT"])


def small(monkeypatch: pytest.MonkeyPatch, name: str, architecture: str) -> None:
    monkeypatch.setitem(esm_encoder._SHAPES, name, Shape(architecture, LAYERS, DIM, HEADS))


def test_the_checkpoint_comes_before_the_folder(
    esm2: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, ESM2, "ESM-2")
    save_folder(tmp_path / f"facebook--{ESM2}", esm2[1])
    source = Source(weights=tmp_path)
    folder = make_esm(f"facebook/{ESM2}", source)
    assert folder._place.is_dir() and folder.encode(["MKT"]).shape == (1, DIM)
    shutil.copyfile(esm2[0], tmp_path / f"{ESM2}.pt")
    assert make_esm(ESM2, source)._place == tmp_path / f"{ESM2}.pt"
    assert make_esm(ESM2, Source(weights=esm2[0])).encode(["MKT"]).shape == (1, DIM)


def test_fair_esm_s_own_cache_is_read(esm2: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, ESM2, "ESM-2")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    shutil.copyfile(esm2[0], tmp_path / "checkpoints" / f"{ESM2}.pt")
    assert make_esm(ESM2, Source()).encode(["MKT"]).shape == (1, DIM)


def test_missing_weights_say_what_to_fetch(tmp_path: Path) -> None:
    for read in (lambda e: e.id, lambda e: e.encode(["MKT"])):
        with pytest.raises(InputError, match=f"models/{ESM1B}.pt"):
            read(make_esm(ESM1B, Source(weights=tmp_path)))


def test_an_unknown_name_lists_the_valid_ones(tmp_path: Path) -> None:
    for name in ("esm2_t6_9M", str(tmp_path / "none.pt")):
        with pytest.raises(InputError, match="esm2_t48_15B_UR50D, esm1b_t33_650M_UR50S"):
            make_esm(name, Source())
    with pytest.raises(InputError, match="holds no ESM model"):
        make_esm(str(tmp_path), Source()).encode(["MKT"])


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def spoil(file: Path, how: str, whole: Path) -> None:
    data = torch.load(whole, weights_only=False)
    prefix = "encoder.sentence_encoder.layers.1.fc1."
    if how == "truncated":
        file.write_bytes(whole.read_bytes()[:-5000])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_text("<html>404</html>")
    elif how == "code":
        torch.save(data | {"more": Code()}, file)
    elif how == "plain pickle of code":
        file.write_bytes(pickle.dumps(Code()))
    elif how == "list":
        torch.save([1, 2], file)
    elif how == "no weights":
        torch.save({"cfg": data["cfg"]}, file)
    elif how == "tensor missing":
        del data["model"][f"{prefix}bias"]
        torch.save(data, file)
    elif how == "tensor too many":
        torch.save(data | {"model": data["model"] | {f"{prefix}more": torch.zeros(1)}}, file)
    elif how == "tensor of another size":
        data["model"][f"{prefix}bias"] = torch.zeros(3)
        torch.save(data, file)
    elif how == "no settings":
        torch.save(data | {"cfg": {}}, file)
    elif how == "other architecture":
        save_esm1b(file, arch="protein_bert_base")
    else:
        save_esm1b(file) if how == "ESM-1b" else save_esm2(file, dim=48)


SPOILS = {
    "truncated": "damaged", "empty": "damaged", "text": "damaged", "code": "could run code", "plain pickle of code": "damaged|run code",
    "list": "not of ESM", "no weights": "not of ESM", "tensor missing": "fc1.bias", "tensor too many": "fc1.more",
    "tensor of another size": "size mismatch", "no settings": "whole model", "other architecture": "not of ESM", "ESM-1b": "ESM-1b with",
    "another size": "48 wide",
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILS)
def test_a_wrong_checkpoint_is_one_line(
    how: str, esm2: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, ESM2, "ESM-2")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{ESM2}.pt"
    spoil(file, how, esm2[0])
    with pytest.raises(InputError, match=SPOILS[how]) as raised:
        make_esm(ESM2, Source(weights=tmp_path)).encode(["MKT"])
    assert str(file) in raised.value.message and "\n" not in str(raised.value) and len(raised.value.message) < 600
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "bert"}, "'bert'"),
        ({"is_folding_model": True}, "not an ESM-2"),
        ({"vocab_size": 34}, "vocabulary"),
        ({"hidden_size": 80}, "do not fit"),
        ({"num_hidden_layers": 3}, "do not fit"),
        ({"num_hidden_layers": 1}, "do not fit"),
        ({"position_embedding_type": "absolute"}, "do not fit"),
        ({"hidden_size": "wide"}, "cannot be loaded"),
    ],
)
def test_a_wrong_folder_is_one_line(changes: dict[str, object], told: str, esm2: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "model", esm2[1], **changes)
    with pytest.raises(InputError, match=told) as raised:
        make_esm(str(folder), Source()).encode(["MKT"])
    assert str(folder) in raised.value.message and len(raised.value.message) < 600


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_folders_of_older_transformers_are_read(kind: str, esm2: tuple[Path, torch.nn.Module], encoder: EsmEncoder, tmp_path: Path) -> None:
    """The tensors that the hub's files of ESM-2 hold beside those of today: rotary frequencies in each layer, unused positions."""
    file = save_folder(tmp_path / "model", esm2[1]) / "model.safetensors"
    state = load_file(file)
    frequencies = state.pop("esm.rotary_embeddings.inv_freq", encoder._model.rotary_embeddings.inv_freq)
    for i in range(LAYERS):
        state[f"esm.encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq"] = frequencies.clone()
    state["esm.embeddings.position_embeddings.weight"] = torch.zeros(1026, DIM)
    state["esm.embeddings.position_ids"] = torch.arange(1026)[None]
    file.unlink()
    save_file(state, file, {"format": "pt"}) if kind == "safetensors" else torch.save(state, file.parent / "pytorch_model.bin")
    values = proteins(40, 300)
    assert np.abs(make_esm(str(file.parent), Source()).encode(values) - encoder.encode(values)).max() < 1e-5
    half = make_esm(str(file.parent), Source(precision="bf16"))
    assert half._model.dtype == torch.bfloat16 and torch.equal(half._model.rotary_embeddings.inv_freq, frequencies)


def test_damaged_and_foreign_folders_are_one_line(
    esm2: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save_folder(tmp_path / ESM2, esm2[1])
    with pytest.raises(InputError, match="320 wide"):
        make_esm(str(whole), Source()).encode(["MKT"])
    whole = whole.rename(tmp_path / "model")
    data = (whole / "model.safetensors").read_bytes()
    (whole / "model.safetensors").write_bytes(data[:-2000])
    with pytest.raises(InputError, match="cannot be loaded"):
        make_esm(str(whole), Source()).encode(["MKT"])
    (whole / "model.safetensors").write_bytes(data)
    (whole / "model.safetensors").rename(whole / "aside")
    torch.save({"esm.embeddings.word_embeddings.weight": Code()}, whole / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        make_esm(str(whole), Source()).encode(["MKT"])
    assert not (tmp_path / "ran").exists()
    (whole / "vocab.txt").write_text("A\nB\n")
    with pytest.raises(InputError, match="vocabulary"):
        make_esm(str(whole), Source()).encode(["MKT"])
    (whole / "config.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        make_esm(str(whole), Source()).encode(["MKT"])
    BertModel(BertConfig(vocab_size=33, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)).save_pretrained(
        tmp_path / "bert"
    )
    with pytest.raises(InputError, match="'bert'"):
        make_esm(str(tmp_path / "bert"), Source()).encode(["MKT"])


def test_the_id_follows_the_weights_not_the_place(esm2: tuple[Path, torch.nn.Module], encoder: EsmEncoder, tmp_path: Path) -> None:
    copy = tmp_path / esm2[0].name
    shutil.copyfile(esm2[0], copy)
    assert make_esm(str(copy), Source()).id == encoder.id
    save_esm2(copy, dim=48)
    assert make_esm(str(copy), replace(Source(), device="cpu")).id != encoder.id
