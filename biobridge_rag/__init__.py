"""From a protein sequence or a molecule to candidate drugs and cited answers, over a biomedical knowledge graph.

    from biobridge_rag import open_engine

    engine = open_engine()
    engine.candidates(node="EGFR", to="drug", top=10)

To compare what answers may rest on: `evaluate_questions(engine, Path("questions.jsonl"), out=Path("qa"))`.
For LangChain: `BioBridgeRetriever(engine=engine)` and `make_tools(engine)`.
Importing this package loads nothing heavy; `open_engine` and the names for LangChain do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biobridge_rag.assembly import Engine, evaluate_questions
    from biobridge_rag.config import Settings
    from biobridge_rag.retrieval.langchain import BioBridgeRetriever, make_tools

__version__ = "0.1.0"
__all__ = ["BioBridgeRetriever", "__version__", "evaluate_questions", "make_tools", "open_engine"]


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
    if name == "evaluate_questions":
        from biobridge_rag import assembly

        return assembly.evaluate_questions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
