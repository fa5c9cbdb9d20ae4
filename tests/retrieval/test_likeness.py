"""How like the nodes of a type a query is: cosines against loops, and what an aligner says in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import BiobridgeError
from biobridge_rag.retrieval import likeness
from biobridge_rag.retrieval.likeness import ALIGNMENT, COSINE, Heads, Likeness
from biobridge_rag.types import Aligner, Vectors

N, DIM = 7, 5
RAW = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32) * np.linspace(0.5, 9.0, N, dtype=np.float32)[:, None]
NODES = ("MKTA", "MKTW", "GGGG", "GGGA", "WWWW", "M", "MKTAMKTA")


def shared(a: str, b: str) -> float:
    """The share of their letters that two values have in common."""
    return len(set(a) & set(b)) / len(set(a) | set(b))


class ByLetters:
    """A small aligner; `asked` keeps what was compared."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes, self.asked = list(nodes), list[str]()

    def similarities(self, sequences: Sequence[str]) -> Vectors:
        self.asked += sequences
        rows = [[shared(s, node) for node in self.nodes] for s in sequences]
        return np.array(rows, np.float32).reshape(len(sequences), len(self.nodes))

    def table(self, progress: Callable[[str, int, int], None]) -> NDArray[np.float16]:
        return self.similarities(self.nodes).astype(np.float16)

    def kept(self, rows: np.ndarray) -> ByLetters:
        return ByLetters([self.nodes[i] for i in rows])

    def identities(self, sequence: str, rows: Sequence[int]) -> list[tuple[float, int]]:
        return [(shared(sequence, self.nodes[i]), 1000 * len(self.nodes[i])) for i in rows]


def aligned(dtype: type = np.float16) -> tuple[Likeness, ByLetters]:
    aligner = ByLetters(NODES)
    among = np.array([[shared(a, b) for b in NODES] for a in NODES], dtype)
    return Likeness(RAW, among, aligner), aligner


def naive_cosines(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.array([[float(a @ b) / np.sqrt(float(a @ a) * float(b @ b)) for b in table] for a in x])


@pytest.mark.parametrize("scale", ["unit", "raw"])
@pytest.mark.parametrize("queries", ["unit", "raw"])
def test_without_an_aligner_it_is_the_cosine(scale: str, queries: str) -> None:
    """Of tables with rows of unit length and of raw ones, as a release's are, whatever the queries' lengths."""
    table = unit(RAW) if scale == "unit" else RAW
    asked = np.random.default_rng(1).standard_normal((4, DIM)).astype(np.float32)
    asked = unit(asked) if queries == "unit" else 3.0 * asked
    like = Likeness(table)
    for heads in (Heads(asked), Heads(asked, values=[("x",)] * 4)):
        found = like.of(heads)
        assert found.shape == (4, N) and found.dtype == np.float32
        assert np.allclose(found, naive_cosines(asked, RAW), atol=1e-5) and np.abs(found).max() <= 1.0 + 1e-6
    assert like.method == COSINE


def test_a_zero_row_is_like_nothing() -> None:
    table = RAW.copy()
    table[2] = 0.0
    assert (Likeness(table).of(Heads(RAW[:3]))[:, 2] == 0.0).all()
    assert not Likeness(table).of(Heads(table[[2]])).any()


def test_halves_and_memory_maps_are_read_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name, table in (("raw", RAW), ("unit", unit(RAW)), ("half", RAW.astype(np.float16))):
        np.save(tmp_path / f"{name}.npy", table)
        found = Likeness(np.load(tmp_path / f"{name}.npy", mmap_mode="r")).of(Heads(RAW))
        assert np.allclose(found, naive_cosines(RAW, RAW), atol=2e-3) and type(found) is np.ndarray


def test_kept_cosines_do_not_stand_in_for_those_of_queries() -> None:
    """Without an aligner a query is compared by its vector, also where the nodes' similarities are kept."""
    like = Likeness(RAW, np.zeros((N, N), np.float16))
    assert like.method == COSINE
    assert np.allclose(like.of(Heads(RAW[:2], np.array([0, 1]))), naive_cosines(RAW[:2], RAW), atol=1e-5)


def test_a_query_with_values_is_aligned_and_its_vector_is_not_read() -> None:
    like, aligner = aligned()
    found = like.of(Heads(np.full((2, DIM), np.nan, np.float32), values=[("MKTW",), ("GA",)]))
    assert like.method == ALIGNMENT and aligner.asked == ["MKTW", "GA"]
    assert np.allclose(found, [[shared(v, node) for node in NODES] for v in ("MKTW", "GA")]) and found.dtype == np.float32


def test_nodes_of_the_graph_are_looked_up_and_not_aligned() -> None:
    """With values or without; each is 1 with itself."""
    like, aligner = aligned()
    rows = np.array([4, 0, 4])
    for values in (None, [("WRONG",)] * 3):
        found = like.of(Heads(RAW[rows], rows, values))
        assert np.allclose(found, [[shared(NODES[r], node) for node in NODES] for r in rows], atol=1e-3)
        assert found.dtype == np.float32 and (found[np.arange(3), rows] == 1.0).all()
    assert not aligner.asked


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_handed_out_is_a_copy(dtype: type) -> None:
    like, _ = aligned(dtype)
    rows, before = np.arange(N), like.among(np.arange(N)).copy()
    like.of(Heads(RAW, rows))[:] = -1.0
    like.among(rows)[:] = -1.0
    assert np.array_equal(like.among(rows), before)
    cosine = Likeness(unit(RAW))
    cosine.of(Heads(RAW))[:] = -1.0
    cosine.among(rows)[:] = -1.0
    assert np.allclose(cosine.among(rows), naive_cosines(RAW, RAW), atol=1e-5)


def test_a_node_of_several_values_is_as_like_as_the_best_of_them() -> None:
    like, aligner = aligned()
    values = [("GGG", "MKTA"), ("WW",), ("AG", "W", "MKTA")]
    found = like.of(Heads(RAW[:3], values=values))
    assert aligner.asked == ["GGG", "MKTA", "WW", "AG", "W", "MKTA"]
    assert found.shape == (3, N) and found.dtype == np.float32
    assert np.allclose(found, [[max(shared(v, node) for v in group) for node in NODES] for group in values])
    one = [like.of(Heads(RAW[:1], values=[group]))[0] for group in values]
    assert np.array_equal(found, one)


def test_how_alike_nodes_are_is_said_in_words() -> None:
    """By identities where there is an aligner and a value to align, in the order of the rows, else in per cent of the similarity."""
    like, _ = aligned()
    rows, similar = np.array([6, 0, 4]), np.array([0.8, 0.514, 0.0], np.float32)
    assert like.how("MKTW", rows, similar) == [
        "60% identical over 8,000 residues to",
        "60% identical over 4,000 residues to",
        "25% identical over 4,000 residues to",
    ]
    for other, value in ((Likeness(RAW), "MKTW"), (like, "")):
        assert other.how(value, rows, similar) == ["80% like", "51% like", "0% like"]
    assert like.how("MKTW", rows[:0], similar[:0]) == Likeness(RAW).how("MKTW", rows[:0], similar[:0]) == []


@pytest.mark.parametrize(("share", "said"), [(1.0, "100%"), (0.9991, "over 99%"), (0.995, "over 99%"), (0.994, "99%"), (0.0, "0%")])
def test_not_quite_all_is_not_said_to_be_all(share: float, said: str) -> None:
    assert likeness._percent(share) == said


def test_without_values_a_query_cannot_be_aligned() -> None:
    like, _ = aligned()
    with pytest.raises(BiobridgeError, match="need their sequences") as error:
        like.of(Heads(RAW[:2]))
    assert "\n" not in str(error.value)


def test_an_aligner_without_similarities_of_the_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="own nodes"):
        Likeness(RAW, aligner=ByLetters(NODES))


def test_no_queries_give_no_rows() -> None:
    like, _ = aligned()
    for heads in (Heads(RAW[:0], values=[]), Heads(RAW[:0], np.zeros(0, np.int64))):
        assert like.of(heads).shape == Likeness(RAW).of(heads).shape == (0, N)


def test_among_is_the_similarity_of_any_nodes_in_any_order() -> None:
    rows = np.array([5, 0, 3])
    like, _ = aligned()
    assert np.allclose(like.among(rows), [[shared(NODES[a], NODES[b]) for b in rows] for a in rows], atol=1e-3)
    for cosine in (Likeness(RAW), Likeness(RAW, naive_cosines(RAW, RAW).astype(np.float16))):
        found = cosine.among(rows)
        assert found.dtype == np.float32 and np.allclose(found, naive_cosines(RAW[rows], RAW[rows]), atol=1e-3)
    assert like.among(rows[:0]).shape == Likeness(RAW).among(rows[:0]).shape == (0, 0)


def test_what_is_kept_is_read_where_it_is_there() -> None:
    kept = np.arange(N * N, dtype=np.float32).reshape(N, N)
    assert np.array_equal(Likeness(RAW, kept).among(np.array([2, 1])), kept[[2, 1]][:, [2, 1]])


def test_kept_is_the_likeness_of_those_nodes() -> None:
    rows = np.array([6, 1, 4])
    queries = Heads(RAW[:2], values=[("MKTW",), ("GGG", "W")])
    for whole in (Likeness(RAW), Likeness(RAW, naive_cosines(RAW, RAW).astype(np.float16)), aligned()[0]):
        part = whole.kept(rows)
        assert part.method == whole.method and np.array_equal(part.table, RAW[rows])
        assert (part.table_among is None) == (whole.table_among is None)
        assert np.allclose(part.of(queries), whole.of(queries)[:, rows], atol=1e-6)
        assert np.allclose(part.among(np.array([2, 0])), whole.among(rows[[2, 0]]), atol=1e-6)
        asked = Heads(RAW[rows[[1]]], np.array([1]))
        assert np.allclose(part.of(asked), whole.of(Heads(RAW[rows[[1]]], rows[[1]]))[:, rows], atol=1e-3)


def test_chance_is_higher_for_alignments_than_for_cosines() -> None:
    short, long = "M" * 100, "M" * 300
    assert 0.0 < Likeness(RAW).unlike(short) == Likeness(RAW).unlike(long) < aligned()[0].unlike(long) < aligned()[0].unlike(short) < 0.5


def test_heads_are_cut_with_their_rows_and_values() -> None:
    values = [(str(i),) for i in range(N)]
    heads = Heads(RAW, np.arange(N) * 10, values)
    part = heads[2:5]
    assert len(heads) == N and len(part) == 3 and np.array_equal(part.x, RAW[2:5])
    assert part.rows is not None and part.rows.tolist() == [20, 30, 40] and part.values == values[2:5]
    bare = Heads(RAW)[5:99]
    assert len(bare) == 2 and bare.rows is None and bare.values is None
    assert len(heads[3:3]) == 0


def test_cut_heads_are_as_like_as_whole_ones() -> None:
    like, _ = aligned()
    values = [("MK",), ("G", "W"), ("A",), ("MKTAMKTA", "M"), ("W",), ("GA",), ("T",)]
    for heads in (Heads(RAW, np.arange(N)), Heads(RAW, values=values)):
        for each in (like, Likeness(RAW)):
            parts = np.concatenate([each.of(heads[i : i + 2]) for i in range(0, N, 2)])
            assert np.allclose(parts, each.of(heads), atol=1e-6)


def test_the_small_aligner_keeps_the_protocol() -> None:
    aligner: Aligner = ByLetters(NODES)
    assert np.allclose(aligner.table(lambda *_: None), aligned()[0].table_among, atol=1e-3)
