"""From a protein sequence or a molecule to candidate drugs and cited answers, over a biomedical knowledge graph.

    from biobridge_rag import open_engine

    engine = open_engine()
    engine.candidates(node="EGFR", to="drug", top=10)

Importing this package loads nothing heavy; `open_engine` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biobridge_rag.assembly import Engine
    from biobridge_rag.config import Settings

__version__ = "0.1.0"
__all__ = ["__version__", "open_engine"]


def open_engine(settings: Settings | None = None) -> Engine:
    """The engine that the settings describe (those of the environment where none are given).

    Raises BiobridgeError with one line on what is missing or does not fit.
    """
    from biobridge_rag.assembly import open_engine as open_from_assembly

    return open_from_assembly(settings)
