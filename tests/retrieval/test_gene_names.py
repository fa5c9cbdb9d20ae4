"""A text names a gene by its symbol, its full name in any order, or its kind of target, and the nearest name scores best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.retrieval.gene_names import canonical, match_gene, rank_genes
from biobridge_rag.types import Node, NodeType

NAMES = {
    "HRH1": "histamine receptor H1", "HRH2": "histamine receptor H2", "ADRB1": "adrenoceptor beta 1",
    "ADRB2": "adrenoceptor beta 2, surface",
    "SLC6A2": "solute carrier family 6 (neurotransmitter transporter), member 2", "CHRM1": "cholinergic receptor, muscarinic 1",
    "SLC6A4": "solute carrier family 6 (neurotransmitter transporter), member 4", "CHRM3": "cholinergic receptor, muscarinic 3",
    "HTR2A": "5-hydroxytryptamine (serotonin) receptor 2A, G protein-coupled", "CA1": "carbonic anhydrase I",
    "CA2": "carbonic anhydrase II",
    "HTR2C": "5-hydroxytryptamine (serotonin) receptor 2C, G protein-coupled", "PDE5A": "phosphodiesterase 5A, cGMP-specific",
    "PDE6G": "phosphodiesterase 6G, cGMP-specific, rod, gamma", "HMGCR": "3-hydroxy-3-methylglutaryl-CoA reductase",
    "ITGB2": "integrin, beta 2 (complement component 3 receptor 3 and 4 subunit)", "MET": "MET proto-oncogene, receptor tyrosine kinase",
    "EGFR": "epidermal growth factor receptor", "KCNH2": "potassium channel, voltage gated eag related subfamily H, member 2",
    "PTGS1": "prostaglandin-endoperoxide synthase 1 (prostaglandin G/H synthase and cyclooxygenase)",
    "PTGS2": "prostaglandin-endoperoxide synthase 2 (prostaglandin G/H synthase and cyclooxygenase)",
}  # fmt: skip


def gene(symbol: str) -> Node:
    return Node(symbol, NodeType.PROTEIN, symbol, NAMES[symbol], synonyms=(NAMES[symbol],))


@pytest.mark.parametrize(
    ("text", "best", "others"),
    [
        ("It is a histamine H1 receptor antagonist.", "HRH1", ("HRH2", "KCNH2")),
        ("An H2-blocker that acts on histamine H<sub>2</sub> receptors.", "HRH2", ("HRH1",)),
        ("A cardioselective beta-1-adrenergic antagonist.", "ADRB1", ("ADRB2",)),
        ("A β2-adrenoceptor agonist for asthma.", "ADRB2", ("ADRB1",)),
        ("It is a selective serotonin-reuptake inhibitor.", "SLC6A4", ("SLC6A2", "HTR2A")),
        ("It acts mainly on M3 muscarinic receptors.", "CHRM3", ("CHRM1",)),
        ("It blocks 5-HT2A receptors.", "HTR2A", ("HTR2C", "SLC6A4")),
        ("It inhibits carbonic anhydrase II.", "CA2", ("CA1",)),
        ("It acts by inhibiting phosphodiesterase type 5 (PDE5).", "PDE5A", ("PDE6G",)),
        ("A competitive inhibitor of 3-hydroxy-3-methylglutaryl coenzyme A reductase.", "HMGCR", ("ITGB2",)),
        ("An inhibitor of COX-2.", "PTGS2", ("PTGS1",)),
        ("It binds the receptor for epidermal growth factor.", "EGFR", ("MET",)),
    ],
)
def test_the_gene_that_a_description_means_scores_best(text: str, best: str, others: tuple[str, ...]) -> None:
    ranked = rank_genes(text, [gene(s) for s in (*others, best)])
    assert ranked[0][0].name == best and ranked[0][1].score > ranked[1][1].score and ranked[0][1].matched


def test_no_name_no_match() -> None:
    for text in ("", "A sulfamyl diuretic.", "The need was met by a growth factor."):
        assert match_gene(text, gene("MET")).score == 0.0


def test_the_whole_name_on_an_action_is_worth_one_and_aside_less() -> None:
    assert match_gene("It inhibits EGFR.", gene("EGFR")).score == 1.0
    assert 0.5 < match_gene("EGFR is a gene.", gene("EGFR")).score < 1.0


def test_of_equal_genes_the_one_named_first_comes_first() -> None:
    ranked = rank_genes("It inhibits EGFR and MET.", [gene("MET"), gene("EGFR")])
    assert [g.name for g, _ in ranked] == ["EGFR", "MET"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("carbonic anhydrase II", "carbonic anhydrase 2"), ("β2", "beta 2"), ("adrenoceptor", "adrenergic receptor"),
        ("5-HT receptors", "serotonin receptor"), ("noradrenaline", "norepinephrine"), ("cyclo-oxygenase", "cyclooxygenase"),
    ],
)  # fmt: skip
def test_one_wording(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@given(st.text(max_size=300), st.sampled_from(sorted(NAMES)))
def test_scores_stay_in_range(text: str, symbol: str) -> None:
    match = match_gene(f"{text} {NAMES[symbol]}", gene(symbol))
    assert 0.5 <= match.score <= 1.0 or not NAMES[symbol]
