"""Which language a question is in: English full of symbols and Latin names is never called foreign; seven others are recognised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.retrieval.language import language_of

FOREIGN = {
    "de": (
        "Welche Gene sind mit Asthma assoziiert?",
        "Welche Medikamente wirken auf EGFR?",
        "Wie behandelt Imatinib die chronische myeloische Leukämie?",
        "Ist TP53 an der Apoptose beteiligt?",
        "Welches Protein wird von Aspirin gehemmt?",
        "Nenne mir bitte drei Wirkstoffe gegen Bluthochdruck.",
        "Was ist der Wirkmechanismus von Metformin bei Typ-2-Diabetes?",
    ),
    "fr": (
        "Quels gènes sont associés à l'asthme ?",
        "Quels médicaments ciblent le récepteur EGFR ?",
        "Comment l'imatinib traite-t-il la leucémie myéloïde chronique ?",
        "Est-ce que BRCA1 est lié au cancer du sein ?",
        "Quelle protéine est inhibée par l'aspirine ?",
        "Donnez-moi trois traitements de l'hypertension.",
        "Quel est le mécanisme d'action de la metformine ?",
    ),
    "es": (
        "¿Qué genes están asociados con el asma?",
        "¿Qué fármacos actúan sobre EGFR?",
        "¿Cómo trata el imatinib la leucemia mieloide crónica?",
        "¿Está relacionado BRCA1 con el cáncer de mama?",
        "¿Qué proteína es inhibida por la aspirina?",
        "Cuáles son los medicamentos para la hipertensión arterial",
        "Explica el mecanismo de acción de la metformina.",
    ),
    "pt": (
        "Quais genes estão associados à asma?",
        "Quais medicamentos atuam sobre o EGFR?",
        "Como o imatinibe trata a leucemia mieloide crônica?",
        "O gene BRCA1 está relacionado ao câncer de mama?",
        "Que proteína é inibida pela aspirina?",
        "Quais são os fármacos usados para a hipertensão?",
        "Explique o mecanismo de ação da metformina.",
    ),
    "it": (
        "Quali geni sono associati all'asma?",
        "Quali farmaci agiscono su EGFR?",
        "In che modo l'imatinib cura la leucemia mieloide cronica?",
        "BRCA1 è legato al cancro al seno?",
        "Quale proteina è inibita dall'aspirina?",
        "Quali sono i medicinali per l'ipertensione?",
        "Spiegami il meccanismo d'azione della metformina.",
    ),
    "zh": (
        "哪些基因与哮喘有关？",
        "哪些药物作用于EGFR？",
        "伊马替尼如何治疗慢性髓性白血病？",
        "BRCA1与乳腺癌有关吗？",
        "阿司匹林抑制哪种蛋白质？",
        "二甲双胍的作用机制是什么？",
    ),
    "ja": (
        "喘息に関連する遺伝子は何ですか？",
        "EGFRを標的とする薬はどれですか？",
        "イマチニブは慢性骨髄性白血病をどのように治療しますか？",
        "BRCA1は乳がんと関係がありますか？",
        "アスピリンが阻害するタンパク質はどれですか？",
        "メトホルミンの作用機序を教えてください。",
    ),
    "ru": ("Какие гены связаны с астмой?",),
    "ko": ("천식과 관련된 유전자는 무엇입니까?",),
    "ar": ("ما هي الجينات المرتبطة بالربو؟",),
    "nl": ("Welke genen zijn geassocieerd met astma?", "Is TP53 betrokken bij apoptose of metastase?"),
    "pl": ("Jakie geny są związane z astmą?",),
    "tr": ("Astım ile ilişkili genler nelerdir?",),
    "sv": ("Vilka gener är kopplade till astma?",),
    "hi": ("अस्थमा से कौन से जीन जुड़े हैं?",),
    "uk": ("Які гени пов'язані з астмою?",),
    "el": ("Ποια γονίδια σχετίζονται με το άσθμα;",),
}
ENGLISH = (
    "What drugs target EGFR?",
    "Which gene plays the most significant mechanistic role in how Drug cetuximab treats the Disease Malignant tumor of colon?",
    "Sarcoma associates Gene TP53",
    "CHARCOT-MARIE-TOOTH DISEASE, TYPE 4C associates Gene SH3TC2",
    "Pseudoxanthoma Elasticum associates Gene ABCC6",
    "liraglutide treats obesity",
    "antineoplastic agents treats osteosarcoma",
    "argipressin treats central diabetes insipidus",
    "pseudoachondroplasia is a osteochondrodysplasia",
    "Leishmania infantum visceral leishmaniasis treatment",
    "genes of pemphigus vulgaris",
    "Does Sjögren's syndrome involve IRF5?",
    "IS TP53 ASSOCIATED WITH LI-FRAUMENI SYNDROME?",
)
UNSURE = (
    "",
    "   ",
    "???",
    "EGFR",
    "TNF IL6 IL1B",
    "imatinib",
    "Aspergillus fumigatus",
    "CC(=O)Oc1ccccc1C(=O)O",
    "MTEYKLVVVGAGGVGKSALTIQLIQNHFVDE",
    "1 2 3 4",
)


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in FOREIGN.items() for text in texts])
def test_other_languages_are_recognised(code: str, text: str) -> None:
    assert language_of(text) == code


@pytest.mark.parametrize("text", ENGLISH)
def test_english_with_symbols_and_latin_names_is_not_foreign(text: str) -> None:
    assert language_of(text) in ("en", None)


@pytest.mark.parametrize("text", UNSURE)
def test_names_symbols_and_structures_have_no_language(text: str) -> None:
    assert language_of(text) is None


def test_plain_english_is_called_so() -> None:
    assert language_of("Which drugs inhibit the protein that is mutated in this disease?") == "en"


def test_long_texts_are_read_at_their_start() -> None:
    assert language_of("Welche Gene sind mit Asthma assoziiert? " * 5_000) == "de"


def test_a_null_byte_or_a_lone_surrogate_does_no_harm() -> None:
    assert language_of("Welche Gene\x00 sind mit Asthma \ud800 assoziiert?") == "de"


@given(st.text(max_size=200))
def test_any_text_has_a_code_or_none(text: str) -> None:
    code = language_of(text)
    assert code is None or (len(code) == 2 and code.isalpha())
