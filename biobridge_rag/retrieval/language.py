"""The language of a question.

Knows: the words that English questions are full of, and py3langid, a model of 5 MB that comes inside its package. Does not know: graphs.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import Any

MAX_READ = 2_000  # characters
MIN_SHARE = 0.2  # of a text's words that are English ones and nothing else
MIN_PROBABILITY = 0.5
MIN_PROBABILITY_SHORT, SHORT = 0.7, 5  # words, all of them ASCII
MIN_LETTERS, MIN_WORDS = 12, 3  # in scripts with an alphabet; a shorter text may be a Latin name
_LANGUAGES = """
ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru sk sl sr sv ta te th tr uk ur vi zh
"""
# Words of English questions and statements that other languages do not have, so that Latin names and symbols cannot outvote them.
_ENGLISH_WORDS = """
about against and associated associates between by causing does drug drugs find from give have how inhibit inhibits interact interacts into
involved its known mutated show targets that the their there these this treat treated treatment treats what when where which why with
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_SYMBOL = re.compile(r"[A-Za-z]*\d[A-Za-z\d]*|\b[A-Z]{2,}\b|\S*[=#@\\/\[\]{}<>_]\S*")  # codes, gene symbols, SMILES, addresses
_WORD = re.compile(r"[^\W\d_]+")
_NO_ALPHABET = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")  # kana, Han, Hangul, Thai
_lock = threading.Lock()


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language, of the 43 most written ones; None where it is too short or the model is not sure, as
    for lists of names and symbols. The first 2,000 characters are read. Only an English text is decided without the model."""
    text = " ".join(text[:MAX_READ].split())
    plain = " ".join(_SYMBOL.sub(" ", text.lower() if text.isupper() else text).split())
    words = _WORD.findall(plain)
    ideographs = bool(_NO_ALPHABET.search(plain))
    if not words or (not ideographs and len(words) < MIN_WORDS):
        return None
    if sum(word.lower() in _ENGLISH for word in words) / len(words) >= MIN_SHARE:
        return "en"
    if not ideographs and sum(map(len, words)) < MIN_LETTERS:
        return None
    code, probability = _classify(plain)
    unsure = plain.isascii() and len(words) < SHORT
    return code if probability >= (MIN_PROBABILITY_SHORT if unsure else MIN_PROBABILITY) else None


def _classify(text: str) -> tuple[str, float]:
    with _lock:  # the model is read once
        model = _model()
    code, probability = model.classify(text)
    return str(code), float(probability)


@lru_cache(maxsize=1)
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(_LANGUAGES.split())
    return model
