"""What a sentence claims: the relations that its verbs state or deny, its figures, its hedges, and the words that say something.

Knows: English words for the relations of the graph, and which of them say more than which. Does not know: nodes, evidence, Markdown.
"""

from __future__ import annotations

import re
from functools import lru_cache

NAMES = "\ue100-\uf8ff"
"""Where a node is named in a text, one of these characters stands for it, so that its name states nothing."""
Claim = tuple[str, bool]
"""A relation, by its name below, and whether it is denied."""

# A relation and the words that state it. Each word stands where a claim that says more would not be covered by one that says less.
_RELATIONS: dict[str, str] = {
    "targets": r"target(?:s|ed|ing)?|act(?:s|ing)? (?:on|at|upon)|hits?",
    "binds": r"bind(?:s|ing|ers?)?|bound to|ligands?|affinity",
    "inhibits": r"(?:inhibit|block|antagoni|suppress|downregulat|down-regulat|silenc|inactivat|neutrali)\w*",
    "activates": r"(?:activat|agoni[sz]|agonist|stimulat|upregulat|up-regulat|induc|potentiat)\w*",
    "modulates": r"(?:modulat|regulat|affect|influenc|alter)(?:e|s|es|ed|ing|or|ors|ion)?",
    "linked": r"link(?:s|ed|ing|age)?|connect\w*|relat(?:es?|ed|ions?|ionships?)",
    "associated": r"associat\w*",
    "involved": r"involv\w*|implicat\w*|roles?|contribut\w*|(?:is|are) behind",
    "causes": r"caus(?:es?|ed|ing|al|ally)|lead(?:s|ing)? to|led to|results? in|trigger\w*|driv(?:es?|en|ers?|ing)|responsible for"
    r"|due to|because of",
    "risk": r"risks?|predispos\w*|suscept\w*|protect\w*|prevent\w*",
    "treats": r"treat\w*|indicated(?! by)|indications?|(?:used|prescribed|given) (?:for|in|to|against)"
    r"|therap\w*|help(?:s|ed)? (?:with|against)",
    "off-label": r"off-label",
    "contraindicated": r"contraindicat\w*",
    "cures": r"cur(?:es?|ed|ing|ative)|heal(?:s|ed|ing)?|remission|effective\w*|efficac\w*|works? (?:for|against|in)",
    "approved": r"approv\w*|licen[sc]ed|authori[sz]ed",
    "harms": r"safe(?:ly|ty)?|harm(?:s|ful|less)?|toxic\w*|side.effects?|adverse|deadly|lethal|kill\w*",
    "changes": r"(?:increas|decreas|reduc|improv|worsen|enhanc|lower|rais|slow)(?:e|s|es|ed|ing)?",
    "takes part": r"takes? part|taking part|participat\w*",
    "function": r"functions?|functioning|acts? as",
    "found in": r"found in|locat(?:ed|ions?)|locali[sz]\w*|resid(?:es?|ing)",
    "expressed": r"(?:over-?)?express(?:es|ed|ion|ing)?",
    "interacts": r"interact\w*|partners?",
    "enzyme": r"enzymes?|enzymatic\w*",
    "metabolises": r"metaboli[sz]\w*|metabolite\w*|br(?:eak|eaks|eaking|oken) down|degrad\w*|substrates?|cataly[sz]\w*"
    r"|convert(?:s|ed|ing)?",
    "transporter": r"transporters?",
    "transports": r"transport(?:s|ed|ing|ation)?",
    "carrier": r"carriers?",
    "carries": r"carr(?:y|ies|ied|ying)",
    "parent-child": r"parents?|child(?:ren)?",
    "subtype": r"sub(?:type|class)\w*|(?:kind|type|form)s? of",
    "similar": r"similar\w*|a?like|resembl\w*|near(?:est|er|by)?|homolog\w*|analog\w*",
    "mutated": r"mutat\w*",
}
_WORDS = {name: re.compile(rf"(?<![\w-])(?:{pattern})(?!\w)", re.IGNORECASE) for name, pattern in _RELATIONS.items()}
_ANY_WORDS = re.compile(rf"(?<![\w-])(?:{'|'.join(_RELATIONS.values())})(?!\w)", re.IGNORECASE)
# What covers a claim besides its own relation: relations that say as much or more.
_COVERED = {
    "targets": {"binds", "inhibits", "activates", "modulates"},
    "binds": {"targets"},
    "modulates": {"inhibits", "activates"},
    "associated": {"causes", "risk"},
    "involved": {"associated", "takes part", "causes"},
    "function": {"takes part"},
    "interacts": {"binds", "targets", "inhibits", "activates"},
    "enzyme": {"metabolises"},
    "transporter": {"transports"},
    "carrier": {"carries"},
}

_NEGATION = re.compile(
    r"\b(?:not|never|no|none|neither|nor|without|cannot|lacks?|lacking|fail(?:s|ed)?|unrelated|unlikely|instead of|rather than"
    r"|false|untrue|incorrect|wrong)\b|n['’]t\b",
    re.IGNORECASE,
)
_NO_NEGATION = re.compile(
    r"\bnot only\b|\bwhether or not\b|\bno doubt\b|\(the graph does not keep which is which\)"
    r"|\bnot (?:yet )?(?:directly )?(?:stated|known|listed|recorded|proven|confirmed|established|in the graph)\b"
    r"|^\W*(?:answer\W+)?(?:no|not true|false)(?=\s*[,.:;–—-])"
    r"|\b(?:statement|claim|answer|this|it) (?:is|was) (?:therefore |thus |hence )?(?:false|untrue|not true|not correct|incorrect|wrong)\b"
    r"(?! that)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"[;:]|,|\b(?=(?:but|however|although|though|whereas|while|because|since)\b)"
    rf"|\band (?=(?:is|are|was|were|has|have|does|do|did|it|they|the|that|which|also|not)\b|[{NAMES}])",
    re.IGNORECASE,
)
_TURN = re.compile(r"\s*(?:but|however|although|though|whereas|while|yet|instead)\b", re.IGNORECASE)
ABSTAINS = re.compile(
    r"(?i)\b(?:(?:do|does|did|could|can) ?n[o']t (?:know|hold|say|contain|state|list|link|tell|answer|mention|include|show|find|cover"
    r"|predict|provide|specify)"
    r"|cannot (?:be )?(?:say|said|tell|told|answer|answered|know|known|judge|judged)|(?:holds?|has|lists?|contains?) (?:no|nothing)"
    r"|there (?:is|are) no(?:thing)?\b|no (?:evidence|node|edge|prediction|answer|line|information)"
    r"|nothing (?:in the (?:graph|evidence)|is known)|not (?:in|a node of|part of) (?:the|this) (?:graph|evidence)|insufficient evidence)"
)
HEDGE = re.compile(r"(?i)predict|probab|\blikely|\bmay\b|might|could|possib|candidate|suggest|%|not (?:stated|known|in the graph)")
CHANCE = re.compile(r"(?i)probab|predict|chance|likelihood|confiden")
_FIGURE = re.compile(
    r"(?:(?P<under>under|below|less than|<)|(?P<over>over|above|more than|>))?\s*(?P<n>\d+(?:\.\d+)?)\s?(?:%|per ?cent\b)", re.IGNORECASE
)
_DECIMAL = re.compile(r"(?<![\w.])(?P<n>0?\.\d+|1\.0+)(?![\w%.]|\s?(?:%|per ?cent))")

_SAYS_NOTHING = """
a about above according account addition additional additionally after all almost along alongside already also although among amongst an
and another answer answers any apart are as asked asking asks at available based basis be because been before begin being below besides
best between biological both brief but by called can candidate candidates cellular certain chance chances cite cited cites citing claim
clear clearly collected come comes component components compound compounds conclude concluded conclusion condition conditions confidence
connects consequently considered context correct correctly corresponding could curated data database describe described describes
description different disease diseases disorder disorders do does drug drugs due each edge edges either else entries entry especially
evidence evident example except fact false figure find finding findings first follow following follows for four from further furthermore
gene general genes give given gives graph group groups had has have hence here high higher highest hold holds hop how however identified
identify if in include included includes including indeed indicate indicates indication information instead into is it its itself join
joined joining joins just key keys kind knowledge known lacks last least less level likelihood likely line lines list listed lists low
lowest made main make makes many may mean means medicine medicines mentioned mentions might model molecular molecule molecules more
moreover most much must name named namely names neither new next no node nodes none nor not note noted notes nothing of off on one ones
only option options or order other others otherwise our out over overall pair part particular particularly path paths pathway pathways
per piece pieces point points possible possibly potential predict predicted prediction predictions predicts present probabilities
probability probable probably process processes protein proteins provide provided provides putative query question questions rank ranked
ranks rather read reads reason reasons record recorded records reference references relation relations relevant remain remains report
reported reports respectively rest result results same say says second see seem seems seen selected set several shared shares should
show showed shown shows since single so some source sources specifically specifies state stated statement states still strong strongest
such suggest suggested suggests sum summary support supported supporting supports symbol table term terms text than that the their them
then there therefore these they third this those three through thus together too total true turn two under unknown up upon use used user
uses using via was way we well were what when where whereas whether which while who whose why will with within without would yes yet you
"""
_STOP = frozenset(_SAYS_NOTHING.split())


@lru_cache(maxsize=2048)
def clauses(text: str) -> tuple[tuple[str, frozenset[Claim]], ...]:
    """The clauses of a sentence with the relations that each states or denies. Nodes must be masked by NAMES before.

    A negation holds for its clause, and for the next one if its own states nothing ("does not, however, target").
    """
    out = []
    carried = False
    for clause in _CLAUSE.split(_NO_NEGATION.sub(" ", text)):
        carried = carried and not _TURN.match(clause)
        denied = carried or bool(_NEGATION.search(clause))
        any_words = _ANY_WORDS.search(clause)
        found = frozenset((name, denied) for name, words in _WORDS.items() if any_words and words.search(clause))
        out.append((clause, found))
        carried = denied and not found
    return tuple(out)


def claims(text: str) -> frozenset[Claim]:
    """The relations that a sentence states or denies."""
    return frozenset(claim for _, found in clauses(text) for claim in found)


def covers(stated: frozenset[Claim], claim: Claim) -> bool:
    """Whether what is stated says as much as the claim. Anything stated covers that two nodes are linked."""
    name, denied = claim
    if denied:
        return claim in stated
    enough = {name} | _COVERED.get(name, set())
    return any((name == "linked" or other in enough) and not negative for other, negative in stated)


def asserted(text: str) -> str:
    """What is left of a sentence without the clauses that say what is not known or not in the evidence."""
    if not ABSTAINS.search(text):
        return text
    clauses = re.split(r";|(?=,? \b(?:but|however|although|though|whereas|yet)\b)", text)
    return " ".join(c for c in clauses if not ABSTAINS.search(c)).strip()


@lru_cache(maxsize=2048)
def figures(text: str) -> frozenset[str]:
    """Shares in a text, in per cent: "62", "under 1", "over 99"; numbers such as 0.62 too, where the text speaks of a probability."""
    found = {("under " if m["under"] else "over " if m["over"] else "") + f"{float(m['n']):g}" for m in _FIGURE.finditer(text)}
    if CHANCE.search(text):
        found |= {f"{100 * float(m['n']):g}" for m in _DECIMAL.finditer(text)}
    return frozenset(found)


@lru_cache(maxsize=2048)
def telling(text: str) -> frozenset[str]:
    """The words of a text, by their stems, that say something besides its relations: no numbers, no words of talk about evidence."""
    return frozenset(_stem(w) for w in _tokens(text) if w.lower() not in _STOP)


def name_like(text: str) -> frozenset[str]:
    """The stems of words that look like the name of something: with a digit or capitals within, or a capital inside of a sentence."""
    words = [(m.group(), m.start()) for m in re.finditer(r"[^\W_][\w-]*", _without_relations(text))]
    first = words[0][1] if words else 0
    named = (w for w, at in words if re.search(r"\w\d|\d[A-Za-z]|\w[A-Z]", w) or (w[0].isupper() and at > first and not _begins(text, at)))
    return telling(" ".join(named))


def _begins(text: str, at: int) -> bool:
    return bool(re.search(r"[:;.!?(\"“]\W*$", text[:at]))


def _without_relations(text: str) -> str:
    """The text without the words of relations, letter for letter as long."""
    return _ANY_WORDS.sub(lambda m: " " * len(m.group()), text)


def _tokens(text: str) -> list[str]:
    words = re.findall(r"[^\W_]+", _without_relations(text))
    return [w for w in words if not w.isdigit() and (len(w) > 2 or (len(w) == 2 and w.isupper()) or any(c.isdigit() for c in w))]


def _stem(word: str) -> str:
    word = word.lower()
    return word[:5] if len(word) > 5 else word.rstrip("s") if len(word) > 3 else word
