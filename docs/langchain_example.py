"""biobridge-rag in LangChain: the retriever, the tools, and an agent that calls them.

python docs/langchain_example.py                          what the retriever and two tools return; no language model
python docs/langchain_example.py openai:gpt-4o-mini       an agent; any model that init_chat_model knows and that can call tools
"""

from __future__ import annotations

import sys
from typing import Any

from biobridge_rag import BioBridgeRetriever, make_tools, open_engine


def agent(engine: Any, model: Any) -> Any:
    from langchain.agents import create_agent

    return create_agent(model, make_tools(engine), system_prompt="Answer from the tools' results alone, and name their sources.")


def main(model: str = "") -> None:
    engine = open_engine()
    if model:
        said = agent(engine, model).invoke({"messages": [("user", "Which drugs target ABL1, and how could they act in asthma?")]})
        print(said["messages"][-1].content)
        return
    retriever = BioBridgeRetriever(engine=engine, to="drug", top=5)
    for document in retriever.invoke("Which drugs act on ABL1?"):
        print(f"{document.metadata['rank']}. {document.metadata['name']} (known: {document.metadata['known']}): {document.metadata['url']}")
    tools = {tool.name: tool for tool in make_tools(engine)}
    print(tools["find_paths"].invoke({"head": "imatinib", "tail": "asthma", "limit": 1}))
    print(tools["validate_molecule"].invoke({"smiles": "CC(=O)Oc1ccccc1C(=O)O"}))


if __name__ == "__main__":
    main(*sys.argv[1:2])
