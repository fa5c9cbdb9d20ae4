"""The prompt templates: files of plain text whose variables are checked at load, filled with fenced data.

Knows: the folder `prompts` (in the wheel, or beside the package in a source checkout). Does not know: evidence, models, LangChain.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template

from biobridge_rag.errors import BiobridgeError

VARIABLES: dict[str, frozenset[str]] = {
    "system": frozenset(),
    "answer": frozenset({"evidence", "history", "question"}),
    "choice": frozenset({"evidence", "options", "question"}),
    "true_false": frozenset({"evidence", "question"}),
    "plan": frozenset({"entities", "question"}),
    "unaided": frozenset({"options", "question"}),
    "system_unaided": frozenset(),
    "molecules": frozenset({"constraints", "evidence", "n", "seeds", "target"}),
}
SYSTEM = {"unaided": "system_unaided"}
"""The templates that go with another system prompt than "system"."""
NUMBERS = frozenset({"n"})
"""Fields that stand in a sentence of the template itself, unfenced, and hold digits alone."""
FENCE_OPEN, FENCE_CLOSE = "<<<DATA", "DATA>>>"
MAX_FIELD = 60_000
CUT = " (cut here)"

_TAG = re.compile(r"<(?=[^\s\d<=>.,;-])")
_ROLE = re.compile(r"\[(/?[A-Z]{3,}(?:_[A-Z]+)*)\]")
_INVISIBLE = re.compile("[\u115f\u1160\u17b4\u17b5\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Letters without a shape and variation selectors: printable to Python, shown as nothing, and able to carry hidden text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A filled template: what the model is told it is (`system`), what it is asked (`user`), and the hash of both."""

    name: str
    system: str
    user: str
    sha256: str

    def messages(self) -> list[tuple[str, str]]:
        return [("system", self.system), ("user", self.user)]


def harmless(text: str) -> str:
    """Data that can neither close a fence nor speak to a tokeniser: what a reader cannot see becomes a space, <<< and >>> and the "<" of
    what could be a tag or a token such as <|im_start|> become ‹ ›, [INST] becomes (INST); cut at 60,000 characters."""
    cut = text[:MAX_FIELD] + (CUT if len(text) > MAX_FIELD else "")
    seen = "".join(c if c.isprintable() or c == "\n" else " " for c in _INVISIBLE.sub("", cut))
    return _ROLE.sub(r"(\1)", _TAG.sub("‹", seen.replace("<<<", "‹‹‹").replace(">>>", "›››")))


def fenced(text: str, code: str) -> str:
    """The data between two lines that hold the code, which comes from a hash of all data of the message: nothing in it can foresee it."""
    return f"{FENCE_OPEN} {code}\n{harmless(text)}\n{code} {FENCE_CLOSE}"


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
    """The prompt of that template with its fields, each fenced but NUMBERS; the same fields give the same prompt and hash.

    Raises BiobridgeError as load_template does, or for a wrong field.
    """
    template, system = load_template(name, directory), load_template(SYSTEM.get(name, "system"), directory).substitute()
    wrong = set(fields) ^ VARIABLES[name] | {key for key in NUMBERS & set(fields) if not re.fullmatch(r"[0-9]{1,6}", fields[key])}
    if wrong:
        raise BiobridgeError(f"The prompt {name!r} was given wrong fields: {', '.join(sorted(wrong))}.", _allowed(name))
    code = _hash("\x1e".join([name, *(f"{key}\x1f{fields[key]}" for key in sorted(fields))]))[:16]
    user = template.substitute({key: value if key in NUMBERS else fenced(value, code) for key, value in fields.items()})
    return Prompt(name, system, user, _hash(f"{system}\x1e{user}"))


def _hash(text: str) -> str:
    """Lone surrogates, which a damaged file name may hold, are hashed as "?"."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _allowed(name: str) -> str:
    listed = ", ".join(f"${n}" for n in sorted(VARIABLES[name]))
    return f"Its variables are {listed}." if listed else "It takes none."
