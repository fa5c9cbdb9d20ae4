"""Public data and weights, fetched with their checksums and licences: PrimeKG, UniProt, PubChem, the Gene Ontology, foundation models.

What was fetched, from where, when and under which licence stands in fetched.json beside the files; fetching again does nothing where
all is there, and goes on where it stopped otherwise.
"""

from __future__ import annotations

from biobridge_rag.fetching.go import fetch_go
from biobridge_rag.fetching.primekg import fetch_primekg
from biobridge_rag.fetching.pubchem import fetch_structures
from biobridge_rag.fetching.records import Entry, Licence, Outcome
from biobridge_rag.fetching.uniprot import fetch_accessions, fetch_sequences
from biobridge_rag.fetching.weights import fetch_weights

__all__ = [
    "Entry", "Licence", "Outcome", "fetch_accessions", "fetch_go", "fetch_primekg", "fetch_sequences", "fetch_structures", "fetch_weights",
]  # fmt: skip
