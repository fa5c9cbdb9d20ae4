"""Molecule encoders that were trained at scale: ChemBERTa and MoLFormer over SMILES, Uni-Mol over conformers.

Knows: which models there are, unimol_tools. Does not know: how a transformer is run, graphs, training.

No molecule is cut or stands as zeros: what a model cannot read is named by `unusable` and refused by `encode`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.chemistry import conformer, mol_or_none, rdkit_version
from biobridge_rag.encoders.batching import gathered
from biobridge_rag.encoders.folders import Layout
from biobridge_rag.encoders.language import Published, find, resolve
from biobridge_rag.encoders.transformer import TransformerEncoder
from biobridge_rag.encoders.weights import Source, fingerprint, missing
from biobridge_rag.errors import InputError, MoleculeError
from biobridge_rag.types import Encoder, Indices, Modality, Vectors

MOLECULE_NAMES: dict[str, Published] = {
    # Chithrananda et al. 2020, arXiv 2010.09885, and Ahmad et al. 2022, arXiv 2209.01712. They name no pooling: taken is the mean over
    # the tokens of the SMILES, without those around it.
    "chemberta": Published("chemberta", ("seyonec/ChemBERTa-zinc-base-v1",), "inner"),
    "chemberta2": Published("chemberta2", ("DeepChem/ChemBERTa-77M-MTR",), "inner"),
    # Ross et al. 2022, arXiv 2106.09553: the mean over all tokens, as its own pooler takes it.
    "molformer": Published("molformer", ("ibm-research/MoLFormer-XL-both-10pct", "ibm/MoLFormer-XL-both-10pct"), "mean", 202),
    # Zhou et al. 2023, ICLR: the first token.
    "unimol": Published("unimol", ("dptech/Uni-Mol-Models",), "cls"),
}


class SmilesEncoder(TransformerEncoder):
    """`encode`: n SMILES, read as they are -> (n, dim). A SMILES that RDKit cannot read or that has more tokens than the model reads
    is refused by MoleculeError: cut, it would be another molecule."""

    modality = Modality.MOLECULE
    cuts = False

    def __init__(self, name: str, model: Published, source: Source) -> None:
        super().__init__(model.label, source)
        self._name, self._model = name, model

    @cached_property
    def layout(self) -> Layout:
        return find("molecule", self._name, self._model, self._source)

    def _refusal(self, value: str) -> InputError | None:
        return None if mol_or_none(value) is not None else MoleculeError(f"RDKit cannot read the SMILES {value[:60]!r}.")

    def _too_long(self, value: str, length: int) -> InputError:
        return MoleculeError(f"The SMILES {value[:60]!r} has {length:,} tokens; the model reads 1 to {self.layout.window:,}.")


class UniMolEncoder:
    """Uni-Mol v1 with hydrogens, through the package unimol_tools: the first token over one conformer by RDKit (seed 42, as the package
    makes it), n SMILES -> (n, 512). Refused are molecules without a conformer (the package would take a flat one or zeros) and those of
    more than 256 atoms (it would drop some at random). It runs in fp32."""

    modality = Modality.MOLECULE
    dim = 512
    centred = True
    weights, dictionary = "mol_pre_all_h_220816.pt", "mol.dict.txt"
    _SEED, _ATOMS, _BATCH = 42, 256, 256

    def __init__(self, source: Source) -> None:
        if source.precision not in (None, "fp32"):
            raise InputError(f"Uni-Mol cannot run in {source.precision}.", "It runs in fp32 only.")
        self._source = source

    @cached_property
    def id(self) -> str:
        """Another RDKit may find other conformers, so that its release is part of the id."""
        return f"unimol-v1-h-cls-seed{self._SEED}-rdkit{rdkit_version()}-{fingerprint(self._files)}"

    @cached_property
    def _files(self) -> tuple[Path, Path]:
        """Weights and dictionary, in the folder or beside the file that the user named, or where unimol_tools keeps its own."""
        place = self._source.weights
        if place is None:
            folders = [Path(_unimol_tools().weights.get_weight_dir())]
        else:
            folders = [place.parent] if place.is_file() else [place, place / "unimol", place / "Uni-Mol-Models"]
        for folder in folders:
            weights = place if place is not None and place.is_file() else folder / self.weights
            if weights.is_file() and (folder / self.dictionary).is_file():
                return weights, folder / self.dictionary
        hub = f"https://huggingface.co/{MOLECULE_NAMES['unimol'].hubs[0]}"
        raise missing("molecule", "unimol", [f"{hub}: {self.weights}", self.dictionary], self._source)

    @cached_property
    def _model(self) -> Any:
        import torch

        weights, dictionary = self._files  # given by path: unimol_tools downloads what it does not find
        package = _unimol_tools()
        if self._source.device == "cuda" and not torch.cuda.is_available():
            raise InputError("PyTorch finds no CUDA device.", "Use the device cpu.")
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            state = state.get("model", state.get("model_state_dict", state))
            model = package.UniMolRepr(
                data_type="molecule", remove_hs=False, batch_size=32, use_cuda=self._source.device == "cuda", max_atoms=self._ATOMS,
                pretrained_model_path=str(weights), pretrained_dict_path=str(dictionary),
            )  # fmt: skip
        except Exception as error:  # whatever PyTorch and unimol_tools make of a bad file
            raise InputError(f"The weights {weights} are not those of Uni-Mol, or are damaged.", "Fetch them again.") from error
        absent = sorted(k for k in model.model.state_dict() if k not in state and not k.startswith("classification_head."))
        if absent:  # it loads what fits and leaves the rest random
            raise InputError(
                f"The weights {weights} are not those of Uni-Mol: {len(absent)} tables are missing, {absent[0]} first.", "Fetch them again."
            )
        return model

    def unusable(self, values: Sequence[str]) -> dict[int, str]:
        """What `encode` would refuse: place in `values` -> the reason, one sentence."""
        found: dict[int, str] = {}
        for i, value in enumerate(values):
            try:
                conformer(value, self._SEED, self._ATOMS)
            except MoleculeError as error:
                found[i] = str(error)
        return found

    def encode(self, values: Sequence[str]) -> Vectors:
        """n SMILES -> (n, 512) float32 of unit length. Raises MoleculeError for the first that cannot be used."""
        return gathered(len(values), self.dim, self.encode_batches(values))

    def encode_batches(self, values: Sequence[str]) -> Iterator[tuple[Indices, Vectors]]:
        """Places in `values` and their unit vectors, as batches finish. Raises as `encode`."""
        for start in range(0, len(values), self._BATCH):
            found = [conformer(value, self._SEED, self._ATOMS) for value in values[start : start + self._BATCH]]
            data = {"atoms": [list(atoms) for atoms, _ in found], "coordinates": [xyz for _, xyz in found]}
            vectors = _rows(self._model.get_repr(data, return_atomic_reprs=False))
            norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
            if vectors.shape != (len(found), self.dim) or not np.isfinite(norms).all() or not norms.all():
                raise InputError(f"unimol_tools gives vectors that cannot be used (shape {vectors.shape}).", "Fetch its weights again.")
            yield np.arange(start, start + len(found)), vectors / norms


def _rows(found: Any) -> Vectors:
    """The vectors as they come: a list, or under "cls_repr" from some releases."""
    return np.asarray(found["cls_repr"] if isinstance(found, dict) else found, dtype=np.float32)


def _unimol_tools() -> Any:
    """The package. Importing it opens the root logger to every message, which is undone, and lets only its warnings through."""
    level = logging.root.level
    try:
        import unimol_tools
        import unimol_tools.weights
    except ImportError as error:
        raise InputError("The package unimol_tools is not installed.", "Run: pip install 'biobridge-rag[unimol]'") from error
    finally:
        logging.root.setLevel(level)
    logging.getLogger("Uni-Mol Tools").setLevel(logging.WARNING)
    return unimol_tools


def make_molecule(name: str, source: Source, others: Sequence[str] = ()) -> Encoder:
    """The molecule encoder of a short name, a name on the hub, or a folder. Raises InputError listing the valid names."""
    model = resolve("molecule", name, MOLECULE_NAMES, others, "inner")
    return UniMolEncoder(source) if model is MOLECULE_NAMES["unimol"] else SmilesEncoder(name, model, source)
