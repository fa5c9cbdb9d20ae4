"""Weights from a replayed fair-esm site and a replayed hub: which files, into which folder, and how no network is told."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from pathlib import Path

import pytest

from biobridge_rag.cli_fetch import summary
from biobridge_rag.encoders import weights as places
from biobridge_rag.encoders.weights import Source, find_checkpoint, find_model_folder
from biobridge_rag.errors import FetchError, InputError
from biobridge_rag.fetching import fetch_weights
from biobridge_rag.fetching import weights as fetching_weights
from biobridge_rag.fetching.http import Http
from biobridge_rag.fetching.model_code import code_files
from biobridge_rag.fetching.records import read_record
from biobridge_rag.fetching.weights import wanted_files
from tests.fetching.conftest import Asked, Reply, Server, ranged

NAME = "esm2_t6_8M_UR50D"
MODEL = "someone/tiny-bert"
SHA = "0123456789abcdef0123456789abcdef01234567"
HUB_FILES = {
    "README.md": b"---\nlicense: mit\n---\n", "config.json": b'{"model_type": "bert"}', "model.safetensors": b"safe" * 100,
    "pytorch_model.bin": b"old" * 100, "tokenizer.json": b"{}", "vocab.txt": b"a\nb\n", "onnx/model.onnx": b"x", "modeling_own.py": b"1",
    "1_Pooling/config.json": b"{}", "tf_model.h5": b"x", "flax_model.msgpack": b"x",
}  # fmt: skip


def quiet() -> Http:
    return Http(sleep=lambda _: None)


def test_esm_comes_into_fair_esms_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(places, "ESM_URL", server.url)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    server.on(f"/models/{NAME}.pt", ranged(b"weights" * 99))
    server.on(f"/regression/{NAME}-contact-regression.pt", Reply(status=404))
    with pytest.raises(FetchError, match=r"contact-regression\.pt has gone"):
        fetch_weights(NAME, http=quiet())
    server.on(f"/regression/{NAME}-contact-regression.pt", ranged(b"regression"))
    outcome = fetch_weights(NAME, http=quiet())
    found = find_checkpoint(NAME, Source())
    assert found is not None and found.read_bytes() == b"weights" * 99 and found.with_name(f"{NAME}-contact-regression.pt").is_file()
    assert set(outcome.kept) == {f"{NAME}.pt"} and outcome.kept[f"{NAME}.pt"].licence.name == "MIT"
    server.asked.clear()
    assert fetch_weights(NAME, http=quiet()).fetched == {} and server.asked == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"{NAME}.pt").write_bytes(b"of fair-esm")
    outcome = fetch_weights(NAME, tmp_path / "mine", http=quiet())
    assert outcome.kept[f"{NAME}.pt"].note == "was there before" and server.paths() == [f"/regression/{NAME}-contact-regression.pt"]
    assert find_checkpoint(NAME, Source(tmp_path / "mine")) == tmp_path / "mine" / f"{NAME}.pt"


def hub(server: Server, files: dict[str, bytes] = HUB_FILES) -> Server:
    listed = [{"rfilename": name} for name in files]
    info = {
        "_id": "1",
        "id": MODEL,
        "sha": SHA,
        "private": False,
        "gated": False,
        "siblings": listed,
        "cardData": {"license": "apache-2.0"},
    }
    for path in (f"/api/models/{MODEL}", f"/api/models/{MODEL}/revision/{SHA}"):
        server.on(path, Reply(json.dumps(info).encode(), headers={"Content-Type": "application/json"}))
    tree = [{"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name} for name, data in files.items()]
    server.on(f"/api/models/{MODEL}/tree/{SHA}", Reply(json.dumps(tree).encode(), headers={"Content-Type": "application/json"}))
    for name, data in files.items():

        def script(asked: Asked, data: bytes = data) -> Reply:
            return Reply(data, headers={"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA})

        server.on(f"/{MODEL}/resolve/{SHA}/{name}", script)
    return server


def test_a_model_of_the_hub_comes_with_what_loading_needs(server: Server, tmp_path: Path) -> None:
    outcome = fetch_weights(MODEL, tmp_path / "m", endpoint=hub(server).url)
    got = {str(p.relative_to(tmp_path / "m")) for p in (tmp_path / "m").rglob("*") if p.is_file() and ".cache" not in p.parts}
    wanted = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "1_Pooling/config.json"}
    assert got - {".fetching.lock", "fetched.json"} == wanted == set(outcome.fetched) == set(read_record(tmp_path / "m"))
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == HUB_FILES["model.safetensors"]
    assert find_model_folder(MODEL, Source(tmp_path / "m")) == tmp_path / "m"
    assert outcome.fetched["config.json"].licence.name == "apache-2.0" and outcome.fetched["config.json"].options == SHA
    server.asked.clear()
    again = fetch_weights(MODEL, tmp_path / "m", endpoint=server.url)
    assert again.fetched == {} and set(again.kept) == wanted and not any("resolve" in path for path in server.paths())


def test_weights_are_taken_once() -> None:
    assert "pytorch_model.bin" not in wanted_files(list(HUB_FILES))
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert wanted_files([*shards, "pytorch_model.bin", "pytorch_model.bin.index.json"]) == shards
    old = ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"]
    assert wanted_files([*old, "training_args.bin", "optimizer.pt", "../x.json", "a/b.json"]) == old


CONFIG = {
    "model_type": "molformer",
    "auto_map": {"AutoConfig": "configuration_molformer.MolformerConfig", "AutoModel": "modeling_molformer.MolformerModel"},
}
TOKENIZER = {
    "auto_map": {"AutoTokenizer": ["tokenization_molformer.MolformerTokenizer", "tokenization_molformer_fast.MolformerTokenizerFast"]}
}
# As they lie at ibm/MoLFormer-XL-both-10pct; the fast tokenizer imports the slow one.
MOLFORMER = {
    "config.json": json.dumps(CONFIG).encode(), "tokenizer_config.json": json.dumps(TOKENIZER).encode(), "tokenizer.json": b"{}",
    "vocab.json": b"{}", "model.safetensors": b"safe", "pytorch_model.bin": b"old", "README.md": b"-",
    "configuration_molformer.py": b"raise SystemExit('ran')\nfrom transformers import PretrainedConfig\n",
    "modeling_molformer.py": b"raise SystemExit('ran')\nfrom .configuration_molformer import MolformerConfig\nfrom .rotary import Rotary\n",
    "rotary.py": b"import math\n    from .far import x\n", "far.py": b"from .rotary import y\n",
    "tokenization_molformer_fast.py": b"from .tokenization_molformer import MolformerTokenizer\n", "tokenization_molformer.py": b"#\n",
    "convert_molformer_checkpoint.py": b"from .far import x\n",
}  # fmt: skip


def test_code_that_a_model_needs_comes_with_it_as_files(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What auto_map names and what that imports, through two more files; not what nothing asks for. A fetch of before is completed."""
    endpoint, folder = hub(server, MOLFORMER).url, tmp_path / "m"
    with monkeypatch.context() as before:
        before.setattr(fetching_weights, "code_files", lambda *_: ([], []))
        assert not [name for name in fetch_weights(MODEL, folder, endpoint=endpoint).fetched if name.endswith(".py")]
    outcome = fetch_weights(MODEL, folder, endpoint=endpoint)
    code = {name for name in MOLFORMER if name.endswith(".py")} - {"convert_molformer_checkpoint.py"}
    assert set(outcome.fetched) == set(MOLFORMER) - {"pytorch_model.bin", "convert_molformer_checkpoint.py"}
    assert {name for name, entry in outcome.fetched.items() if "runs only with --remote-code" in entry.note} == code
    assert all((folder / name).read_bytes() == MOLFORMER[name] for name in outcome.fetched)
    assert any("modeling_molformer.py" in line and "--remote-code" in line for line in summary(outcome))
    server.asked.clear()
    again = fetch_weights(MODEL, folder, endpoint=endpoint)
    assert again.fetched == {} and set(again.kept) == set(outcome.fetched) and not any("resolve" in path for path in server.paths())
    (folder / "far.py").write_text("# changed by hand\n")
    os.utime(folder / "far.py", (time.time() + 10,) * 2)  # the hub's client takes a second for no time
    assert "far.py" in fetch_weights(MODEL, folder, endpoint=endpoint).fetched and (folder / "far.py").read_bytes() == MOLFORMER["far.py"]


@pytest.mark.parametrize(("named", "absent"), [
    ("gone.Model", "gone.py"), ("other/model--code.Model", "other/model--code"), ("../up.Model", "../up.py"), ("a/b.Model", "a/b.py"),
])  # fmt: skip
def test_code_that_is_not_there_is_told(server: Server, tmp_path: Path, named: str, absent: str) -> None:
    """A model of a kind that transformers knows can do without."""
    config = json.dumps({"auto_map": {"AutoModel": named, "AutoConfig": f"{MODEL}--own.Config", "AutoTokenizer": [None, 3]}}).encode()
    files = {"config.json": config, "model.safetensors": b"x", "own.py": b"", "a/b.py": b"", "code.py": b""}
    outcome = fetch_weights(MODEL, tmp_path / "m", endpoint=hub(server, files).url)
    assert set(outcome.fetched) == {"config.json", "model.safetensors", "own.py"}
    assert outcome.fetched["config.json"].note == f"it asks for code that is not fetched: {absent}"


@pytest.mark.parametrize("config", [b"", b"[]", b'{"auto_map": "x"}', b'{"auto_map": null}', b"\xff"])
def test_a_configuration_that_names_no_code_asks_for_none(tmp_path: Path, config: bytes) -> None:
    (tmp_path / "config.json").write_bytes(config)
    assert code_files(tmp_path, MODEL, ["x.py"]) == ([], [])


def test_names_and_models_that_do_not_fit_are_told(server: Server, tmp_path: Path) -> None:
    for name in ("esm2_t7", "bert", "a/b/c", "../x", "https://x/y"):
        with pytest.raises(InputError, match="no weights called"):
            fetch_weights(name)
    hub(server, {"config.json": b"{}", "onnx/model.onnx": b"x"})
    with pytest.raises(FetchError, match=r"neither model\.safetensors"):
        fetch_weights(MODEL, tmp_path, endpoint=server.url)
    server.on(f"/api/models/{MODEL}", Reply(b'{"error":"Repository not found"}', 404, {"X-Error-Code": "RepoNotFound"}))
    with pytest.raises(FetchError, match="is not on the hub") as caught:
        fetch_weights(MODEL, tmp_path, endpoint=server.url)
    assert "\n" not in str(caught.value)


def test_encoders_are_fetched_by_their_short_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an encoder that lacks its weights says to fetch can be fetched by that name."""
    asked: list[object] = []
    monkeypatch.setattr(fetching_weights, "_fetch_hub", lambda name, *more: asked.append((name, *more[3:])))
    monkeypatch.setattr(fetching_weights, "_fetch_esm", lambda name, *_: asked.append(name))
    for name in ("biomedbert", "chemberta", "esm1b_t33_650M_UR50S"):
        fetch_weights(name)
    fetch_weights("unimol", tmp_path)
    assert asked == [
        ("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext",),
        ("seyonec/ChemBERTa-zinc-base-v1",),
        "esm1b_t33_650M_UR50S",
        ("dptech/Uni-Mol-Models", ("mol_pre_all_h_220816.pt", "mol.dict.txt")),
    ]
    with pytest.raises(InputError, match="a folder of their own"):
        fetch_weights("unimol")


def test_only_the_files_that_are_wanted_come(server: Server, tmp_path: Path) -> None:
    files = {"a.pt": b"a" * 50, "b.pt": b"b", "dict.txt": b"C\n"}
    endpoint = hub(server, files).url
    outcome = fetching_weights._fetch_hub(MODEL, tmp_path / "m", None, endpoint, ("a.pt", "dict.txt"))
    assert set(outcome.fetched) == {"a.pt", "dict.txt"} and (tmp_path / "m" / "a.pt").read_bytes() == files["a.pt"]
    with pytest.raises(FetchError, match=r"has no gone\.pt any more"):
        fetching_weights._fetch_hub(MODEL, tmp_path / "n", None, endpoint, ("gone.pt",))


def test_no_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(FetchError, match=r"The hub cannot be reached for someone/tiny-bert: \S.*") as caught:
            fetch_weights(MODEL, tmp_path, endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert "--weights" in caught.value.help


def test_the_offline_switch_of_the_hub_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub(server)
    with pytest.raises(FetchError, match=r"cannot be reached") as caught:
        fetch_weights(MODEL, tmp_path, endpoint=server.url)
    assert server.asked == [] and "HF_HUB_OFFLINE" in caught.value.help
