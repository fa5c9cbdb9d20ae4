"""Holds a text against the evidence that it cites, sentence by sentence, and marks what the evidence does not support.

Knows: statements, citations, what sentences claim. Does not know: questions, language models, where evidence comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from biobridge_rag.qa.assertions import HEDGE, NAMES, PRONOUN, Claim, asserted, claims, clauses, covers, figures, name_like, telling
from biobridge_rag.qa.markdown import KEY, keys_of, md_escape, sentences, spans
from biobridge_rag.qa.markdown import MARK as MARK
from biobridge_rag.qa.markdown import md_plain as md_plain
from biobridge_rag.qa.statements import TEXTS, Statement, percent, short
from biobridge_rag.types import Citation, Node, NodeType

_SHAPES = re.compile(r"\*\*[^*]+\*\*:?(?: \([^)]*\))?:?$|\W*(?:\*\*)?(?:final )?(?:answer|verdict)\W*:", re.IGNORECASE)
_SPACED_KEY = re.compile(r"(?<![^\S\n])(?P<space>[^\S\n]*)" + KEY.pattern)
_NAME = re.compile(f"[{NAMES}]")
_HIDDEN, _EXEMPT = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True)
class Checked:
    """`used`: citations of the text, by key; `unsupported`: sentences, without marks; `text`: without keys that do not exist, and with
    MARK at the end of each unsupported sentence; n_removed: how many such keys there were; n_sentences: those that state something;
    n_citations: keys in these, each once a sentence; n_supporting: how many of those stand for evidence that supports their sentence."""

    used: tuple[Citation, ...]
    unsupported: tuple[str, ...]
    text: str
    n_removed: int
    n_sentences: int = 0
    n_citations: int = 0
    n_supporting: int = 0


_LABELS = frozenset(t.label for t in NodeType)
"""A node of such a name, as the disease "disease", is not what "1 disease" counts."""
_ALIKE = re.compile(r" like (.+): .*\1")
"""The name of an analogue in a reason: "82% like ERBB2: lapatinib targets ERBB2"."""


@dataclass(frozen=True, slots=True)
class _Fact:
    """One thing that a statement says: of which nodes, which relations, as a prediction or not."""

    nodes: frozenset[int]
    claims: frozenset[Claim]
    predicted: bool


def check(
    text: str, citations: Sequence[Citation], evidence: Sequence[Statement], facts: Sequence[str] = (), english: bool = True
) -> Checked:
    """Holds a text against the evidence, and marks what it does not support. Marks are taken out of the text before, so that checking a
    checked text gives the same text, and a text cannot bring marks of its own. A sentence that states something is supported when all
    of this is so:

    it cites evidence that exists; each node of the evidence that it names, and each other name in it, stands in what it cites; each
    relation that it states or denies is stated or denied there between nodes that it names, by a verb that says as much (a target is not
    inhibited, an association no cause); its probabilities and shares are those of what it cites; it calls predictions predicted; and its
    other telling words stand there too, half of them where it cites a description or a passage. Headings, lines that end with a colon and
    the line of a verdict need no key but may not claim what no evidence does. Sentences that say that something is not known, questions,
    and the plain sentences `facts` (what was not found, notes) need none. The words of a text that is not `english` are not compared.
    """
    keys = {c.key.strip("[]"): c for c in citations}
    n_removed = 0

    def keep(match: re.Match[str]) -> str:
        nonlocal n_removed
        numbers = keys_of(match.group())
        existing = [n for n in numbers if n in keys]
        n_removed += len(numbers) - len(existing)
        return f"{match['space']}[{', '.join(existing)}]" if existing else ""

    cleaned = _SPACED_KEY.sub(keep, text.replace(MARK, ""))
    judge = _Judge(citations, evidence, english)
    used, unsupported, marks = dict[str, Citation](), list[str](), list[int]()
    n_sentences = n_citations = n_supporting = 0
    hidden = _hidden(cleaned, judge.wordings, facts)
    for begin, end in spans(hidden):
        cited = keys_of(cleaned[begin:end])
        used.update({n: keys[n] for n in cited})
        sentence = "".join(" " if sign == _EXEMPT else c for c, sign in zip(cleaned[begin:end], hidden[begin:end], strict=True))
        heading = bool(re.search(r"^\s*#{1,6}\s+$", cleaned[cleaned.rfind("\n", 0, begin) + 1 : begin]))
        verdict, supporting = judge.of(sentence, cited, heading)
        if verdict is None:
            continue
        n_sentences, n_citations, n_supporting = n_sentences + 1, n_citations + len(cited), n_supporting + len(supporting)
        if not verdict:
            unsupported.append(" ".join(" ".join(sentences(cleaned[begin:end])).split()))
            marks.append(end - len(re.search(r"\s*[.!|]?\s*$", cleaned[max(begin, end - 4) : end])[0]))  # type: ignore[index]
    for at in reversed(marks):
        cleaned = cleaned[:at] + MARK + cleaned[at:]
    order = sorted(used, key=int)
    return Checked(
        tuple(used[n] for n in order), tuple(unsupported), cleaned, n_removed, n_sentences, n_citations, n_supporting
    )  # fmt: skip


class _Judge:
    """Judges one sentence at a time against one set of evidence."""

    def __init__(self, citations: Sequence[Citation], evidence: Sequence[Statement], english: bool) -> None:
        self.evidence, self.english = evidence, english
        self.places: dict[str, set[int]] = {}
        self.cited = {
            c.key.strip("[]"): [i for i, s in enumerate(evidence) if any((n.id, n.name) == (c.node_id, c.name) for n in s.cites)]
            for c in citations
        }
        numbers: dict[tuple[str, str], int] = {}
        for s in evidence:
            for node in (s.node, *s.nodes):
                self._name(numbers.setdefault((node.type.value, node.id), len(numbers)), node)
        self.by_fold: dict[str, set[int]] = {}
        for name, found in self.places.items():
            self.by_fold.setdefault(name.casefold(), set()).update(found)
        for at, s in enumerate(evidence):
            if s.of and s.of not in self.places:
                self.places[s.of] = self.by_fold.setdefault(s.of.casefold(), {len(numbers) + at})
            for alike in (m[1] for w in s.why if (m := _ALIKE.search(w)) and m[1] not in self.places):
                self.places[alike] = self.by_fold.setdefault(alike.casefold(), {-1 - len(self.places)})
        self.forms = sorted(((n.casefold(), n) for n in self.places if len(n) > 1), key=lambda form: -len(form[1]))
        self.patterns: dict[str, re.Pattern[str]] = {}
        self.numbers = numbers
        self.read: dict[int, list[_Fact]] = {}
        wordings = [w for s in evidence for w in (s.of, s.source, *s.why)]
        wordings += [w for s in evidence for n in (s.node, *s.nodes) for w in (n.name, short(n.name))]
        wordings += [s.text for s in evidence if s.kind not in TEXTS]
        self.wordings = wordings

    def _name(self, number: int, node: Node) -> None:
        for name in (node.name, short(node.name), node.id, *node.synonyms):
            if re.search(r"[^\W\d_]", name):
                self.places.setdefault(name.strip(), set()).add(number)

    def masked(self, text: str) -> tuple[str, dict[str, set[int]]]:
        """The text with a character of NAMES for each name of a node, and the nodes that each of these may mean."""
        found: dict[str, set[int]] = {}

        def mask(match: re.Match[str]) -> str:
            sign = chr(0xE100 + len(found) % 6_000)
            found[sign] = self.places.get(match.group()) or self.by_fold.get(match.group().casefold(), set())
            return sign

        text = _NAME.sub(" ", text)
        folded = text.casefold()
        for fold, name in self.forms:
            if fold in folded:
                pattern = self.patterns.get(name) or self.patterns.setdefault(name, _form(name))
                text = pattern.sub(mask, text)
        return text, found

    @cached_property
    def stated(self) -> frozenset[Claim]:
        """All relations that the evidence states or denies."""
        return frozenset(c for i in range(len(self.evidence)) for fact in self.facts(i) for c in fact.claims)

    def facts(self, i: int) -> list[_Fact]:
        """What the statement at that place says."""
        if i not in self.read:
            self.read[i] = self._facts(self.evidence[i])
        return self.read[i]

    def _facts(self, s: Statement) -> list[_Fact]:
        own = {self.numbers[s.node.type.value, s.node.id]}
        if s.kind == "path" and len(s.nodes) == len(s.why) + 1:
            numbers = [self.numbers[n.type.value, n.id] for n in s.nodes]
            return [self._fact(clause, {*numbers[i : i + 2]}, False, search=False) for i, clause in enumerate(s.why)]
        if s.kind == "path":
            return [self._fact(clause, set(), False) for clause in s.text.split("; ")]
        if s.kind in TEXTS:
            return [self._fact(sentence, own, False) for sentence in (sentences(s.text) or [s.text])]
        ends = {self.numbers[n.type.value, n.id] for n in s.nodes} | own | self.places.get(s.of, set())
        is_predicted = s.kind == "predicted"
        return [self._fact(s.text, ends, is_predicted, search=not s.nodes), *(self._fact(w, own, is_predicted) for w in s.why)]

    def _fact(self, text: str, nodes: set[int], is_predicted: bool, search: bool = True) -> _Fact:
        masked, found = self.masked(text)
        named = {n for numbers in found.values() for n in numbers} if search else set()
        return _Fact(frozenset(nodes | named), claims(masked), is_predicted)

    def of(self, sentence: str, cited: Sequence[str], heading: bool) -> tuple[bool | None, set[str]]:
        """Whether the evidence supports the sentence (None: it states nothing), and the keys that do."""
        bare = " ".join(md_plain(sentence).split())
        if not re.search(r"[^\W\d_]{2}", bare) or bare.endswith("?"):
            return None, set()
        masked, signs = self.masked(bare)
        rest = asserted(masked)
        found = {sign: signs[sign] for sign in _NAME.findall(rest)}
        made = claims(rest)
        if not (made or found or telling(rest)) and not figures(bare):
            return None, set()
        if rest != masked and not (made or (cited and telling(rest))):
            return None, set()
        lead_in = bare.endswith(":") and len(bare.split()) <= 12
        if not cited and (heading or lead_in or _SHAPES.match(sentence.strip())) and len(bare.split()) <= 20:
            covered = all(covers(self.stated, c) for c in made) and not (made and name_like(rest))
            return (None if covered else False), set()
        by_key = {n: [fact for i in self.cited.get(n, ()) for fact in self.facts(i)] for n in cited}
        statements = [self.evidence[i] for n in cited for i in self.cited.get(n, ())]
        holding, meant = self._holding(rest, found, [f for facts in by_key.values() for f in facts])
        if not statements or holding is None or not _figures_fit(bare, statements) or not self._words_fit(rest, statements, bool(found)):
            return False, set()
        if holding and all(f.predicted for f in holding) and not HEDGE.search(rest):
            return False, set()
        firm = {n for f in holding if not f.predicted for n in f.nodes}
        if made and any(f.predicted for f in holding) and not (meant <= firm or HEDGE.search(rest)):
            return False, set()
        return True, {n for n in cited if any(f in holding for f in by_key[n]) or self._follows_name(sentence, n)}

    def _holding(self, text: str, signs: dict[str, set[int]], facts: Sequence[_Fact]) -> tuple[list[_Fact] | None, set[int]]:
        """The facts that hold the claims of a sentence that names these nodes, and the nodes that it can mean; None where a claim or
        a node has no fact. What a clause claims of two nodes or more must be a fact of two of them, or of one and what its pronoun
        stands for."""
        everywhere = {n for f in facts for n in f.nodes}
        found = {sign: numbers & everywhere for sign, numbers in signs.items()}
        if not all(found.values()):
            return None, set()
        meant = set[int]().union(*found.values())
        made = claims(text)
        if not made or not self.english:
            return [f for f in facts if f.nodes & meant or not meant], meant
        n_named = len({min(numbers) for numbers in found.values()})
        holding = [f for f in facts if len(f.nodes & meant) >= min(2, n_named) and any(covers(f.claims, c) for c in made)]
        held = {n for f in holding for n in f.nodes}
        if any(not any(covers(f.claims, c) for f in holding) for c in made) or any(not numbers & held for numbers in found.values()):
            return None, set()
        for clause, stated in clauses(text):
            here = [found[sign] for sign in _NAME.findall(clause)]
            own = set[int]().union(*here)
            pair = meant if PRONOUN.search(clause) else own
            if len({min(numbers) for numbers in here}) > 1:
                near = [f for f in holding if f.nodes & own and len(f.nodes & pair) > 1]
                for claim in stated:
                    if claim[0] != "linked" and not any(covers(f.claims, claim) for f in near):
                        return None, set()
        return holding, meant

    def _words_fit(self, text: str, statements: Sequence[Statement], named: bool) -> bool:
        """Whether the telling words of a sentence, its names masked, stand in the statements: all, or half where those are texts."""
        words = telling(text)
        if not self.english:
            return named
        said = frozenset[str]().union(*(telling(f"{short(s.node.name)} {s.plain()} {s.of}") for s in statements))
        strange = words - said
        if any(s.kind in TEXTS for s in statements):
            return 2 * len(strange) <= len(words) and not name_like(text) - said
        return not strange

    def _follows_name(self, sentence: str, key: str) -> bool:
        """Whether the key stands right after the name of its own node, to say which one is meant."""
        names = {n.name for i in self.cited.get(key, ()) for n in self.evidence[i].cites}
        spelled = "|".join(re.escape(form) for name in names if name for form in (md_escape(name), name, md_escape(short(name))))
        return bool(spelled and re.search(rf"(?i)(?:{spelled})[*_]*(?: \([^()]*\))?\s*\[{key}\]", sentence))


def _figures_fit(bare: str, statements: Sequence[Statement]) -> bool:
    """Every share in the sentence is one of the statements; where it cites predictions and speaks of no likeness, a probability of them."""
    for reason in sorted({w for s in statements for w in s.why}, key=len, reverse=True):
        bare = bare.replace(reason, " ")  # told word for word: its figures are those of the evidence, and no probabilities
    given = figures(bare)
    if not given:
        return True
    of_predictions = _all_figures(f"probability {percent(s.probability)}" for s in statements if s.kind == "predicted")
    elsewhere = _all_figures(s.plain() for s in statements if s.kind != "predicted")
    reasons = _all_figures(f"predicted: {w}" for s in statements for w in s.why)
    chances = re.findall(
        r"(?i)(?:probability|chance|likelihood|confidence)\W+(?:(?:of|is|about|only)\W+)*((?:under |over )?[\d.]+ ?%?)", bare
    )
    given_chances = figures(" ".join(f"probability {c if '%' in c else float(c.strip('.') or 0)}" for c in chances if _is_share(c)))
    if of_predictions and given_chances - of_predictions - elsewhere:
        return False
    alike = reasons if re.search(r"(?i)like|similar|identi|resembl|\bscore\b|\bprior\b", bare) else frozenset()
    return given <= of_predictions | elsewhere | alike


def _all_figures(texts: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*map(figures, texts))


def _is_share(text: str) -> bool:
    return "%" in text or bool(re.fullmatch(r"0?\.\d+|1\.0+", text.strip().rstrip(".")))


def _form(name: str) -> re.Pattern[str]:
    """A name as a pattern: a short word of capitals, such as the symbol CAT, as it is; all others in any case."""
    pattern = re.escape(name)
    exact = name.isupper() and name.isalpha() and len(name) <= 5
    counted = r"(?<!\b1 )" if name.lower() in _LABELS else ""
    return re.compile(rf"(?<!\w){counted}{pattern}(?!\w)", 0 if exact else re.IGNORECASE)


def _hidden(text: str, wordings: Iterable[str], facts: Iterable[str]) -> str:
    """The text, letter for letter as long, without the full stops inside of what the evidence quotes, and with `facts` blanked."""
    for wording, blank in (*((f, _EXEMPT) for f in facts), *((w, _HIDDEN) for w in set(wordings) if re.search(r"[.!?]", w))):
        for form in {md_escape(wording), wording}:
            if len(form) > 2 and re.search(r"\w", form):
                body = form.rstrip(".!?") if blank == _EXEMPT else form
                text = text.replace(form, blank * len(body) + form[len(body) :])
    return text
