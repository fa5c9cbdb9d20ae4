"""Reads a statement that is true or false: what it says of what, and whether it denies it.

Knows: the words that stand for relations. Does not know: the graph, whether the statement holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

IS_A, IDENTIFIER, ANY = "is a", "identifier", "linked to"
_NOT = r"(?P<not>not |never |no longer |no )?"
_DOES = r"(?P<does>(?:does|do|did|is|are|was|were) not (?:used to )?|never |no longer )?"
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
    (rf"(?P<b>.+?) (?:is|are) {_NOT}(?:treated|cured) (?:by|with) (?P<a>.+)", "indication"),
    (rf"(?P<b>.+?) (?:is|are) {_NOT}(?:targeted|inhibited|bound|blocked|activated|hit) by (?P<a>.+)", "target"),
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
    r"|(?:treat|target|inhibit|block|activat|cur)ed|treat|cure|bound|target|inhibit|bind|block|activate|act|hit|cause|interact|associate|take|participate|play)\b)"
)
_SHORTENED = re.compile(r"(?i)\b(?:can|could|will|would|may|might|should)(?:n['\u2019]t| ?not)\b")
_MODAL = re.compile(r"(?i)(?<=\S) (?:can|could|will|would|may|might|should) (?=[a-z])")
_KIND = re.compile(
    r"(?i)\b(?P<is>is|are) (?P<not>not )?(?:an?|the) (?:drug|medicine|compound|gene|protein|disease|disorder)"
    r"(?: (?:that|which)(?: is| are)?)? (?P<said>used|indicated|approved|contraindicated|associated|linked|involved|implicated"
    r"|treats?|targets?|inhibits?|binds?|blocks?|activates?|causes?) "
)
_ASKING = re.compile(r"(?i)(?:which|what|who|whom|whose|how|where|when|why|list|show|name|give|tell|find|compare)\b")
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
    said = " ".join(text.split())[:1_000]
    text = _OPENING.sub("", said).strip().strip('"“”')
    if text != said and not _INVERTED.match(text):
        text = text.rstrip("? ")
    text = re.sub(r"(?i)\b(?:does not|(?:can|could|will|would|may|might|should)) be\b", _being, _SHORTENED.sub("does not", text))
    text = re.sub(r"(?i)n['\u2019]t\b", " not", text)
    asked = _INVERTED.match(text)
    if asked is not None:
        text = _turned(asked)
    elif text.endswith("?") or _ASKING.match(text):
        return None
    text = _KIND.sub(_without_kind, _MODAL.sub(" ", text))
    for form, name in _STATEMENT:
        found = form.fullmatch(text)
        if found is not None:
            groups = found.groupdict()
            denied = groups.get("not") or (groups.get("does") or "")
            subject, thing = _bare(groups["a"]), _bare(groups["b"])
            if subject and thing:
                return Claim(subject, name, thing, bool(re.search(r"(?i)\b(?:not|never|no)\b", denied or "")))
    return None


def _being(found: re.Match[str]) -> str:
    """ "may be" -> "is", "cannot be" -> "is not"."""
    return "is not" if "not" in found.group().lower() else "is"


def _without_kind(found: re.Match[str]) -> str:
    """ "X is a drug that treats Y" -> "X treats Y"; "X is a drug used to treat Y" -> "X is used to treat Y"."""
    denied, said = found["not"] or "", found["said"]
    if said.lower().endswith("ed"):
        return f"{found['is']} {denied}{said} "
    return f"{'does not ' if denied else ''}{said} "


def _turned(asked: re.Match[str]) -> str:
    """A question as the statement that it asks about: "Is X a Y?" -> "X is a Y"."""
    verb, rest, denied = asked["verb"].lower(), asked["rest"], "not " if asked["neg"] else ""
    place = _SPLIT.search(rest)
    if place is None:
        return rest
    subject, said = rest[: place.start()], rest[place.end() :]
    if subject.endswith(" be"):  # "Can X be used for Y?"
        subject, verb = subject.removesuffix(" be"), "is"
    if said.lower().startswith("not "):
        denied, said = "not ", said[4:]
    if verb in ("is", "are", "was", "were"):
        return f"{subject} is {denied}{said}"
    return f"{subject} {'does not ' if denied else ''}{said}"


def _bare(text: str) -> str:
    return _TYPE_WORD.sub("", _ASIDE.sub("", text).strip(" .,;:!\"'")).strip()
