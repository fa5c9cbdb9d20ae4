"""From a protein sequence or a molecule to candidate drugs and cited answers, over a biomedical knowledge graph.

    from biobridge_rag import open_engine

    engine = open_engine()
    engine.candidates(node="EGFR", to="drug", top=10)

For LangChain: `BioBridgeRetriever(engine=engine)` and `make_tools(engine)`.
Importing this package loads nothing heavy; `open_engine` and the names for LangChain do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biobridge_rag.assembly import Engine
    from biobridge_rag.config import Settings
    from biobridge_rag.retrieval.langchain import BioBridgeRetriever, make_tools

__version__ = "0.1.0"
__all__ = ["BioBridgeRetriever", "__version__", "make_tools", "open_engine"]


def open_engine(settings: Settings | None = None) -> Engine:
    """The engine that the settings describe (those of the environment where none are given).

    Raises BiobridgeError with one line on what is missing or does not fit.
    """
    from biobridge_rag.assembly import open_engine as open_from_assembly

    return open_from_assembly(settings)


def __getattr__(name: str) -> Any:
    if name in ("BioBridgeRetriever", "make_tools"):
        from biobridge_rag.retrieval import langchain

        return getattr(langchain, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
