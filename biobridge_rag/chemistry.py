"""Small-molecule chemistry: parse, canonicalise, describe, draw. The only RDKit user outside generation/ and encoders/.

Knows: RDKit. Does not know: the graph, encoders, the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np

from biobridge_rag.errors import MoleculeError
from biobridge_rag.types import Vectors

MAX_SMILES = 5_000


@dataclass(frozen=True, slots=True)
class Parsed:
    """A molecule as read: `smiles` canonical and isomeric, of the largest organic fragment; `note` says what was left out."""

    smiles: str
    mol: Any
    note: str = ""


@lru_cache(maxsize=1)
def _rdkit() -> Any:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    return Chem


def mol_or_none(smiles: str) -> Any | None:
    """The RDKit molecule, or None for anything that is not one (an empty string too, which RDKit itself accepts)."""
    if not smiles or len(smiles) > MAX_SMILES:
        return None
    mol = _rdkit().MolFromSmiles(smiles)
    return mol if mol is not None and mol.GetNumAtoms() > 0 else None


def parse_smiles(smiles: str) -> Parsed:
    """Reads a SMILES of a user. Salts and mixtures are reduced to the largest fragment, and the note says so.

    Raises MoleculeError with one line on what is wrong.
    """
    text = smiles.strip().split()[0] if smiles.strip() else ""
    shown = text if len(text) <= 60 else text[:57] + "..."
    if not text:
        raise MoleculeError("The SMILES is empty.", "Give one such as CC(=O)Oc1ccccc1C(=O)O.")
    if len(text) > MAX_SMILES:
        raise MoleculeError(f"The SMILES has {len(text):,} characters; at most {MAX_SMILES:,} are read.")
    mol = mol_or_none(text)
    if mol is None:
        raise MoleculeError(f"RDKit cannot read the SMILES {shown!r}.", "Check brackets, ring closures and valences.")
    return _largest(mol)


def canonical_smiles(smiles: str) -> str:
    """The canonical isomeric SMILES of all parts, or an empty string for what RDKit cannot read."""
    mol = mol_or_none(smiles)
    return "" if mol is None else str(_rdkit().MolToSmiles(mol))


def _largest(mol: Any) -> Parsed:
    chem = _rdkit()
    fragments = chem.GetMolFrags(mol, asMols=True)
    note = ""
    if len(fragments) > 1:
        mol = max(fragments, key=lambda f: (any(a.GetAtomicNum() == 6 for a in f.GetAtoms()), f.GetNumHeavyAtoms(), chem.MolToSmiles(f)))
        note = f"a mixture or salt of {len(fragments)} parts: the largest was used"
    return Parsed(chem.MolToSmiles(mol), mol, note)


def parse_sdf(data: bytes, limit: int = 100) -> tuple[list[Parsed], list[str]]:
    """Molecules of an SDF or MOL block, at most `limit`, and notes that count the records left out. Raises MoleculeError if none parses."""
    chem = _rdkit()
    supplier = chem.ForwardSDMolSupplier(BytesIO(data), sanitize=True)
    out: list[Parsed] = []
    bad = more = 0
    for mol in supplier:
        if mol is None or mol.GetNumAtoms() == 0:
            bad += 1
        elif len(out) < limit:
            out.append(_largest(mol))
        else:
            more += 1
    if not out:
        raise MoleculeError(
            f"No molecule could be read from the SDF ({bad} bad records).", "Save it again as V2000 or V3000 SDF, or give SMILES."
        )
    notes = [f"Left out: {bad:,} records of the SDF that RDKit cannot read."] if bad else []
    if more:
        notes.append(f"The file holds {len(out) + more:,} molecules; the first {len(out)} were used.")
    return out, notes


def same_connectivity_key(mol: Any) -> str:
    """First block of the InChIKey (14 letters): equal for the same skeleton, whatever the stereo or isotope."""
    return str(_rdkit().MolToInchiKey(mol))[:14]


def inchikey(mol: Any) -> str:
    return str(_rdkit().MolToInchiKey(mol))


def murcko_scaffold(smiles: str) -> str:
    """SMILES without stereo of the ring systems and what links them, of the largest organic fragment (Bemis & Murcko 1996); an
    empty string where there is no ring or the SMILES does not parse."""
    mol = mol_or_none(smiles)
    if mol is None:
        return ""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return str(MurckoScaffold.MurckoScaffoldSmiles(mol=_largest(mol).mol))


def formula(mol: Any) -> str:
    """Molecular formula in Hill order."""
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    return str(CalcMolFormula(mol))


def describe(mol: Any) -> dict[str, float]:
    """Molecular weight (g/mol), Crippen logP, polar surface (square angstrom), H-bond donors and acceptors, QED in [0, 1]."""
    from rdkit.Chem import QED, Crippen, Descriptors, rdMolDescriptors

    return {
        "molecular_weight": round(Descriptors.MolWt(mol), 2),
        "logp": round(Crippen.MolLogP(mol), 2),
        "tpsa": round(rdMolDescriptors.CalcTPSA(mol), 1),
        "h_donors": rdMolDescriptors.CalcNumHBD(mol),
        "h_acceptors": rdMolDescriptors.CalcNumHBA(mol),
        "qed": round(QED.qed(mol), 3),
    }


def draw_svg(smiles: str, width: int = 220, height: int = 140) -> str:
    """An SVG drawing with a transparent ground, or an empty string where the SMILES does not parse."""
    mol = mol_or_none(smiles)
    if mol is None:
        return ""
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    options = drawer.drawOptions()
    options.clearBackground = False
    options.padding = 0.06
    options.bondLineWidth = 1.4
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol)
    drawer.FinishDrawing()
    svg = drawer.GetDrawingText()
    return svg[svg.index("<svg") :]


@lru_cache(maxsize=16_384)
def conformer(smiles: str, seed: int, most_atoms: int) -> tuple[tuple[str, ...], Vectors]:
    """Element symbols of all atoms, hydrogens included, and their (n, 3) float32 coordinates in angstrom: one conformer by ETKDG (Riniker
    & Landrum 2015), relaxed by MMFF94 where that knows all atoms. The same for the same seed and RDKit.

    Raises MoleculeError for a SMILES that RDKit cannot read, more than `most_atoms` atoms, or where no conformer is found.
    """
    from rdkit.Chem import AllChem

    mol = mol_or_none(smiles)
    if mol is None:
        raise MoleculeError(f"RDKit cannot read the SMILES {smiles[:60]!r}.")
    mol = _rdkit().AddHs(mol)
    if mol.GetNumAtoms() > most_atoms:
        raise MoleculeError(
            f"The molecule {smiles[:60]!r} has {mol.GetNumAtoms():,} atoms with its hydrogens; at most {most_atoms:,} are read."
        )
    if AllChem.EmbedMolecule(mol, randomSeed=seed) != 0:
        raise MoleculeError(f"RDKit finds no conformer of {smiles[:60]!r}.")
    with suppress(ValueError, RuntimeError):  # no force field for these atoms: as embedded
        AllChem.MMFFOptimizeMolecule(mol)
    return tuple(atom.GetSymbol() for atom in mol.GetAtoms()), np.asarray(mol.GetConformer().GetPositions(), dtype=np.float32)


def rdkit_version() -> str:
    import rdkit

    return str(rdkit.__version__)


def write_sdf(records: Iterator[tuple[str, dict[str, Any]]] | list[tuple[str, dict[str, Any]]]) -> str:
    """An SDF of (smiles, properties) records with 2D coordinates; the property `name` becomes the title."""
    from io import StringIO

    from rdkit.Chem import AllChem

    chem = _rdkit()
    buffer = StringIO()
    writer = chem.SDWriter(buffer)
    for smiles, properties in records:
        mol = mol_or_none(smiles)
        if mol is None:
            continue
        AllChem.Compute2DCoords(mol)
        for key, value in properties.items():
            mol.SetProp("_Name" if key == "name" else key, str(value))
        writer.write(mol)
    writer.close()
    return buffer.getvalue()
