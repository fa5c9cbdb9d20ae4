"""The offline molecule encoder: Morgan and atom-pair counts.

Knows: SMILES and RDKit fingerprints. Does not know: graphs, training, other modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from biobridge_rag.chemistry import mol_or_none
from biobridge_rag.errors import MoleculeError
from biobridge_rag.types import Modality, Vectors

_HALF = 2048


class FingerprintEncoder:
    """Square roots of Morgan (radius 2; Rogers & Hahn 2010) and atom-pair (Carhart et al. 1985) counts, 2048 folded
    buckets each, both halves of equal length. `encode`: n SMILES -> (n, 4096) float32 of unit length."""

    id = "morgan2-atompair-4096-v1"
    modality = Modality.MOLECULE
    dim = 2 * _HALF

    @cached_property
    def _generators(self) -> tuple[Any, Any]:
        from rdkit.Chem import rdFingerprintGenerator as generator

        return generator.GetMorganGenerator(radius=2, fpSize=_HALF), generator.GetAtomPairGenerator(fpSize=_HALF)

    def encode(self, values: Sequence[str]) -> Vectors:
        """Raises MoleculeError naming the SMILES that RDKit refuses."""
        out = np.zeros((len(values), self.dim), dtype=np.float32)
        for row, smiles in enumerate(values):
            mol = mol_or_none(smiles)
            if mol is None:
                raise MoleculeError(f"RDKit cannot read the SMILES {smiles[:60]!r}.")
            for half, generator in enumerate(self._generators):
                counts = np.sqrt(generator.GetCountFingerprintAsNumPy(mol).astype(np.float32))
                norm = float(np.linalg.norm(counts))
                if norm > 0:  # a single atom has no atom pairs
                    out[row, half * _HALF : (half + 1) * _HALF] = counts / norm
            out[row] /= float(np.linalg.norm(out[row]))
        return out
