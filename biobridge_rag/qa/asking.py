"""Reads what a question asks for: rules over its words, once its entities are masked by "_".

Knows: the nouns, verbs and question words that stand for node types and relations. Does not know: the graph, linking, earlier turns,
evidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from biobridge_rag.types import NodeType

_P, _D, _S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
_NOUNS: tuple[tuple[str, tuple[NodeType, ...]], ...] = (
    (r"drugs?|medicines?|medications?|compounds?|molecules?|inhibitors?|ligands?|agonists?|antagonists?|blockers?|therap(?:y|ies)"
     r"|treatments?|candidates?", (_D,)),
    (r"targets?|genes?|proteins?|receptors?|enzymes?|kinases?|transporters?|carriers?|mechanisms?", (_P,)),
    (r"diseases?|disorders?|indications?|conditions?|syndromes?|illness(?:es)?", (_S,)),
    (r"process(?:es)?|pathways?", (NodeType.BIOLOGICAL_PROCESS,)),
    (r"components?|compartments?|locations?|located|localis\w+|localiz\w+", (NodeType.CELLULAR_COMPONENT,)),
    (r"functions?|roles?|go terms?", (NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION)),
)  # fmt: skip
_VERBS: tuple[tuple[str, frozenset[str]], ...] = (
    (r"contraindicat", frozenset({"contraindication"})),
    (r"off-label", frozenset({"off-label use"})),
    (
        r"treat|cure|(?<!contra)indicat|approved|used (?:for|in|to|against)|prescri|therap|helps? (?:with|against)",
        frozenset({"indication"}),
    ),
    (r"metaboli[sz]|enzyme|substrate|break(?:s|ing)? down", frozenset({"enzyme"})),
    (r"transport", frozenset({"transporter"})),
    (r"carrie[rds]", frozenset({"carrier"})),
    (r"target|inhibit|bind|block|antagoni|agoni|\bacts? on|\bhits?\b|activat|modulat|ligand", frozenset({"target"})),
    (r"associat|caus|linked (?:to|with)|involved|implicated|risk", frozenset({"associated with"})),
    (r"interact|partner|\bppi\b", frozenset({"ppi", "interacts with"})),
    (r"_ (?:is|are) (?:not )?an? .*_|^is _ an? .*_|subtype|(?:kind|type|form)s? of", frozenset({"parent-child"})),
)
_OUTSIDE = (
    r"side.?effects?|adverse|toxic\w*|safe(?:ty)?\b|dos(?:e|es|age|ing)\b|half-li(?:fe|ves)|pric(?:e|es|ing)\b|costs?\b|clinical trials?"
    r"|pregnan\w+|overdose|survival|prognosis|symptoms?|prevalence|how common"
)
_MECHANISM = r"mechanis\w+|mode of action|how (?:does|do|is|are) .*\b(?:works?|acts?|treats?|helps?)\b"
_BETWEEN = re.compile(r"(?:relat\w+|connect\w+|links?|between).* _ (?:and|to|with) _|\bpaths? (?:\w+ )?(?:from|between) .*_ (?:and|to) .*_")
_CONNECTED = re.compile(
    r"how (?:is|are|does|do|can|could) .*_ .*\b(?:relate|connect|link)(?:s|ed)? (?:to|with) .*_"
    r"|how .* _ and .*_ .*\b(?:connected|related|linked)\b"
)
_COMPARE = re.compile(
    r"\b(?:compar(?:e|es|ed|ing|ison)|differ(?:s|ences?)?|versus|vs|in common)\b|\bhow (?:is|are) .*_ .*\bdifferent from .*_"
)
YES_NO = re.compile(r"(?i)^\W*(?:does|do|did|is|are|was|were|can|could|has|have|will)\b")
WH = re.compile(r"(?i)\b(?:which|what|who|where|how|why|list|show|find|give|suggest|name|tell|compare|propose|any)\b")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question asks of its entities. kind: about | tails | pair | similar | mechanism | compare | outside; `names` are relations it
    names; topic: what the graph holds nothing on (outside), or "paths" where a pair is asked how it hangs together."""

    kind: str
    tails: tuple[NodeType, ...] = ()
    names: frozenset[str] = frozenset()
    topic: str = ""


def read_question(masked: str, types: Sequence[NodeType], attached: bool = False) -> Asked:
    """Rules for a question whose entities, of these types, are masked by "_"; `attached` if the first one is no node of the graph."""
    low = " ".join(masked.lower().split())
    names = frozenset(name for pattern, found in _VERBS if re.search(pattern, low) for name in found)
    outside = re.search(_OUTSIDE, low)
    if outside:
        return Asked("outside", topic=outside.group())
    wh = WH.search(low)
    if types and _COMPARE.search(low) and not (YES_NO.match(low) and "common" not in low):
        return Asked("compare", _noun(_COMPARE.sub(" ", low)), names)
    if _D in types and re.search(_MECHANISM, low) and not re.search(r"\bdrugs\b", low):
        return Asked("mechanism", (_P,), names)
    if len(types) > 1 and (YES_NO.match(low) or not wh or connects(low)):
        return Asked("pair", names=names, topic="paths" if connects(low) and not YES_NO.match(low) else "")
    if types and re.search(r"similar|alike|resembl|homolog|analog|\blike _", low):
        return Asked("similar")
    tails = (_noun(low[wh.end() :]) if wh else ()) or _by_verb(names, types) or _noun(low)
    if set(types) == {_P} and tails == (_P,) and not names & {"ppi"}:
        tails = (_D,) if "target" in names else ()
    if not tails and types and types[0] is _P and re.search(r"what (?:does|do) .*\bdo\b", low):
        tails = (NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION)
    if not tails and attached:
        tails = {_P: (_D,), _D: (_P,), _S: (_D,)}.get(types[0], (_P,))
    return Asked("tails", tails, names) if tails else Asked("about", names=names)


def connects(masked: str) -> bool:
    """Whether a question asks how its entities, masked by "_", hang together."""
    low = masked.lower()
    return bool(_BETWEEN.search(low) or _CONNECTED.search(low))


def _noun(text: str) -> tuple[NodeType, ...]:
    """The node types that the first noun of a kind in the text stands for."""
    found = [(m.start(), tails) for pattern, tails in _NOUNS if (m := re.search(rf"\b(?:{pattern})\b", text))]
    return min(found, key=lambda row: row[0])[1] if found else ()


def _by_verb(names: frozenset[str], types: Sequence[NodeType]) -> tuple[NodeType, ...]:
    pairs = {
        "indication": (_D, _S), "contraindication": (_D, _S), "off-label use": (_D, _S), "target": (_D, _P), "enzyme": (_D, _P),
        "transporter": (_D, _P), "carrier": (_D, _P), "associated with": (_S, _P), "ppi": (_P, _P), "parent-child": (_S, _S),
    }  # fmt: skip
    for name, (a, b) in pairs.items():
        if name in names and types and types[0] in (a, b):
            return (b if types[0] is a else a,)
    return ()


def by_rules(masked: str) -> bool:
    return bool(_noun(masked.lower()) or any(re.search(pattern, masked.lower()) for pattern, _ in _VERBS))


def kind_of(options: Sequence[str]) -> str:
    """open, choice, or true_false where the options are the two sides of a statement."""
    if not options:
        return "open"
    sides = {o.strip().lower() for o in options}
    return "true_false" if sides in ({"true", "false"}, {"yes", "no"}) else "choice"


def options_of(question: str) -> tuple[str, ...]:
    """The options that a question lists, each after a letter or number at the start of a line or after "Options:"; none under two."""
    found = re.findall(r"(?m)^\s*(?:\(?[A-Ha-h1-8][).:]|[-*•])\s+(.+?)\s*$", question)
    if len(found) < 2 and (listed := re.search(r"(?is)\b(?:options|choices|choose from|among|one of)\s*:\s*(.+?)[.?]?\s*$", question)):
        found = [part.strip() for part in re.split(r"[;,\n|]|\s+or\s+", listed[1]) if part.strip()]
    return tuple(found) if 2 <= len(found) <= 20 else ()
