"""Molecule encoders: SMILES models in the layout of the hub with tiny random weights, and Uni-Mol over a stand-in for its package."""

from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from biobridge_rag.chemistry import conformer
from biobridge_rag.encoders.chemical import MOLECULE_NAMES, UniMolEncoder, make_molecule
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import InputError, MoleculeError
from biobridge_rag.types import Encoder, Modality

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "C",
    "C[N+](C)(C)CC(=O)[O-]",
    "Clc1ccc(cc1)C(c1ccccc1)N1CCN(CC1)CCOCC(O)=O",
]
WINDOW = 40


def roberta(folder: Path) -> Path:
    """As seyonec/ChemBERTa-zinc-base-v1 lies on the hub: a byte-level BPE in two files, and weights as pytorch_model.bin only."""
    folder.mkdir(parents=True)
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SMILES, vocab_size=300, min_frequency=1, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    bpe.save_model(str(folder))
    stated = {"max_len": WINDOW, "model_max_length": WINDOW, "tokenizer_class": "RobertaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = RobertaConfig(vocab_size=bpe.get_vocab_size(), max_position_embeddings=WINDOW + 2, type_vocab_size=1, **sizes)
    config.architectures = ["RobertaForMaskedLM"]
    config.save_pretrained(folder)
    torch.manual_seed(0)
    torch.save(RobertaForMaskedLM(config).state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return roberta(tmp_path_factory.mktemp("models") / "seyonec" / "ChemBERTa-zinc-base-v1")


def reference(folder: Path, smiles: str) -> np.ndarray:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        x = model(**tokenizer(smiles, return_tensors="pt")).last_hidden_state[0, 1:-1].mean(0).numpy()
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("name", ["chemberta", "chemberta2", "seyonec/ChemBERTa-zinc-base-v1", "path"])
def test_vectors_equal_the_bare_model(folder: Path, name: str) -> None:
    encoder = make_molecule(str(folder), Source()) if name == "path" else make_molecule(name, Source(folder))
    assert isinstance(encoder, Encoder) and encoder.modality is Modality.MOLECULE
    vectors = encoder.encode(SMILES)
    assert vectors.shape == (5, encoder.dim) == (5, 32) and vectors.dtype == np.float32
    assert np.allclose(vectors, [reference(folder, smiles) for smiles in SMILES], atol=1e-5)
    assert np.allclose(np.concatenate([encoder.encode([smiles]) for smiles in SMILES]), vectors, atol=1e-5)
    assert f"-inner-{WINDOW}-" in encoder.id


def test_a_molecule_that_cannot_be_read_whole_is_reported_and_refused(folder: Path) -> None:
    encoder = make_molecule("chemberta", Source(folder))
    long = ".".join(["[Na+]"] * 30)
    found = encoder.unusable(["CCO", "C1CC", long, ""])  # type: ignore[attr-defined]
    assert sorted(found) == [1, 2, 3] and "RDKit cannot read" in found[1] and f"the model reads 1 to {WINDOW}" in found[2]
    for values in (["CCO", "C1CC", long], ["CCO", long, "C1CC"]):
        with pytest.raises(MoleculeError) as error:
            encoder.encode(values)
        assert values[1][:20] in str(error.value)
    assert encoder.unusable(SMILES) == {}  # type: ignore[attr-defined]


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"named 'molbert'.*chemberta, chemberta2, molformer, unimol"):
        make_molecule("molbert", Source())
    for name in set(MOLECULE_NAMES) - {"unimol"}:
        with pytest.raises(InputError, match=f"{name}.* not in .*huggingface.co/{MOLECULE_NAMES[name].hubs[0]}"):
            _ = make_molecule(name, Source(tmp_path)).id


CODE = """
from transformers import RobertaConfig, RobertaModel
{extra}
class TinyConfig(RobertaConfig):
    model_type = "tiny-chemistry"
class TinyModel(RobertaModel):
    config_class = TinyConfig
"""


def foreign(folder: Path, extra: str = "", kind: str = "tiny-chemistry") -> Path:
    """A model that brings its own code, as MoLFormer does."""
    roberta(folder)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "code_of_tiny.TinyConfig", "AutoModel": "code_of_tiny.TinyModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind, "auto_map": code}))
    (folder / "code_of_tiny.py").write_text(CODE.format(extra=extra).replace("tiny-chemistry", kind))
    return folder


@pytest.fixture()
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies foreign code to."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def test_foreign_code_is_run_only_where_allowed(tmp_path: Path, modules: None) -> None:
    mark = tmp_path / "ran"
    folder = foreign(tmp_path / "model", f"open({str(mark)!r}, 'w').close()")
    encoder = make_molecule("molformer", Source(folder))
    with pytest.raises(InputError, match=r"\(tiny-chemistry\) needs the Python code"):
        encoder.encode(["CCO"])
    assert not mark.exists()
    allowed = make_molecule("molformer", Source(folder, remote_code=True))
    assert allowed.encode(["CCO", "C"]).shape == (2, 32) and mark.exists()
    before = allowed.id
    (folder / "code_of_tiny.py").write_text("#\n" + (folder / "code_of_tiny.py").read_text())
    assert make_molecule("molformer", Source(folder, remote_code=True)).id != before


def test_foreign_code_that_fails_is_one_line(tmp_path: Path, modules: None) -> None:
    folder = foreign(tmp_path / "model", "from transformers.onnx import OnnxConfig", kind="tiny-broken")
    with pytest.raises(InputError, match=r"code that comes with the model in .* fails under the installed transformers: .*onnx") as error:
        make_molecule("molformer", Source(folder, remote_code=True)).encode(["CCO"])
    assert "\n" not in str(error.value)


def test_conformers_are_whole_and_repeatable() -> None:
    atoms, xyz = conformer("CCO", 42, 256)
    conformer.cache_clear()
    assert len(atoms) == 9 and sorted(set(atoms)) == ["C", "H", "O"] and xyz.shape == (9, 3) and xyz.dtype == np.float32
    assert np.array_equal(conformer("CCO", 42, 256)[1], xyz) and not np.array_equal(conformer("CCO", 7, 256)[1], xyz)
    assert 1.2 < np.linalg.norm(xyz[1] - xyz[2]) < 1.6  # C-O, angstrom
    assert conformer("[Fe]", 42, 256)[1].shape == (1, 3)


class FakeRepr:
    """Keeps what it was made with; its vectors follow from the atoms and the coordinates."""

    made: list[dict[str, object]] = []  # noqa: RUF012
    named = False  # whether vectors come under a name, as from older releases

    def __init__(self, **given: object) -> None:
        type(self).made.append(given)
        self.model = torch.nn.ModuleDict({"embed_tokens": torch.nn.Embedding(31, 4), "classification_head": torch.nn.Linear(4, 1)})
        self.model.load_state_dict(torch.load(given["pretrained_model_path"])["model"], strict=False)

    def get_repr(self, data: dict[str, list], return_atomic_reprs: bool = False) -> object:
        assert not return_atomic_reprs and all(len(a) == len(x) for a, x in zip(data["atoms"], data["coordinates"], strict=True))
        rows = [np.resize([len(a), a.count("H"), *np.ravel(x)[:6]], 512).astype(np.float32) for a, x in zip(*data.values(), strict=True)]
        return {"cls_repr": rows} if self.named else rows


@pytest.fixture()
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """unimol_tools with its weights (names and form of release 220816) in the folder that is given."""
    module, weights = types.ModuleType("unimol_tools"), types.ModuleType("unimol_tools.weights")
    module.UniMolRepr, module.weights = FakeRepr, weights  # type: ignore[attr-defined]
    weights.get_weight_dir = lambda: str(tmp_path)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unimol_tools", module)
    monkeypatch.setitem(sys.modules, "unimol_tools.weights", weights)
    FakeRepr.made.clear()
    torch.save({"model": {"embed_tokens.weight": torch.zeros(31, 4), "lm_head.bias": torch.zeros(31)}}, tmp_path / UniMolEncoder.weights)
    (tmp_path / UniMolEncoder.dictionary).write_text("[PAD]\n[CLS]\n[SEP]\n[UNK]\nC\nN\nO\nH\n")
    return tmp_path


def test_unimol_reads_named_files_and_gives_unit_rows(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = logging.root.level
    encoder = make_molecule("unimol", Source())
    assert isinstance(encoder, UniMolEncoder) and encoder.dim == 512 and encoder.id.startswith("unimol-v1-h-cls-seed42-rdkit")
    assert not FakeRepr.made
    monkeypatch.setattr(UniMolEncoder, "_BATCH", 2)
    vectors = encoder.encode(SMILES)
    assert vectors.shape == (5, 512) and np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert np.allclose(vectors[::-1], encoder.encode(SMILES[::-1])) and encoder.encode([]).shape == (0, 512)
    monkeypatch.setattr(FakeRepr, "named", True)
    assert np.array_equal(encoder.encode(SMILES), vectors)
    made = FakeRepr.made[0]
    assert len(FakeRepr.made) == 1 and made["data_type"] == "molecule" and made["remove_hs"] is False and made["use_cuda"] is False
    assert made["pretrained_model_path"] == str(package / UniMolEncoder.weights)
    assert made["pretrained_dict_path"] == str(package / UniMolEncoder.dictionary)
    assert make_molecule("unimol", Source(package / UniMolEncoder.weights)).id == encoder.id
    assert logging.root.level == level


def test_molecules_without_a_conformer_are_reported_and_refused(package: Path) -> None:
    encoder = make_molecule("unimol", Source(package))
    values = ["CCO", "C1#CC1", "C" * 100, "C1CC", "C1CC2=CC1C2"]
    found = encoder.unusable(values)  # type: ignore[attr-defined]
    assert sorted(found) == [1, 2, 3, 4]
    assert "no conformer" in found[1] and "302 atoms" in found[2] and "cannot read" in found[3] and "no conformer" in found[4]
    with pytest.raises(MoleculeError, match="C1#CC1"):
        encoder.encode(values)


def test_unimol_never_downloads(package: Path) -> None:
    (package / UniMolEncoder.dictionary).unlink()
    for source in (Source(), Source(package)):
        with pytest.raises(InputError, match=r"unimol.*mol_pre_all_h_220816.pt and mol.dict.txt"):
            make_molecule("unimol", source).encode(["CCO"])
    assert not FakeRepr.made


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no weights", "or are damaged"), ({"model": {"lm_head.bias": torch.zeros(3)}}, r"1 tables are missing, embed_tokens.weight")],
)
def test_weights_of_another_model_are_refused(package: Path, content: object, said: str) -> None:
    file = package / UniMolEncoder.weights
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(InputError, match=said):
        make_molecule("unimol", Source(package)).encode(["CCO"])


def test_vectors_that_are_none_are_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ([np.zeros(512)], [np.full(512, np.nan)], [np.ones(8)], []):
        monkeypatch.setattr(FakeRepr, "get_repr", lambda *_a, _bad=bad, **_k: _bad)
        with pytest.raises(InputError, match="cannot be used"):
            make_molecule("unimol", Source(package)).encode(["CCO"])


def test_unimol_in_half_precision_is_refused() -> None:
    with pytest.raises(InputError, match="fp16"):
        make_molecule("unimol", Source(precision="fp16"))


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unimol_tools", None)
    with pytest.raises(InputError, match=r"biobridge-rag\[unimol\]"):
        _ = make_molecule("unimol", Source()).id
