"""Reads a statement that is true or false: what it says of what, and whether it denies it.

Knows: the words that stand for relations. Does not know: the graph, whether the statement holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

IS_A, IDENTIFIER, ANY = "is a", "identifier", "linked to"
_NOT = r"(?P<not>not |never |no longer )?"
_DOES = r"(?P<does>(?:does|do|did|is|are|was|were) not (?:used to )?|never )?"
_FORMS: tuple[tuple[str, str], ...] = (
    (
        rf"(?:the )?(?:[\w-]+ ){{0,3}}(?:identifier|id|accession)(?: number)? (?:for|of) (?P<a>.+?) is {_NOT}(?P<b>[A-Za-z]+:?[0-9]\w*)",
        IDENTIFIER,
    ),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}(?:an? )?(?:target|inhibitor|agonist|antagonist|ligand|blocker) of (?P<b>.+)", "target"),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}(?:associated with|linked to|implicated in|involved in) (?P<b>.+)", "associated with"),
    (rf"(?P<a>.+?) {_DOES}(?:associates?|associated)(?: with)? (?P<b>.+)", "associated with"),
    (rf"(?P<a>.+?) {_DOES}causes? (?P<b>.+)", "associated with"),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}contraindicated (?:in|for) (?P<b>.+)", "contraindication"),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}(?:indicated|used|approved|prescribed) (?:for|in|to treat|against) (?P<b>.+)", "indication"),
    (rf"(?P<a>.+?) {_DOES}(?:treats?|cures?|helps? (?:with|against)) (?P<b>.+)", "indication"),
    (rf"(?P<a>.+?) {_DOES}(?:targets?|inhibits?|binds?(?: to)?|blocks?|activates?|antagoni[sz]es|acts? on|hits?) (?P<b>.+)", "target"),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}(?:metaboli[sz]ed|broken down) by (?P<b>.+)", "enzyme"),
    (rf"(?P<a>.+?) {_DOES}metaboli[sz]es? (?P<b>.+)", "enzyme"),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}transported by (?P<b>.+)", "transporter"),
    (rf"(?P<a>.+?) {_DOES}interacts? with (?P<b>.+)", "ppi"),
    (rf"(?P<a>.+?) {_DOES}(?:takes? part|participates?|plays? a role|is located|is found) in (?P<b>.+)", "interacts with"),
    (rf"(?P<a>.+?) (?:is|are) {_NOT}(?:an?|the) (?:(?:kind|type|subtype|form|subclass) of )?(?P<b>.+)", IS_A),
)
_STATEMENT = tuple((re.compile(rf"{form}[.!]?", re.IGNORECASE), name) for form, name in _FORMS)
_OPENING = re.compile(r"(?i)^(?:true or false|is it true|is the following (?:statement )?true|statement)\b[\s:,?-]*(?:that )?")
_INVERTED = re.compile(r"(?i)^(?P<verb>does|do|did|is|are|was|were|can) (?P<neg>not )?(?P<rest>.+)\?$")
_SPLIT = re.compile(
    r"(?i) (?=(?:not )?(?:an? |associated|linked|involved|implicated|indicated|used|approved|contraindicated|metaboli[sz]ed|transported"
    r"|treat|target|inhibit|bind|block|activate|act|hit|cause|interact|associate|take|participate|play)\b)"
)
_ASIDE = re.compile(r"\s*\((?:disorder|disease|finding|qualifier value|substance|product)\)", re.IGNORECASE)
_TYPE_WORD = re.compile(r"^(?:the )?(?:gene|protein|drug|disease|compound|variant)\s+(?=\S)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement "subject - relation - object"; relation is that of edges, or `is a`, `identifier`; negated where it denies it."""

    subject: str
    relation: str
    object: str
    negated: bool


def read_claim(text: str) -> Claim | None:
    """The claim of a statement or of a yes-or-no question; None for anything else."""
    text = _OPENING.sub("", " ".join(text.split())[:1_000]).strip().strip('"“”')
    asked = _INVERTED.match(text)
    if asked is not None:
        text = _turned(asked)
    elif text.endswith("?"):
        return None
    for form, name in _STATEMENT:
        found = form.fullmatch(text)
        if found is not None:
            groups = found.groupdict()
            denied = groups.get("not") or (groups.get("does") or "")
            subject, thing = _bare(groups["a"]), _bare(groups["b"])
            if subject and thing:
                return Claim(subject, name, thing, bool(re.search(r"(?i)\b(?:not|never|no longer)\b", denied or "")))
    return None


def _turned(asked: re.Match[str]) -> str:
    """A question as the statement that it asks about: "Is X a Y?" -> "X is a Y"."""
    verb, rest, denied = asked["verb"].lower(), asked["rest"], "not " if asked["neg"] else ""
    place = _SPLIT.search(rest)
    if place is None:
        return rest
    subject, said = rest[: place.start()], rest[place.end() :]
    if said.lower().startswith("not "):
        denied, said = "not ", said[4:]
    if verb in ("is", "are", "was", "were"):
        return f"{subject} is {denied}{said}"
    return f"{subject} {'does not ' if denied else ''}{said}"


def _bare(text: str) -> str:
    return _TYPE_WORD.sub("", _ASIDE.sub("", text).strip(" .,;:\"'")).strip()
