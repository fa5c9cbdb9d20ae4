"""An agent of LangChain with the tools over the starter home, and the example of the docs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

from biobridge_rag import BioBridgeRetriever, make_tools
from biobridge_rag.assembly import Engine, open_engine
from biobridge_rag.config import Settings
from tests.end_to_end.conftest import ROOT, environment

EXAMPLE = ROOT / "docs" / "langchain_example.py"
CALLS = [
    ("find_candidates", {"query": "ABL1", "top": 5}),
    ("lookup_edges", {"entity": "imatinib", "relation": "target"}),
    ("find_paths", {"head": "imatinib", "tail": "asthma"}),
    ("validate_molecule", {"smiles": "CC(=O)Oc1ccccc1C(=O)O"}),
    ("find_paths", {"head": "imatinib", "tail": "no such thing at all"}),
]


class CallingModel(GenericFakeChatModel):
    """A chat model that asks for the given tool calls, one a turn, then says that it is done."""

    bound: list[str] = []  # noqa: RUF012

    def bind_tools(self, tools: Any, **_: Any) -> CallingModel:
        self.bound.extend(tool.name for tool in tools)
        return self


def calling() -> CallingModel:
    asked = [AIMessage("", tool_calls=[{"name": n, "args": a, "id": str(i)}]) for i, (n, a) in enumerate(CALLS)]
    return CallingModel(messages=iter([*asked, AIMessage("done")]))


@pytest.fixture(scope="module")
def engine(starter_home: Path) -> Iterator[Engine]:
    engine = open_engine(Settings(home=starter_home))
    yield engine
    engine.close()


def example() -> Any:
    spec = importlib.util.spec_from_file_location("langchain_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_agent_calls_each_tool(engine: Engine) -> None:
    model = calling()
    said = example().agent(engine, model).invoke({"messages": [("user", "What acts on ABL1?")]})["messages"]
    results = [m for m in said if isinstance(m, ToolMessage)]
    assert model.bound[:4] == [t.name for t in make_tools(engine)] and said[-1].content == "done"
    assert [m.name for m in results] == [name for name, _ in CALLS]
    candidates, edges, paths, molecule = (json.loads(m.content) for m in results[:4])
    assert len(candidates["hits"]) == 5 and candidates["hits"][0]["known"] is True
    assert "ABL1" in {e["to"]["name"] for e in edges["edges"]} and all(e["source"] for e in edges["edges"])
    assert paths["paths"] and paths["paths"][0]["metapath"].startswith("drug - ") and paths["tail"]["name"] == "asthma"
    assert molecule["in_graph"]["name"] == "aspirin"
    assert results[4].content.startswith("Error: No node is named")


def test_the_retriever_answers_as_the_engine_does(engine: Engine) -> None:
    found = BioBridgeRetriever(engine=engine, top=7).invoke("ABL1")
    hits = engine.candidates(node="ABL1", top=7).hits
    assert [(d.metadata["id"], d.metadata["probability"], d.metadata["known"]) for d in found] == [
        (h.node.id, h.probability, h.known) for h in hits
    ]


def test_the_example_of_the_docs_runs(starter_home: Path) -> None:
    given = environment(BIOBRIDGE_HOME=str(starter_home), PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, str(EXAMPLE)], env=given, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1. ") and "known: True" in lines[0] and json.loads(lines[-1])["valid"] is True
