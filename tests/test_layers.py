"""The import contracts of pyproject.toml hold, would notice a breach, and cover every module; importing the package is light.

Knows: import-linter and the package's files. Does not know: what any module does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "gradio", "chromadb", "rdkit", "transformers", "sentence_transformers", "langchain", "pyarrow", "scipy")

BREACHES = {
    "Imports go down the layers only": ("types.py", "import biobridge_rag.chemistry"),
    "Only the assembly, the command line and the page read the settings": ("retrieval/__init__.py", "import biobridge_rag.config"),
    "Chroma stays in store.index": ("chemistry.py", "def late():\n    import chromadb"),
    "RDKit stays in chemistry, encoders.molecule and generation": ("errors.py", "from rdkit.Chem import QED"),
    "Gradio stays in the page": ("types.py", "import gradio as gr"),
    "Chat models stay in qa.llm": ("chemistry.py", "from langchain_openai import ChatOpenAI"),
}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo", "--config", str(root / "pyproject.toml")]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)


def test_the_import_contracts_hold() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_notices_a_breach(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "biobridge_rag", tmp_path / "biobridge_rag", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in BREACHES.values():
        with (tmp_path / "biobridge_rag" / file).open("a") as module:
            module.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    verdicts = dict(re.findall(r"^(\S.*) (KEPT|BROKEN)", result.stdout, flags=re.MULTILINE))
    assert verdicts == dict.fromkeys(BREACHES, "BROKEN"), result.stdout


def test_the_contracts_see_every_module() -> None:
    seen = grimp.build_graph("biobridge_rag", cache_dir=None).modules
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "biobridge_rag").rglob("*.py")]
    names = {".".join(file.parts).removesuffix(".__init__") for file in files}
    assert names == seen


def test_modules_take_only_the_version_from_the_package_itself() -> None:
    graph = grimp.build_graph("biobridge_rag", cache_dir=None)
    for importer in graph.find_modules_that_directly_import("biobridge_rag"):
        for place in graph.get_import_details(importer=importer, imported="biobridge_rag"):
            assert place["line_contents"] == "from biobridge_rag import __version__", place


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, biobridge_rag; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == []
