"""Which Python files a model's folder needs to be loaded: those that its "auto_map" names, and what they import from one another.

Knows: the JSON files and the imports that transformers follows. Does not know: networks. The files are read as text, never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

_NAMED_IN = ("config.json", "tokenizer_config.json")
_MODULE = re.compile(r"\w+")
# As transformers' dynamic_module_utils.get_relative_imports finds them: "import .x" and "from .x import y".
_IMPORT = re.compile(r"^\s*(?:import\s+\.(\w+)\s*$|from\s+\.(\w+)\s+import\b)", re.MULTILINE)


def code_files(folder: Path, model: str, listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the files that lie in `folder` ask for, both sorted: Python files among those that `model` (ORGANISATION/MODEL) has
    (`listed`), and what it has not: files, or code of another model as "other/model--module". To be called again when the files that
    it names are there, for what they import in turn."""
    found, absent = set[str](), set[str]()
    pending = [module for name in _NAMED_IN for module in _named(folder / name)]
    while pending:
        module = pending.pop().removeprefix(f"{model}--")
        file = f"{module}.py"
        if not _MODULE.fullmatch(module) or file not in listed:
            absent.add(module if "--" in module else file)
        elif file not in found:
            found.add(file)
            pending += _imported(folder / file)
    return sorted(found), sorted(absent)


def _named(file: Path) -> list[str]:
    """The modules that a configuration names: "module.Class", "other/model--module.Class", or a pair of those or None."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever loads the model says what is wrong with its configuration
        return []
    named = content.get("auto_map") if isinstance(content, dict) else None
    values = list(named.values()) if isinstance(named, dict) else [named]
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one.rpartition(".")[0] for one in flat if isinstance(one, str) and "." in one]


def _imported(file: Path) -> list[str]:
    return [a or b for a, b in _IMPORT.findall(file.read_text(encoding="utf-8", errors="replace"))] if file.is_file() else []
