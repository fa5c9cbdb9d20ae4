"""The authors' architecture: their checkpoint's names and arithmetic, what damage says, and training on a small graph."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from biobridge_rag.bridge.model import load_bridge, save_bridge
from biobridge_rag.bridge.official import OfficialBridge, load_official
from biobridge_rag.errors import GraphFormatError, HomeError, InputError
from biobridge_rag.types import Relation

HIDDEN, LAYERS, FEED_FORWARD, HEADS = 48, 2, 2048, 12
NODE_TYPES = {"biological_process": 0, "gene/protein": 1, "disease": 2, "anatomy": 3}
RELATIONS = {"interacts with": 0, "ppi": 1, "associated with": 2}
DIMS = {"biological_process": 20, "gene/protein": 30, "disease": 20}
ASSOCIATED = Relation("associated with", "disease", "gene/protein")


def random_weights() -> dict[str, torch.Tensor]:
    """A state dict under the names of the authors' release, made without the code under test."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int, scale: float = 0.2) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    state = {}
    for name, n in (("node_type_embed", len(NODE_TYPES)), ("relation_type_embed", len(RELATIONS))):
        state |= {f"{name}.0.weight": draw(n, HIDDEN, scale=1), f"{name}.1.weight": 1 + draw(HIDDEN), f"{name}.1.bias": draw(HIDDEN)}
    for node_type, dim in DIMS.items():
        state[f"proj_layer.{NODE_TYPES[node_type]}.weight"] = draw(HIDDEN, dim)
    for i in range(LAYERS):
        at = f"encoder.layers.{i}"
        state |= {
            f"{at}.self_attn.in_proj_weight": draw(3 * HIDDEN, HIDDEN),
            f"{at}.self_attn.in_proj_bias": draw(3 * HIDDEN),
            f"{at}.self_attn.out_proj.weight": draw(HIDDEN, HIDDEN),
            f"{at}.self_attn.out_proj.bias": draw(HIDDEN),
            f"{at}.linear1.weight": draw(FEED_FORWARD, HIDDEN),
            f"{at}.linear1.bias": draw(FEED_FORWARD),
            f"{at}.linear2.weight": draw(HIDDEN, FEED_FORWARD, scale=0.02),
            f"{at}.linear2.bias": draw(HIDDEN),
        }
        for norm in ("norm1", "norm2"):
            state |= {f"{at}.{norm}.weight": 1 + draw(HIDDEN), f"{at}.{norm}.bias": draw(HIDDEN)}
    return state


def plain_transform(state: dict[str, torch.Tensor], x: np.ndarray, relation: Relation) -> np.ndarray:
    """The paper's forward pass from the weights alone, in double precision."""
    w = {name: value.double() for name, value in state.items()}

    def typed(table: str, i: int) -> torch.Tensor:
        return F.layer_norm(w[f"{table}.0.weight"][i], (HIDDEN,), w[f"{table}.1.weight"], w[f"{table}.1.bias"])

    head, tail = NODE_TYPES[relation.head_type], NODE_TYPES[relation.tail_type]
    projected = torch.from_numpy(x).double() @ w[f"proj_layer.{head}.weight"].T
    kinds = [typed("node_type_embed", head), typed("relation_type_embed", RELATIONS[relation.name]), typed("node_type_embed", tail)]
    h = torch.cat([projected[:, None], torch.stack(kinds).expand(len(x), 3, HIDDEN)], dim=1)
    for i in range(LAYERS):
        at = f"encoder.layers.{i}"
        qkv = F.linear(h, w[f"{at}.self_attn.in_proj_weight"], w[f"{at}.self_attn.in_proj_bias"])
        q, k, v = (part.reshape(len(x), 4, HEADS, HIDDEN // HEADS).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        attention = torch.softmax(q @ k.transpose(-1, -2) / (HIDDEN // HEADS) ** 0.5, dim=-1)
        mixed = (attention @ v).transpose(1, 2).reshape(len(x), 4, HIDDEN)
        mixed = F.linear(mixed, w[f"{at}.self_attn.out_proj.weight"], w[f"{at}.self_attn.out_proj.bias"])
        h = F.layer_norm(h + mixed, (HIDDEN,), w[f"{at}.norm1.weight"], w[f"{at}.norm1.bias"])
        inner = F.gelu(F.linear(h, w[f"{at}.linear1.weight"], w[f"{at}.linear1.bias"]))
        outer = F.linear(inner, w[f"{at}.linear2.weight"], w[f"{at}.linear2.bias"])
        h = F.layer_norm(h + outer, (HIDDEN,), w[f"{at}.norm2.weight"], w[f"{at}.norm2.bias"])
    return (h[:, 0] + projected).numpy()


def write_release(folder: Path, state: object = None, model: dict | None = None, data: dict | None = None) -> Path:
    proj_dim = {str(NODE_TYPES[t]): dim for t, dim in DIMS.items()}
    config = {"n_node": len(NODE_TYPES), "n_relation": len(RELATIONS), "proj_dim": proj_dim, "hidden_dim": HIDDEN, "n_layer": LAYERS}
    types = {"node_type": NODE_TYPES, "relation_type": RELATIONS, "emb_dim": DIMS}
    folder.mkdir(exist_ok=True)
    (folder / "model_config.json").write_text(json.dumps({**config, **(model or {})}))
    (folder / "data_config.json").write_text(json.dumps({**types, **(data or {})}))
    torch.save(random_weights() if state is None else state, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


@pytest.mark.parametrize("relation", [ASSOCIATED, ASSOCIATED.inverse, Relation("ppi", "gene/protein", "gene/protein")])
def test_transform_equals_a_plain_computation(release: Path, relation: Relation) -> None:
    bridge = load_official(release)
    x = vectors(9, DIMS[relation.head_type])
    out = bridge.transform(x, relation)
    assert out.dtype == np.float32 and out.shape == (9, HIDDEN)
    assert np.abs(out - plain_transform(random_weights(), x, relation)).max() < 1e-5


def test_project_is_the_bias_free_projection(release: Path) -> None:
    x = vectors(5, 30)
    expected = x @ random_weights()["proj_layer.1.weight"].numpy().T
    assert np.abs(load_official(str(release)).project(x, "gene/protein") - expected).max() < 1e-5


def test_blocks_do_not_matter(release: Path) -> None:
    bridge, x = load_official(release), vectors(1030, 20)
    x.flags.writeable = False
    whole = bridge.transform(x, ASSOCIATED)
    assert np.abs(whole[1020:] - bridge.transform(x[1020:], ASSOCIATED)).max() < 1e-5
    assert bridge.transform(x[:0], ASSOCIATED).shape == (0, HIDDEN)


def test_no_dropout_and_no_gradients(release: Path) -> None:
    bridge, x = load_official(release), vectors(4, 20)
    assert np.array_equal(bridge.transform(x, ASSOCIATED), bridge.transform(x, ASSOCIATED))
    assert not any(p.requires_grad for p in bridge.network.parameters())


def test_half_precision_weights_are_taken(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in random_weights().items()}
    out = load_official(write_release(tmp_path / "half", state)).transform(vectors(3, 20), ASSOCIATED)
    assert out.dtype == np.float32
    assert np.abs(out - plain_transform(state, vectors(3, 20), ASSOCIATED)).max() < 1e-5


def test_bad_calls_are_bad_input(release: Path) -> None:
    bridge, x = load_official(release), vectors(2, 20)
    for call, word in (
        (lambda: bridge.project(vectors(2, 19), "disease"), "20"),
        (lambda: bridge.project(x[0], "disease"), "20"),
        (lambda: bridge.project(x, "anatomy"), "anatomy"),
        (lambda: bridge.transform(vectors(2, 30), ASSOCIATED), "20"),
        (lambda: bridge.transform(x, Relation("cures", "disease", "gene/protein")), "cures"),
        (lambda: bridge.transform(x, Relation("associated with", "disease", "planet")), "planet"),
    ):
        with pytest.raises(InputError, match=word):
            call()


def edited(change: str) -> dict[str, torch.Tensor]:
    state = random_weights()
    if change == "missing":
        del state["encoder.layers.1.norm2.bias"]
    elif change == "extra":
        state["encoder.layers.2.norm2.bias"] = torch.zeros(HIDDEN)
    else:
        state["proj_layer.1.weight"] = torch.zeros(HIDDEN, 31)
    return state


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_load_strictly(tmp_path: Path, change: str) -> None:
    with pytest.raises(GraphFormatError, match=r"norm2\.bias|proj_layer\.1\.weight") as error:
        load_official(write_release(tmp_path / change, edited(change)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model_config.json", "data_config.json", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [None, b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", b"\x00\xff" * 40, b"[1, 2"])
def test_a_missing_or_damaged_file_is_named(release: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (release / name).unlink()
    else:
        (release / name).write_bytes(content)
    with pytest.raises(GraphFormatError, match=name) as error:
        load_official(release)
    assert "\n" not in str(error.value)


def test_truncated_weights_and_no_folder(release: Path, tmp_path: Path) -> None:
    weights = release / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-5000])
    for folder in (release, tmp_path / "nothing"):
        with pytest.raises(GraphFormatError):
            load_official(folder)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_weights_never_run_code(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for write in (
        lambda: torch.save(Bomb(), release / "pytorch_model.bin"),
        lambda: (release / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb())),
    ):
        write()
        with pytest.raises(GraphFormatError):
            load_official(release)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"hidden_dim": 50}, {}),
        ({"n_layer": 0}, {}),
        ({"n_layer": 3}, {}),
        ({"n_node": 3}, {}),
        ({"proj_dim": [1, 2]}, {}),
        ({"hidden_dim": "wide"}, {}),
        ({}, {"emb_dim": {"disease": 21}}),
        ({}, {"relation_type": {"ppi": 1, "interacts with": 1}}),
        ({}, {"node_type": None}),
    ],
)
def test_settings_that_do_not_fit_are_one_line(tmp_path: Path, model: dict, data: dict) -> None:
    with pytest.raises(GraphFormatError) as error:
        load_official(write_release(tmp_path / "bad", None, model, data))
    assert "\n" not in str(error.value)


def test_saved_bridge_comes_back_bit_for_bit(release: Path, tmp_path: Path) -> None:
    bridge = load_official(release)
    digest = save_bridge(bridge, tmp_path / "home")
    loaded, found = load_bridge(tmp_path / "home")
    assert isinstance(loaded, OfficialBridge) and found == digest and loaded.dims == DIMS
    x = vectors(6, 20)
    assert np.array_equal(loaded.transform(x, ASSOCIATED), bridge.transform(x, ASSOCIATED))
    assert np.array_equal(loaded.project(x, "disease"), bridge.project(x, "disease"))


@pytest.mark.parametrize("edit", [{"model": None}, {"node_type": {}}, {"model": {"hidden_dim": 48}}])
def test_a_saved_bridge_with_other_settings_is_damaged(release: Path, tmp_path: Path, edit: dict) -> None:
    save_bridge(load_official(release), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if edit == {"node_type": {}}:
        del config["node_type"]
    else:
        config |= edit
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(HomeError) as error:
        load_bridge(tmp_path)
    assert "\n" not in str(error.value)
