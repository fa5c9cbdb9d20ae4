"""How well a text, such as a drug's description, names a gene: by its symbol, its full name in any word order, or what its kind of
target is called.

Knows: how HGNC names are built and what pharmacology calls the common targets. Does not know: graphs, edges, which drug acts on what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from biobridge_rag.retrieval.passages import Names, sentences, stem
from biobridge_rag.retrieval.spelling import words_of
from biobridge_rag.types import Node

SPAN = 3  # words that may stand between those of a name
ASIDE = 0.85  # the worth of a match in a sentence that speaks of no action
LEAST = 0.5
BY_KIND, BY_CLASS = 0.9, 0.75  # of one by what its kind of target is called, and by what a whole class of them is
_FILLER_WORDS = "and of the a an to in with like type member family subfamily group polypeptide subunit complex class isoform"
_HEAD_WORDS = """
receptor protein factor enzyme kinase channel transporter carrier synthase synthetase reductase dehydrogenase oxidase transferase hydrolase
phosphatase protease peptidase ligand hormone growth binding homolog activating releasing solute cell human inhibitor surface neuronal
catalytic regulatory mitochondrial specific precursor superfamily domain containing gated voltage dependent nuclear complement component
chain activated
"""
_FILLER = frozenset(_FILLER_WORDS.split())
_HEAD = frozenset(_HEAD_WORDS.split())
_QUALIFIER = re.compile(r"\d+[a-z]?|[a-z]\d{0,2}[a-z]?|alpha|beta|gamma|delta|epsilon|kappa|mu")
_TAG = re.compile(r"</?(?:sub|sup|i|b)>")
_ROMAN = {"II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6", "VII": "7", "VIII": "8", "IX": "9", "X": "10", "XI": "11", "XII": "12"}
_ROMAN_WORD = re.compile(r"(?<=[\s-])(?:II|III|IV|V|VI{1,3}|IX|X|XI|XII)(?![\w-])")
# One wording for what names and descriptions spell differently.
_SAME = (
    (re.compile(r"\b5-?\s?HT[\s-]?(?=\d|\b)", re.IGNORECASE), " serotonin "),
    (re.compile(r"\b5-hydroxytryptamine\b", re.IGNORECASE), " serotonin "),
    (re.compile(r"\b(?:adrenoceptors?|adrenoreceptors?)\b", re.IGNORECASE), " adrenergic receptor "),
    (re.compile(r"\bacetylcholine receptor", re.IGNORECASE), "cholinergic receptor"),
    (re.compile(r"\bcoenzyme A\b|\bcoA\b", re.IGNORECASE), "coa"),
    (re.compile(r"\bnoradrenaline\b", re.IGNORECASE), "norepinephrine"),
    (re.compile(r"\badrenaline\b", re.IGNORECASE), "epinephrine"),
    (re.compile(r"\bgamma-?\s?aminobutyric acid\b", re.IGNORECASE), "GABA"),
    (re.compile(r"\b(?:gonadotrop(?:h)?in|luteinizing hormone)[\s-]releasing hormone\b|\bLHRH\b", re.IGNORECASE), "GnRH"),
    (re.compile(r"\bprogest(?:in|ogen)s?\b", re.IGNORECASE), "progestin"),
    (re.compile(r"\boestr", re.IGNORECASE), "estr"),
    (re.compile(r"\bmu-opi(?:oid|ate)\b", re.IGNORECASE), "opioid mu"),
    (re.compile(r"\bopiates?\b", re.IGNORECASE), "opioid"),
    (re.compile(r"\bnon-steroidal\b", re.IGNORECASE), "nonsteroidal"),
    (re.compile(r"\bG[\s-]protein[\s-]coupled\b", re.IGNORECASE), " "),
    (re.compile(r"\bcyclo-?oxygenases?\b", re.IGNORECASE), "cyclooxygenase"),
    (re.compile(r"\bantidiuretic hormone\b", re.IGNORECASE), "vasopressin"),
)
# What the targets of common drug classes are called apart from their HGNC names: a pattern of symbols and the phrases.
_KINDS = tuple(
    (re.compile(symbols), tuple(phrases.split("|")))
    for symbols, phrases in (
        (r"SLC6A2", "norepinephrine transporter|norepinephrine reuptake|reuptake of norepinephrine|SNRI|tricyclic"),
        (r"SLC6A3", "dopamine transporter|dopamine reuptake|reuptake of dopamine"),
        (r"SLC6A4", "serotonin transporter|serotonin reuptake|reuptake of serotonin|SSRI|SNRI|tricyclic"),
        (r"SLC18A[12]", "vesicular monoamine transporter|VMAT|storage vesicle"),
        (r"SLC12A1", "loop diuretic|sodium potassium chloride cotransporter"),
        (r"SLC12A3", "thiazide|thiazide diuretic|sodium chloride cotransporter"),
        (r"SLC5A2", "SGLT2|sodium glucose cotransporter 2"),
        (r"ATP4[AB]", "proton pump"),
        (r"ATP1A\d", "cardiac glycoside|sodium potassium ATPase"),
        (r"PTGS([12])", r"cyclooxygenase \1|COX \1|prostaglandin synthesis|NSAID|nonsteroidal anti inflammatory"),
        (r"ADRA([12])([A-D])", r"alpha \1 adrenergic|alpha \1\2 adrenergic|alpha blocker|sympathomimetic"),
        (r"ADRB([123])", r"beta \1 adrenergic|beta \1 blocker|sympathomimetic"),
        (r"ADRB1", "cardioselective"),
        (r"ADRB2", "bronchodilator"),
        (r"CHRM(\d)", r"muscarinic \1|anticholinergic|antimuscarinic|parasympatholytic"),
        (r"CHRN.*", "nicotinic|neuromuscular blocker"),
        (r"ACHE", "anticholinesterase|cholinesterase inhibitor"),
        (r"HRH(\d)", r"histamine H \1"),
        (r"HRH1", "antihistamine|antihistaminic"),
        (r"HTR(\d)([A-F]?)", r"serotonin \1|serotonin \1\2"),
        (r"HTR1[BD]", "triptan"),
        (r"DRD(\d)", r"dopamine D \1"),
        (r"DRD2", "neuroleptic|antipsychotic"),
        (r"OPRM1", "opioid|opioid agonist|opioid analgesic|opioid antagonist|narcotic|morphine"),
        (r"GABR.*", "GABA A|GABA receptor|benzodiazepine|barbiturate"),
        (r"GRIN.*", "NMDA|N-methyl-D-aspartate"),
        (r"CACNA1.*|CACNB.*", "calcium channel|calcium antagonist|dihydropyridine"),
        (r"CACNA2D.*", "alpha 2 delta|voltage gated calcium channel"),
        (r"SCN\d+A", "sodium channel|local anesthetic|antiarrhythmic"),
        (r"KCNJ\d+|ABCC[89]", "potassium channel|sulfonylurea|potassium channel opener"),
        (r"KCN.*", "potassium channel"),
        (r"NR3C1", "glucocorticoid|corticosteroid"),
        (r"NR3C2", "mineralocorticoid|aldosterone"),
        (r"PGR", "progestin|progesterone|progestational|progestational hormone"),
        (r"ESR[12]", "estrogen|estradiol|antiestrogen"),
        (r"AR", "androgen|antiandrogen|testosterone"),
        (r"GNRHR", "GnRH|goserelin|leuprolide"),
        (r"AGTR1", "angiotensin receptor|angiotensin 2 receptor"),
        (r"ACE", "ACE inhibitor|angiotensin converting enzyme"),
        (r"AVPR.*", "vasopressin"),
        (r"HMGCR", "HMG coa reductase|statin"),
        (r"VKORC1", "vitamin K|coumarin"),
        (r"F2", "thrombin|thrombin inhibitor"),
        (r"F10", "factor Xa"),
        (r"P2RY12", "ADP receptor|P2Y12"),
        (r"DHFR", "antifolate|folic acid antagonist"),
        (r"TYMS", "thymidylate synthase"),
        (r"TOP2[AB]", "topoisomerase 2"),
        (r"TUBB.*|TUBA.*", "tubulin|microtubule"),
        (r"PPARG", "thiazolidinedione|glitazone"),
        (r"PPARA", "fibrate"),
        (r"CA\d+", "carbonic anhydrase"),
        (r"PDE\d.*", "phosphodiesterase"),
        (r"MAO[AB]", "monoamine oxidase|MAOI"),
        (r"XDH", "xanthine oxidase"),
        (r"ABL1", "BCR-ABL|Philadelphia"),
        (r"ERBB2", "HER2"),
        (r"TNF", "TNF alpha|tumor necrosis factor"),
        (r"IMPDH[12]", "inosine monophosphate dehydrogenase"),
        (r"PPP3.*", "calcineurin"),
        (r"MTNR1[AB]", "melatonin"),
        (r"RARA|RARB|RARG", "retinoid"),
        (r"VDR", "vitamin D"),
        (r"THR[AB]", "thyroid hormone"),
    )
)
_ACTION = re.compile(
    r"agonist|antagoni|inhibit|block|bind|bound|target|reuptake|modulat|stimulat|activat|acts?\b|acting|interfer|compet|suppress|mimic"
    r"|affinity|selective|mechanism|neutrali|antibody|class of",
    re.IGNORECASE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words and what each of them says; most: what all of them are worth; whole: no word that says much may be missing."""

    weights: dict[str, float]
    most: float
    whole: bool


@dataclass(frozen=True, slots=True)
class GeneMatch:
    """score: in [0, 1], 1 where the symbol or the whole name stands in a sentence on an action; matched: the words of the text; place:
    how many words of the text stand before them."""

    score: float
    matched: str = ""
    place: int = 0


def match_gene(description: str, gene: Node) -> GeneMatch:
    """How well the text names this gene. The best over its sentences of: its symbol or a synonym, word for word; the words of its
    full name in any order, close together, each counted by how much it says; and what its kind of target is called. Below 0.5: 0.

    Meant to order the known targets of a drug by how well its description names them (see rank_genes)."""
    best, place = GeneMatch(0.0), 0
    exact, phrases = _exact_names(gene), _phrases(gene)
    for sentence, words, acts in _read(description):
        worth = 1.0 if acts else ASIDE
        if worth > best.score and (name := exact.within(sentence)):
            first = canonical(name)[0]
            best = GeneMatch(worth, name, place + (words.index(first) if first in words else 0))
        for phrase in phrases:
            share, start, stop = _covered(words, phrase)
            score = round(share * phrase.most * worth, 4)
            if score > best.score and score >= LEAST:
                best = GeneMatch(score, " ".join(words[start:stop]), place + start)
        place += len(words)
    return best


def rank_genes(description: str, genes: Iterable[Node]) -> list[tuple[Node, GeneMatch]]:
    """The genes, best match first; of equal ones that which the text names first, then in the order given."""
    return sorted(((gene, match_gene(description, gene)) for gene in genes), key=lambda row: (-row[1].score, row[1].place))


def canonical(text: str) -> list[str]:
    """The words of a text in one wording: numerals Arabic, Greek letters spelled out, letters of a receptor's type apart from words
    (beta2 -> beta 2), singular, common synonyms replaced."""
    text = _TAG.sub("", text)
    for pattern, word in _SAME:
        text = pattern.sub(word, text)
    text = _ROMAN_WORD.sub(lambda m: _ROMAN[m.group()], text)
    text = re.sub(r"\b(alpha|beta|gamma|delta|kappa|type|M|D|H|COX)-?(?=\d)", r"\1 ", text)
    return [stem(word) for word in words_of(text)]


def _weight(word: str) -> float:
    if word in _FILLER:
        return 0.0
    if _QUALIFIER.fullmatch(word):
        return 0.4
    return 0.25 if word in _HEAD else 1.0


@lru_cache(maxsize=64)
def _read(description: str) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """Each sentence, its words in one wording, and whether it speaks of an action."""
    return tuple((s, tuple(canonical(s)), bool(_ACTION.search(s))) for s in sentences(description))


def _covered(words: Sequence[str], phrase: _Phrase) -> tuple[float, int, int]:
    """The share, by weight, of a phrase's words that stand close together, and from where to where; 0 without one that says much."""
    weights = phrase.weights
    places = [(i, *stands) for i, word in enumerate(words) if (stands := _standing(word, weights))]
    best = (0.0, 0, 0)
    for n, (start, _, _) in enumerate(places):
        near = [row for row in places[n:] if row[0] < start + len(weights) + SPAN]
        kept: dict[str, float] = {}
        for _, word, share in near:
            kept[word] = max(kept.get(word, 0.0), share)
        telling = [w for w in kept if weights[w] >= 1.0]
        if not telling or (phrase.whole and len(telling) < sum(weight >= 1.0 for weight in weights.values())):
            continue
        covered = sum(weights[word] * share for word, share in kept.items()) / sum(weights.values())
        if covered > best[0]:
            best = covered, start, near[-1][0] + 1
    return best


def _standing(word: str, weights: Mapping[str, float]) -> tuple[str, float] | None:
    """The word of a phrase that a word of the text stands for, and how fully: itself, or by half the number of a subtype (2 for 2a)."""
    if word in weights:
        return word, 1.0
    if word.isdigit():
        return next(((w, 0.5) for w in weights if re.fullmatch(rf"{word}[a-z]", w)), None)
    return None


@lru_cache(maxsize=4096)
def _exact_names(gene: Node) -> Names:
    symbol = gene.name
    stemmed = re.sub(r"(?<=\d)[A-Z]$", "", symbol)  # PDE5A is also written PDE5
    return Names([symbol, *(n for n in gene.synonyms if len(n) > 2), *([stemmed] if re.search(r"[A-Z]{3}\d+$", stemmed) else [])])


@lru_cache(maxsize=4096)
def _phrases(gene: Node) -> tuple[_Phrase, ...]:
    """The sets of words that name a gene: of its full names, without and within brackets, and of its kind of target."""
    out: dict[tuple[str, ...], _Phrase] = {}
    names = [name for name in dict.fromkeys([*gene.synonyms, gene.description]) if " " in name]
    texts = [(text, 1.0) for name in names for text in (re.sub(r"\([^()]*\)", " ", name), *re.findall(r"\(([^()]+ [^()]+)\)", name))]
    for pattern, kinds in _KINDS:
        if found := pattern.fullmatch(gene.name):
            one = pattern.pattern.isalnum()
            texts += [(found.expand(kind), BY_KIND if one or "\\" in kind else BY_CLASS) for kind in kinds]
    for text, most in texts:
        weights = {word: weight for word in canonical(text) if (weight := _weight(word)) > 0}
        if any(weight >= 1.0 for weight in weights.values()):
            out.setdefault(tuple(weights), _Phrase(weights, most, most < 1.0))
    return tuple(out.values())
