"""The prompt templates: files of plain text whose variables are checked at load, filled with fenced data.

Knows: the folder `prompts` (in the wheel, or beside the package in a source checkout). Does not know: evidence, models, LangChain.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template

from biobridge_rag.errors import BiobridgeError

VARIABLES: dict[str, frozenset[str]] = {
    "system": frozenset(),
    "answer": frozenset({"evidence", "history", "question"}),
    "plan": frozenset({"entities", "question"}),
}
FENCE_OPEN, FENCE_CLOSE = "<<<DATA", "DATA>>>"
MAX_FIELD = 60_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """A filled template: what the model is told it is (`system`), what it is asked (`user`), and the hash of both."""

    name: str
    system: str
    user: str
    sha256: str

    def messages(self) -> list[tuple[str, str]]:
        return [("system", self.system), ("user", self.user)]


def fenced(text: str) -> str:
    """Data that cannot close its fence: markers lose their angle brackets, control characters become spaces; cut at 60,000 characters."""
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text[:MAX_FIELD])
    return text.replace("<<<", "‹‹‹").replace(">>>", "›››")


def prompt_directory() -> Path:
    """Where the templates are. Raises BiobridgeError if they are in neither place."""
    package = Path(__file__).resolve().parents[1]
    for directory in (package / "prompts", package.parent / "prompts"):
        if directory.is_dir():
            return directory
    raise BiobridgeError("The folder of prompt templates is missing.", f"Expected it at {package / 'prompts'}.")


@lru_cache(maxsize=32)
def load_template(name: str, directory: Path | None = None) -> Template:
    """The template `name`.txt, with exactly the variables that VARIABLES lists for it.

    Raises BiobridgeError for a name that is not listed, a file that cannot be read, and a variable unknown, missing or misspelled.
    """
    if name not in VARIABLES:
        raise BiobridgeError(f"There is no prompt template {name!r}.", f"There are: {', '.join(sorted(VARIABLES))}.")
    path = (directory or prompt_directory()) / f"{name}.txt"
    try:
        template = Template(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BiobridgeError(f"The prompt template {path.name} cannot be read: {error}.") from error
    if not template.is_valid():
        raise BiobridgeError(f"The prompt template {path.name} has a lone '$'.", "Write '$$' for the sign itself.")
    found = set(template.get_identifiers())
    for which, names in (("an unknown", found - VARIABLES[name]), ("no", VARIABLES[name] - found)):
        if names:
            shown = ", ".join(f"${n}" for n in sorted(names))
            raise BiobridgeError(f"The prompt template {path.name} has {which} variable {shown}.", _allowed(name))
    return template


def render(name: str, directory: Path | None = None, **fields: str) -> Prompt:
    """The prompt of that template with its fields, each fenced. Raises BiobridgeError as load_template does, or for a wrong field."""
    template, system = load_template(name, directory), load_template("system", directory).substitute()
    wrong = set(fields) ^ VARIABLES[name]
    if wrong:
        raise BiobridgeError(f"The prompt {name!r} was given wrong fields: {', '.join(sorted(wrong))}.", _allowed(name))
    user = template.substitute({key: fenced(value) for key, value in fields.items()})
    return Prompt(name, system, user, hashlib.sha256(f"{system}\x1e{user}".encode()).hexdigest())


def _allowed(name: str) -> str:
    listed = ", ".join(f"${n}" for n in sorted(VARIABLES[name]))
    return f"Its variables are {listed}." if listed else "It takes none."
