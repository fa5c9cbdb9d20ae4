"""Text encoders over model folders in the layout that the hub and sentence-transformers give them, with tiny random weights."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, ViTConfig, ViTModel

from biobridge_rag.encoders import transformer
from biobridge_rag.encoders.language import TEXT_NAMES, make_text
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.types import Encoder, Modality

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *":.,-", *(f"##{c}" for c in LETTERS), "name", "definition", "cancer"]
TEXTS = [
    "Name: breast cancer.",
    "Name: asthma. Definition: A disease of the airways.",
    "kinase",
    "Name: Periostitis. Definition: " + "An inflammation of the tissue around a bone. " * 4,
    "x",
]


def config(**changed: int) -> BertConfig:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 48}
    return BertConfig(vocab_size=len(WORDS), **{**sizes, **changed})


def bert(folder: Path, model: torch.nn.Module | None = None, **tokenizer: object) -> Path:
    """As microsoft/BiomedNLP-… lies on the hub: a masked language model with a word list of its own."""
    torch.manual_seed(0)
    (model or BertForMaskedLM(config())).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer", **tokenizer}))
    return folder


MODULES = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]


def sentence(folder: Path, pooling: dict[str, object], modules: list[tuple[str, str]] = MODULES, **stated: object) -> Path:
    """A folder of sentence-transformers, in the layout that its releases up to 5 write."""
    bert(folder, BertModel(config(), add_pooling_layer=False), do_lower_case=False)
    rows = [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{t}"} for i, (p, t) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, "do_lower_case": True, **stated}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("models") / "microsoft--BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext")


@pytest.fixture()
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def reference(folder: Path, text: str, pooling: str) -> np.ndarray:
    """One text alone, as the models' own pages call them."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = model(**tokenizer(text, truncation=True, max_length=48, return_tensors="pt")).last_hidden_state[0]
    x = {"mean": states.mean(0), "cls": states[0]}[pooling].numpy()
    return x / np.linalg.norm(x)


@pytest.mark.parametrize(("name", "pooling"), [("biomedbert", "mean"), ("pubmedbert", "mean"), ("sapbert", "cls")])
def test_vectors_equal_the_bare_model(folder: Path, name: str, pooling: str) -> None:
    encoder = make_text(name, Source(folder))
    assert isinstance(encoder, Encoder) and encoder.modality is Modality.TEXT
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim) == (5, 32) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert np.allclose(vectors, [reference(folder, text, pooling) for text in TEXTS], atol=1e-5)
    assert f"-{pooling}-48-" in encoder.id


POOLINGS: list[tuple[str, dict[str, object]]] = [
    ("mean", {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_mean_sqrt_len_tokens": False}),
    ("cls", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": True}),
    ("max", {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}),
    ("cls", {"embedding_dimension": 32, "pooling_mode": "cls"}),
]


@pytest.mark.parametrize(("pooling", "stated"), POOLINGS)
def test_vectors_equal_those_of_sentence_transformers(tmp_path: Path, pooling: str, stated: dict[str, object]) -> None:
    from sentence_transformers import SentenceTransformer

    folder = sentence(tmp_path / "model", stated)
    encoder = make_text(str(folder), Source())
    assert f"model-{pooling}-24-" in encoder.id
    assert np.allclose(encoder.encode(TEXTS), SentenceTransformer(str(folder), device="cpu").encode(TEXTS), atol=1e-5)


def test_a_folder_that_sentence_transformers_saves_today_is_read(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(sentence(tmp_path / "old", {"pooling_mode_max_tokens": True})), device="cpu").save(str(tmp_path / "new"))
    model = SentenceTransformer(str(tmp_path / "new"), device="cpu")
    encoder = make_text("biolord", Source(tmp_path / "new"))
    assert "biolord-max-24-" in encoder.id
    assert np.allclose(encoder.encode(TEXTS), model.encode(TEXTS, normalize_embeddings=True), atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "modules", "said"),
    [
        ({"pooling_mode_mean_tokens": True}, [*MODULES, ("3_Dense", "Dense")], "module 'Dense' in 3_Dense"),
        ({"pooling_mode_mean_tokens": True}, [("0_Transformer", "Transformer"), *MODULES[1:]], "module 'Transformer' in 0_Transformer"),
        ({"pooling_mode_mean_tokens": True}, MODULES[:1], "no Pooling"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, MODULES, "mean \\+ cls"),
        ({"pooling_mode": ["mean", "max"]}, MODULES, "mean \\+ max"),
        ({"pooling_mode_weightedmean_tokens": True}, MODULES, "weightedmean"),
        ({}, MODULES, "nothing"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, pooling: dict[str, object], modules: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        _ = make_text(str(sentence(tmp_path / "model", pooling, modules)), Source()).dim


def test_a_prompt_before_each_text_is_not_left_out_in_silence(tmp_path: Path) -> None:
    folder = sentence(tmp_path / "model", {"pooling_mode_mean_tokens": True})
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"q": "query: "}, "default_prompt_name": "q"}')
    with pytest.raises(InputError, match="prompt"):
        _ = make_text(str(folder), Source()).id


def test_neither_padding_nor_order_nor_chunks_change_a_vector(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_text("biomedbert", Source(folder))
    values = [TEXTS[i % 5] + " a" * (i % 7) for i in range(40)]
    alone = np.concatenate([encoder.encode([value]) for value in values])
    monkeypatch.setattr(transformer, "_CHUNK", 16)
    monkeypatch.setattr(transformer, "_BUDGET", {"cpu": (150, 5)})
    assert np.allclose(encoder.encode(values), alone, atol=1e-5)
    places = [rows for rows, _ in encoder.encode_batches(values)]  # type: ignore[attr-defined]
    assert max(map(len, places)) == 5 and sorted(np.concatenate(places)) == list(range(40))
    assert encoder.encode([]).shape == (0, 32)


def test_a_text_is_cut_where_the_model_ends(folder: Path) -> None:
    encoder = make_text("biomedbert", Source(folder))
    long = "cancer " * 46
    a, b, c = encoder.encode([long, long + "x y z", "cancer " * 45 + "x"])
    assert np.allclose(a, b, atol=1e-5) and not np.allclose(a, c, atol=1e-3)


def test_an_empty_text_is_refused(folder: Path) -> None:
    encoder = make_text("biomedbert", Source(folder))
    assert encoder.unusable(["a", " ", "b", ""]) == dict.fromkeys((1, 3), "A text to encode is empty.")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="empty"):
        encoder.encode(["a", ""])


def test_the_id_changes_with_weights_pooling_and_precision_and_only_with_them(folder: Path, copy: Path, tmp_path: Path) -> None:
    first = make_text("biomedbert", Source(folder)).id
    assert make_text("pubmedbert", Source(copy)).id == first
    bert(tmp_path / "other", BertForMaskedLM(config()).apply(lambda m: torch.nn.init.ones_(m.weight) if hasattr(m, "weight") else None))
    others = [make_text("biomedbert", Source(tmp_path / "other")), make_text("sapbert", Source(folder))]
    others += [make_text("biomedbert", Source(folder, precision=p)) for p in ("fp16", "bf16")]
    assert len({first, *(e.id for e in others)}) == 5
    assert make_text("biomedbert", Source(folder, precision="fp32")).id == first
    assert "-fp16-" in make_text("biomedbert", Source(folder, device="cuda")).id


@pytest.mark.parametrize(("precision", "near"), [("fp16", 5e-3), ("bf16", 5e-2)])
def test_half_precision_is_near(folder: Path, precision: str, near: float) -> None:
    full = make_text("biomedbert", Source(folder)).encode(TEXTS)
    half = make_text("biomedbert", Source(folder, precision=precision)).encode(TEXTS)
    assert 0 < np.abs(half - full).max() < near
    assert np.allclose(np.linalg.norm(half, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(TEXT_NAMES))
def test_models_are_found_by_all_their_names(folder: Path, tmp_path: Path, name: str) -> None:
    for i, called in enumerate(
        [TEXT_NAMES[name].label, *TEXT_NAMES[name].hubs, *(hub.replace("/", "--") for hub in TEXT_NAMES[name].hubs)]
    ):
        models = tmp_path / str(i)
        shutil.copytree(folder, models / called)
        for asked in (name, TEXT_NAMES[name].hubs[-1]):
            assert make_text(asked, Source(models)).id.startswith(TEXT_NAMES[name].label + "-")


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"named 'bert2'.*biomedbert, pubmedbert, sapbert, biolord.*ORGANISATION/MODEL"):
        make_text("bert2", Source())
    with pytest.raises(InputError, match="holds no model"):
        make_text(str(tmp_path), Source())
    encoder = make_text("some/model", Source(tmp_path))
    with pytest.raises(InputError, match=r"some/model.* not in .*huggingface.co/some/model"):
        _ = encoder.id


def test_nothing_is_asked_of_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert make_text("biomedbert", Source(folder)).encode(["asthma"]).shape == (1, 32)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["HARM"],)


def test_code_in_a_pickle_is_not_run(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    (copy / "model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": Harmful()}, copy / "pytorch_model.bin")
    with pytest.raises(InputError, match="more than numbers") as error:
        make_text(str(copy), Source()).encode(["a"])
    assert not (tmp_path / "harm").exists() and "weights_only" not in str(error.value)


def test_weights_as_bin_give_the_same_vectors(folder: Path, copy: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert np.array_equal(make_text(str(copy), Source()).encode(TEXTS), make_text("biomedbert", Source(folder)).encode(TEXTS))


def _vision(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 16}
    ViTModel(ViTConfig(**sizes)).save_pretrained(folder)


def _vision_weights(folder: Path) -> None:
    kept = (folder / "config.json").read_text()
    _vision(folder)
    (folder / "config.json").write_text(kept)


def _one_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.1.output.dense.bias"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _wider(folder: Path) -> None:
    kept = (folder / "config.json").read_text()
    BertModel(config(hidden_size=48)).save_pretrained(folder)
    (folder / "config.json").write_text(kept)


def _half(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _half_bin(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(BertModel(config()).state_dict(), folder / "pytorch_model.bin")
    data = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(data[: len(data) // 2])


def _infinite(folder: Path) -> None:
    model = BertModel(config())
    model.embeddings.word_embeddings.weight.data[:] = float("inf")
    model.save_pretrained(folder)


def _set(key: str, value: object):  # type: ignore[no-untyped-def]
    def change(folder: Path) -> None:
        stated = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**stated, key: value}))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_vision, "no encoder of tokens"),
        (_vision_weights, r"not those of its config.json \(bert\)"),
        (_one_missing, r"1 tables are missing \(encoder.layer.1.output.dense.bias\)"),
        (_wider, "other sizes than its config.json"),
        (_half, "cannot be loaded"),
        (_half_bin, "cannot be loaded"),
        (_infinite, "not finite"),
        (lambda f: (f / "vocab.txt").unlink(), "no tokenizer"),
        (lambda f: (f / "vocab.txt").write_text("\n".join([*WORDS, "airways"])), "that of another model"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not of the form"),
        (_set("model_type", "unheard"), "does not know the kind 'unheard'"),
        (_set("is_encoder_decoder", True), "no encoder of tokens"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(copy: Path, damage, said: str, capfd: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    damage(copy)
    with pytest.raises(BiobridgeError, match=said) as error:
        make_text(str(copy), Source()).encode(["Definition: A disease of the airways."])
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    assert capfd.readouterr().err == ""
