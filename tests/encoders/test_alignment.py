"""Alignment of proteins: against Smith-Waterman in loops, on planted relatives; blocks, threads and what is kept change nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scoring_matrices import ScoringMatrix

from biobridge_rag.encoders import alignment, make_encoder
from biobridge_rag.encoders import protein as protein_words
from biobridge_rag.encoders.alignment import SequenceAligner, chance
from biobridge_rag.encoders.sequences import RESIDUES
from biobridge_rag.types import AligningEncoder, Modality, Vectors

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
BLOSUM50 = ScoringMatrix.from_name("BLOSUM50")
SCORES = {a: {b: int(BLOSUM50[i][j]) for j, b in enumerate(BLOSUM50.alphabet)} for i, a in enumerate(BLOSUM50.alphabet)}


def protein(rng: np.random.Generator, length: int, letters: str = LETTERS) -> str:
    return "".join(rng.choice(list(letters), length))


def proteins(seed: int, n: int, low: int = 20, high: int = 120, letters: str = LETTERS) -> list[str]:
    rng = np.random.default_rng(seed)
    return [protein(rng, int(rng.integers(low, high)), letters) for _ in range(n)]


def natural(rng: np.random.Generator, length: int) -> str:
    """Residues as frequent as in Swiss-Prot, which human proteins are near to."""
    share = protein_words._BACKGROUND[:20] / protein_words._BACKGROUND[:20].sum()
    return "".join(rng.choice(list(protein_words._LETTERS[:20]), length, p=share))


def silent(_stage: str, _done: int, _total: int) -> None: ...


def naive_score(a: str, b: str) -> int:
    """The best local alignment, cell by cell; a gap of n residues costs 10 + n."""
    best = 0
    before, down = [0] * (len(b) + 1), [-999] * (len(b) + 1)
    for x in a:
        now, right = [0] * (len(b) + 1), -999
        for j, y in enumerate(b, start=1):
            down[j] = max(down[j] - 1, before[j] - 11)
            right = max(right - 1, now[j - 1] - 11)
            now[j] = max(0, before[j - 1] + SCORES[x][y], down[j], right)
            best = max(best, now[j])
        before = now
    return best


def naive_similarity(a: str, b: str) -> float:
    def excess(x: str, y: str) -> float:
        return max(0.0, naive_score(x, y) - float(chance(np.array(len(x)), np.array(len(y)))))

    return float(np.sqrt(excess(a, b) / np.sqrt(excess(a, a) * excess(b, b))))


def relative(rng: np.random.Generator, ancestor: str, identity: float) -> str:
    """`identity` of the residues kept, the others exchanged for like ones (BLOSUM50 is in thirds of a bit), 12 put in at one place."""
    out = list(ancestor)
    for at in rng.choice(len(out), round(len(out) * (1.0 - identity)), replace=False):
        odds = np.array([0.0 if b == out[at] else 2.0 ** (SCORES[out[at]][b] / 3) for b in LETTERS])
        out[at] = rng.choice(list(LETTERS), p=odds / odds.sum())
    cut = int(rng.integers(len(out)))
    return "".join(out[:cut]) + protein(rng, 12) + "".join(out[cut:])


def shuffled(rng: np.random.Generator, sequence: str) -> str:
    return "".join(rng.permutation(list(sequence)))


def test_likeness_is_symmetric_from_0_to_1_and_1_with_itself() -> None:
    """Also with the rare letters, and among relatives, where values lie between."""
    rng = np.random.default_rng(0)
    sequences = proteins(1, 25, letters=LETTERS * 4 + "BZUO") + [relative(rng, s, 0.6) for s in proteins(1, 5, 60)]
    found = SequenceAligner(sequences).similarities(sequences)
    assert found.dtype == np.float32 and found.shape == (30, 30)
    assert np.array_equal(found, found.T) and (np.diag(found) == 1.0).all()
    assert found.min() >= 0.0 and found.max() <= 1.0
    assert (found < 1.0).sum() == 30 * 29 and ((found > 0.2) & (found < 0.9)).any()


@pytest.mark.parametrize("seed", range(4))
def test_similarities_are_those_of_loops(seed: int) -> None:
    """Short sequences of three letters, so that gaps are worth their cost, and of all of them."""
    sequences = proteins(seed, 5, 8, 40, "WKAC") + proteins(seed, 3, 8, 40, LETTERS + "BZ")
    found = SequenceAligner(sequences).similarities(sequences)
    for i, j in combinations_with_replacement(range(len(sequences)), 2):
        assert found[i, j] == pytest.approx(naive_similarity(sequences[i], sequences[j]), abs=1e-5), (sequences[i], sequences[j])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_gap_of_n_residues_costs_ten_and_n(n: int) -> None:
    """Both ends match in full, so that bridging the gap is the best alignment; its cost is read off the similarity."""
    rng = np.random.default_rng(n)
    left, right = protein(rng, 40), protein(rng, 40)
    whole, gapped = left + right, left + "P" * n + right
    own = sum(SCORES[a][a] for a in whole)
    found = float(SequenceAligner([whole]).similarities([gapped])[0, 0])
    assert naive_score(whole, gapped) == own - 10 - n
    a, b = np.array(len(whole)), np.array(len(gapped))
    norm = np.sqrt((own - chance(a, a)) * (own + n * SCORES["P"]["P"] - chance(b, b)))
    assert found**2 * norm + chance(a, b) == pytest.approx(own - 10 - n, abs=1e-2)


@pytest.mark.parametrize("identity", [0.5, 0.4, 0.3])
def test_relatives_rank_above_shuffled_sequences(identity: float) -> None:
    """Ten families: of each, a relative with an insertion is nearest to its ancestor, and nearer than any shuffled relative."""
    rng = np.random.default_rng(5)
    ancestors = [natural(rng, int(n)) for n in rng.integers(250, 450, 10)]
    aligner, relatives = SequenceAligner(ancestors), [relative(rng, a, identity) for a in ancestors]
    found = aligner.similarities(relatives)
    unrelated = aligner.similarities([shuffled(rng, r) for r in relatives for _ in range(3)])
    assert found.argmax(axis=1).tolist() == list(range(10))
    assert np.diag(found).min() > max(float(unrelated.max()), float(found[~np.eye(10, dtype=bool)].max()))
    assert unrelated.max() < 0.2 and unrelated.mean() < 0.05


def test_it_finds_relatives_that_share_too_few_words_for_the_vectors() -> None:
    rng, encoder = np.random.default_rng(5), make_encoder(Modality.PROTEIN, "kmer")
    assert isinstance(encoder, AligningEncoder)
    ancestors = [natural(rng, 300) for _ in range(20)]
    relatives = [relative(rng, a, 0.3) for a in ancestors]
    by_alignment = encoder.aligner(ancestors).similarities(relatives)
    by_vectors = encoder.encode(relatives) @ encoder.encode(ancestors).T
    found, missed = (np.mean(np.argmax(x, axis=1) == np.arange(20)) for x in (by_alignment, by_vectors))
    assert found == 1.0 and missed < 0.9


def test_closer_relatives_are_more_alike() -> None:
    rng, ancestor = np.random.default_rng(7), proteins(8, 1, 300, 301)[0]
    found = SequenceAligner([ancestor]).similarities([relative(rng, ancestor, i) for i in (0.9, 0.6, 0.3)])[:, 0]
    assert 1.0 > found[0] > found[1] + 0.1 > found[2] + 0.2


def test_the_table_is_what_queries_of_its_own_sequences_get() -> None:
    rng, told = np.random.default_rng(9), []
    sequences = proteins(2, 30) + [relative(rng, s, 0.5) for s in proteins(2, 10, 40)]
    aligner = SequenceAligner(sequences)
    table = aligner.table(lambda *at: told.append(at))
    assert table.dtype == np.float16 and np.array_equal(table, table.T) and (np.diag(table) == 1.0).all()
    assert np.allclose(table, aligner.similarities(sequences), atol=1e-3)
    assert {stage for stage, _, _ in told} == {"aligning sequences"} and told[0][1:] == (0, 40) and told[-1][1:] == (40, 40)


@pytest.mark.parametrize("cores", [1, 2, 3, 50])
def test_a_batch_is_one_query_at_a_time_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Fewer queries than cores are cut into parts of the graph, more are not."""
    sequences, queries = proteins(3, 13), proteins(4, 5)
    expected = np.array([[naive_similarity(q, s) for s in sequences] for q in queries[:1]])
    monkeypatch.setattr(alignment, "_cores", lambda: cores)
    batch = SequenceAligner(sequences).similarities(queries)
    apart = SequenceAligner(sequences)
    assert np.array_equal(batch, np.concatenate([apart.similarities([q]) for q in queries]))
    assert np.allclose(batch[:1], expected, atol=1e-5) and batch.shape == (5, 13)
    assert np.array_equal(SequenceAligner(sequences).table(silent), SequenceAligner(sequences).similarities(sequences).astype(np.float16))


def test_without_queries_there_are_no_rows() -> None:
    assert SequenceAligner(proteins(3, 4)).similarities([]).shape == (0, 4)


@pytest.fixture
def aligned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sequences that were really aligned, in order."""
    seen: list[str] = []
    real = SequenceAligner._align

    def spy(self: SequenceAligner, sequences: list[str]) -> list[Vectors]:
        seen.extend(sequences)
        return real(self, sequences)

    monkeypatch.setattr(SequenceAligner, "_align", spy)
    return seen


def test_a_repeated_query_is_aligned_once(aligned: list[str]) -> None:
    aligner, (a, b, c) = SequenceAligner(proteins(3, 6)), proteins(4, 3)
    first = aligner.similarities([a])
    again = aligner.similarities([a])
    assert aligned == [a] and np.array_equal(first, again)
    mixed = aligner.similarities([b, a, c])
    assert aligned == [a, b, c] and np.array_equal(mixed[1], first[0])
    assert np.array_equal(mixed, SequenceAligner(proteins(3, 6)).similarities([b, a, c]))


def test_changing_an_answer_does_not_change_the_next(aligned: list[str]) -> None:
    aligner, (query,) = SequenceAligner(proteins(3, 6)), proteins(4, 1)
    expected = aligner.similarities([query]).copy()
    for _ in range(2):
        aligner.similarities([query])[:] = -7.0
    assert np.array_equal(aligner.similarities([query]), expected) and aligned == [query]


def test_the_same_sequence_twice_in_a_batch_is_aligned_once(aligned: list[str]) -> None:
    aligner, (a, b) = SequenceAligner(proteins(3, 6)), proteins(4, 2)
    found = aligner.similarities([a, b, a, a])
    assert aligned == [a, b]
    assert np.array_equal(found[[0, 0, 0]], found[[0, 2, 3]]) and not np.array_equal(found[0], found[1])


def test_what_is_kept_is_bounded_and_the_longest_unasked_goes_first(monkeypatch: pytest.MonkeyPatch, aligned: list[str]) -> None:
    aligner, queries = SequenceAligner(proteins(3, 6)), proteins(4, 5)
    monkeypatch.setattr(alignment, "_KEPT", 3 * 6 * 4 + 1)  # three rows of six
    for query in queries[:3]:
        aligner.similarities([query])
    aligner.similarities(queries[:1])  # the first is the latest now
    aligner.similarities(queries[3:4])
    assert aligned == queries[:4] and list(aligner._kept) == [queries[2], queries[0], queries[3]]
    assert np.array_equal(aligner.similarities(queries), SequenceAligner(proteins(3, 6)).similarities(queries))
    assert len(aligner._kept) == 3
    monkeypatch.setattr(alignment, "_KEPT", 0)
    aligner.similarities(queries[:2])
    assert len(aligner._kept) == 1, "the last query is asked for several relations"


def test_kept_is_an_aligner_of_those_sequences() -> None:
    """Also of what was kept of it, and with letters that were read as others."""
    sequences, queries = [*proteins(3, 6), "MUOKCWWHUO"], [*proteins(4, 2), "MUOKCWWHUO"]
    aligner = SequenceAligner(sequences)
    aligner.similarities(queries)
    rows = np.array([6, 1, 4])
    fresh = SequenceAligner([sequences[i] for i in rows])
    for kept in (aligner.kept(rows), aligner.kept(np.array([4, 6, 1])).kept(np.array([1, 2, 0]))):
        assert np.array_equal(kept.similarities(queries), fresh.similarities(queries)) and kept.similarities(queries)[2, 0] == 1.0
        assert np.array_equal(kept.table(silent), fresh.table(silent))
    assert aligner.similarities(queries).shape == (3, 7)


def test_rare_residues_are_read_as_what_they_stand_for() -> None:
    aligner = SequenceAligner(["MKCWHHCAKDE", "MKUWHHUAODE"])
    found = aligner.similarities(["MKUWHHUAODE", "MKCWHHCAKDE"])
    assert (found == 1.0).all() and (aligner.table(silent) == 1.0).all()


ODD = ["M", "W", "U", "O", "X", "MK", "UUUU", "OOOO", "BZXB", "XXXXXXXX", "".join(sorted(RESIDUES)), "A" * 400, "MK" * 1500]


def test_odd_sequences_have_finite_similarities() -> None:
    """One residue, rare letters alone, one letter over and over, and 3,000 residues, as queries and as nodes."""
    sequences = ODD + proteins(5, 2, 2999, 3001)
    aligner = SequenceAligner(sequences)
    for found in (aligner.similarities(sequences), aligner.table(silent)):
        assert np.isfinite(found).all() and found.min() >= 0.0 and found.max() <= 1.0
    assert aligner.similarities(sequences[-2:])[:, -2:].diagonal().tolist() == [1.0, 1.0]
    assert aligner.similarities(sequences[-1:])[0, -2] < 0.2, "long unrelated sequences are not alike"


def test_a_score_beyond_sixteen_bits_does_not_overflow() -> None:
    """7,000 tryptophans score 105,000."""
    long = "W" * 7000
    assert SequenceAligner([long, "MKTAYIAKQR"]).similarities([long]).tolist() == [[1.0, 0.0]]


def test_several_threads_at_once_get_the_same_numbers() -> None:
    """On an aligner that nobody has used, with queries that overlap and with room for few."""
    sequences, queries = proteins(3, 20), proteins(4, 12)
    expected = SequenceAligner(sequences).similarities(queries)
    shared = SequenceAligner(sequences)
    asked = [[(i * k + k) % 12 for i in range(3)] for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda rows: shared.similarities([queries[i] for i in rows]), asked))
    assert all(np.array_equal(f, expected[rows]) for f, rows in zip(found, asked, strict=True))
    assert set(shared._kept) == {queries[i] for rows in asked for i in rows}


def test_threads_that_push_each_others_queries_out_get_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_KEPT", 2 * 20 * 4)
    sequences, queries = proteins(3, 20), proteins(4, 12)
    expected, shared = SequenceAligner(sequences).similarities(queries), SequenceAligner(sequences)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: shared.similarities([queries[i % 12], queries[(i + 1) % 12]]), range(60)))
    assert all(np.array_equal(f, expected[[i % 12, (i + 1) % 12]]) for i, f in enumerate(found))
    assert len(shared._kept) == 2


def test_identities_are_the_share_of_identical_columns_and_their_number() -> None:
    """Of the best local alignment: what does not match at the ends is no part of it, what is put in between is."""
    rng = np.random.default_rng(12)
    left, right = protein(rng, 30), protein(rng, 30)
    one_other = "W" if left[10] != "W" else "C"
    nodes = [
        left + right,
        left[:10] + one_other + left[11:] + right,
        left + "PGP" + right,
        left[:-3] + right,
        "".join(sorted(left)) + left + right[:5],
        "WWWWWWWW",
    ]
    aligner, value = SequenceAligner(nodes), left + right
    found = aligner.identities(value, range(6))
    assert [n for _, n in found[:4]] == [60, 60, 63, 60] and found[4][1] >= 35
    assert [share for share, _ in found[:4]] == pytest.approx([1.0, 59 / 60, 60 / 63, 57 / 60])
    assert aligner.identities(value, [3, 0]) == [found[3], found[0]] and aligner.identities(value, []) == []


def test_what_has_no_alignment_has_no_identity() -> None:
    assert SequenceAligner(["WWWWWWWW"]).identities("PPPPPPPP", [0]) == [None]


def test_alignments_that_would_take_too_much_memory_are_not_traced_back(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = SequenceAligner(["MKTCWHHKAY", "MKTCWHHKAYMKTCWHHKAY", "MKTCW"])
    monkeypatch.setattr(alignment, "_MOST_CELLS", 100)
    assert aligner.identities("MKTCWHHKAY", [1, 0, 2]) == [None, (1.0, 10), (1.0, 5)]


def test_unknown_residues_do_not_count_against_a_sequence() -> None:
    known = "MKTCWHHKAYFWCCHMKTCWHHKAYFWCCH"
    aligner = SequenceAligner([known + "X" * 400])
    assert aligner.similarities([known + "X" * 400])[0, 0] == pytest.approx(1.0)


def test_identities_read_rare_residues_as_what_they_stand_for() -> None:
    assert SequenceAligner(["MKTCWHHKAY"]).identities("MKTUWHHOAY", [0]) == [(1.0, 10)]


def test_chance_is_symmetric_and_grows_with_either_length() -> None:
    lengths = np.array([5, 30, 100, 300, 1000, 3000, 35_000])
    found = chance(lengths[:, None], lengths)
    assert found.shape == (7, 7) and np.allclose(found, found.T) and found.dtype == np.float64
    assert (np.diff(found, axis=0) > 0.0).all() and (np.diff(found, axis=1) > 0.0).all()
    assert chance(np.array(100), np.array(300)) == pytest.approx(found[2, 3])


def test_chance_is_near_what_unrelated_sequences_score() -> None:
    rng = np.random.default_rng(11)
    for a, b in ((150, 150), (150, 600), (500, 500)):
        queries, others = ([natural(rng, n) for _ in range(12)] for n in (a, b))
        aligner = SequenceAligner(others)
        mean = np.mean([aligner._scores(q, 0, len(others)).mean() for q in queries])
        assert mean == pytest.approx(float(chance(np.array(a), np.array(b))), rel=0.1)


def test_similarities_are_pinned_to_the_encoders_id() -> None:
    """A change of output must come with a new id, as the similarities of a home are kept."""
    encoder = make_encoder(Modality.PROTEIN, "kmer")
    assert isinstance(encoder, AligningEncoder) and not isinstance(make_encoder(Modality.MOLECULE, "fingerprint"), AligningEncoder)
    globins_and_insulin = (
        "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDLHAHKLRVDPVNFKLLSHCLLVTL"
        "AAHLPAEFTPAVHASLDKFLASVSTVLTSKYR",
        "MVHLTPEEKSAVTALWGKVNVDEVGGEALGRLLVVYPWTQRFFESFGDLSTPDAVMGNPKVKAHGKKVLGAFSDGLAHLDNLKGTFATLSELHCDKLHVDPENFRLLGNV"
        "LVCVLAHHFGKEFTPPVQAAYQKVVAGVANALAHKYH",
        "MGLSDGEWQLVLNVWGKVEADIPGHGQEVLIRLFKGHPETLEKFDKFKHLKSEDEMKASEDLKKHGATVLTALGGILKKKGHHEAEIKPLAQSHATKHKIPVKYLEFISE"
        "CIIQVLQSKHPGDFGADAQGAMNKALELFRKDMASNYKELGFQG",
        "MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKTRREAEDLQVGQVELGGGPGAGSLQPLALEGSLQKRGIVEQCCTSICSLYQLENYCN",
    )
    found = encoder.aligner(globins_and_insulin).similarities(globins_and_insulin)
    assert encoder.id == "kmer-11011-111010111-8192-sw50-v3"
    expected = [[1, 0.61523, 0.39211, 0.14982], [0.61523, 1, 0.35218, 0.06688], [0.39211, 0.35218, 1, 0], [0.14982, 0.06688, 0, 1]]
    assert np.allclose(found, expected, atol=1e-4)
