"""Semantic similarity: by hand on a small ontology, against brute force, on obo files, and the correlation with its interval."""

from __future__ import annotations

import gzip
import math
from itertools import product
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from biobridge_rag.errors import FileError, InputError
from biobridge_rag.evaluation.semantics import (
    ancestors,
    annotated_similarity,
    compare,
    information_content,
    lin_similarity,
    load_ontology,
    match_terms,
    ontology_of,
    sample_pairs,
    stratify,
)
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

#        root
#       /    \
#      a      b
#     / \    / \
#    c    d     e        d has both a and b as parents
DAG = nx.DiGraph([("a", "root"), ("b", "root"), ("c", "a"), ("d", "a"), ("d", "b"), ("e", "b")])
# Eight items: c has 1 2, d has 3, e has 4 5 6, a has 7, the root 8. So p: a 4/8, b 4/8, c 2/8, d 1/8, e 3/8.
ANNOTATED = {"c": [1, 2], "d": [3], "e": [4, 5, 6], "a": [7], "root": [8]}

OBO = """format-version: 1.2
ontology: go

[Term]
id: GO:0008150
name: biological_process
namespace: biological_process

[Term]
id: GO:0000002
name: upkeep
namespace: biological_process
alt_id: GO:0000077
is_a: GO:0008150 ! biological_process

[Term]
id: GO:0000003
name: small upkeep
namespace: biological_process
is_a: GO:0000002 {source="x"} ! upkeep
relationship: part_of GO:0000004 ! other

[Term]
id: GO:0000004
name: other
namespace: biological_process
is_a: GO:0008150

[Term]
id: GO:0000005
name: gone
namespace: biological_process
is_obsolete: true

[Term]
id: GO:0003674
name: molecular_function
namespace: molecular_function

[Typedef]
id: part_of
name: part of
"""


def test_information_content_by_hand() -> None:
    got = information_content(DAG, ANNOTATED)
    want = {"root": 0.0, "a": math.log(2), "b": math.log(2), "c": math.log(4), "d": math.log(8), "e": math.log(8 / 3)}
    assert got == pytest.approx(want)


def test_an_item_annotated_twice_below_a_term_counts_once() -> None:
    assert information_content(DAG, {"c": [1], "d": [1], "e": [2]})["a"] == pytest.approx(math.log(2))


def test_intrinsic_information_content_by_hand() -> None:
    got = information_content(DAG)  # six terms; a and b have two descendants each, the leaves none
    assert got == pytest.approx({"root": 0, "a": 1 - math.log(3) / math.log(6), "b": 1 - math.log(3) / math.log(6), "c": 1, "d": 1, "e": 1})


def test_lin_by_hand() -> None:
    ic = information_content(DAG, ANNOTATED)
    got = lin_similarity(DAG, ic, [("c", "d"), ("d", "e"), ("c", "e"), ("a", "c"), ("c", "c"), ("root", "c"), ("root", "root")])
    above_e = 2 * math.log(2) / (math.log(8) + math.log(8 / 3))
    assert got == pytest.approx([2 / 5, above_e, 0, 2 / 3, 1, 0, 1])


def test_lin_takes_the_most_informative_common_ancestor() -> None:
    dag = nx.DiGraph(
        [("rare", "root"), ("common", "root"), ("x", "rare"), ("x", "common"), ("y", "rare"), ("y", "common"), ("z", "common")]
    )
    ic = information_content(dag, {"x": [1], "y": [2], "z": [3, 4, 5, 6], "root": [7, 8]})
    assert lin_similarity(dag, ic, [("x", "y")]) == pytest.approx([2 * math.log(8 / 2) / (2 * math.log(8))])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=2, max_size=12), st.booleans())
def test_lin_equals_brute_force(parents: list[list[int]], annotate: bool) -> None:
    dag = nx.DiGraph()
    dag.add_nodes_from(str(i) for i in range(len(parents)))
    dag.add_edges_from((str(i), str(p % i)) for i, above in enumerate(parents) if i for p in above)
    annotations = {str(i): [f"{i}-{k}" for k in range(1 + i % 3)] for i in range(len(parents))} if annotate else None
    ic = information_content(dag, annotations)
    pairs = list(product(dag, dag))
    chains = {t: {t} | nx.descendants(dag, t) for t in dag}
    for (a, b), got in zip(pairs, lin_similarity(dag, ic, pairs), strict=True):
        shared = [ic[c] for c in chains[a] & chains[b]]
        want = 1.0 if a == b else 0.0 if not shared or ic[a] + ic[b] == 0 else 2 * max(shared) / (ic[a] + ic[b])
        assert got == pytest.approx(want) and -1e-9 <= got <= 1 + 1e-9
    if annotations:  # p counted anew: the items of all terms from which this one is reached
        total = sum(map(len, annotations.values()))
        for t in dag:
            below = sum(len(annotations[u]) for u in dag if t in chains[u])
            assert ic[t] == pytest.approx(-math.log(below / total), abs=1e-12)


def test_best_match_average_by_hand() -> None:
    ic = information_content(DAG, ANNOTATED)
    got = annotated_similarity(DAG, ic, [["c", "e"], ["d"], ["c"]], np.array([[0, 1], [0, 2], [2, 2]]))
    cd, de = lin_similarity(DAG, ic, [("c", "d"), ("d", "e")])
    assert got == pytest.approx([(cd + de + max(cd, de)) / 3, (1 + 0 + 1) / 3, 1])
    with pytest.raises(InputError, match="Item 1 is annotated with no term"):
        annotated_similarity(DAG, ic, [["c"], []], np.array([[0, 1]]))


def test_the_obo_file_settles_the_direction(tmp_path: Path) -> None:
    path = tmp_path / "go.obo"
    path.write_text(OBO)
    dag = load_ontology(path, namespace="biological_process")
    assert set(dag) == {"GO:0008150", "GO:0000002", "GO:0000003", "GO:0000004"}  # neither the obsolete one nor the other branch
    assert ancestors(dag)["GO:0000003"] == {"GO:0000003", "GO:0000002", "GO:0008150"}
    assert "GO:0000004" in ancestors(load_ontology(path, part_of=True))["GO:0000003"]
    assert set(load_ontology(path)) - set(dag) == {"GO:0003674"}
    packed = tmp_path / "go.obo.gz"
    packed.write_bytes(gzip.compress(OBO.encode()))
    assert nx.utils.graphs_equal(load_ontology(packed), load_ontology(path))


def test_terms_are_matched_by_id_by_alternative_id_and_by_number(tmp_path: Path) -> None:
    (tmp_path / "go.obo").write_text(OBO)
    dag = load_ontology(tmp_path / "go.obo")
    assert match_terms(dag, ["GO:0000002", "GO:0000077", "8150", "77", "999", "GO:0000005", ""]) == [
        "GO:0000002", "GO:0000002", "GO:0008150", "GO:0000002", None, None, None,
    ]  # fmt: skip
    assert match_terms(nx.DiGraph([("A:1", "B:2")]), ["1", "A:1"]) == [None, "A:1"]  # of two prefixes neither can be meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not an ontology at all\n", "no ontology in obo format|holds no terms"),
        ("format-version: 1.2\nontology: x\n", "holds no terms"),
        (
            OBO.replace("is_a: GO:0008150 ! biological_process", "is_a: GO:0000003"),
            "a cycle: GO:000000[23] -> GO:000000[32] -> GO:000000[23]",
        ),
    ],
)
def test_a_bad_obo_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.obo"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_ontology(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        load_ontology(tmp_path / "none.obo")
    (tmp_path / "binary.obo").write_bytes(bytes(range(256)))
    with pytest.raises(FileError, match="no ontology in obo format"):
        load_ontology(tmp_path / "binary.obo")
    (tmp_path / "cut.obo.gz").write_bytes(gzip.compress(OBO.encode())[:60])
    with pytest.raises(FileError):
        load_ontology(tmp_path / "cut.obo.gz")
    (tmp_path / "go.obo").write_text(OBO)
    with pytest.raises(InputError, match="holds no terms of 'pathway'"):
        load_ontology(tmp_path / "go.obo", namespace="pathway")


def test_unknown_terms_and_empty_ontologies_are_one_clear_line() -> None:
    ic = information_content(DAG, {"c": [1], "e": [2]})
    with pytest.raises(InputError, match="The term zz is not in the ontology"):
        lin_similarity(DAG, ic, [("c", "zz")])
    with pytest.raises(InputError, match="The term d is not annotated"):
        lin_similarity(DAG, ic, [("c", "d")])
    with pytest.raises(InputError, match="2 terms are not in the ontology, y for one"):
        information_content(DAG, {"y": [1], "z": [2], "c": [3]})
    with pytest.raises(InputError, match="Nothing is annotated"):
        information_content(DAG, {"c": []})
    with pytest.raises(InputError, match="The ontology is empty"):
        ancestors(nx.DiGraph())


def disease_graph(edges: list[tuple[int, int]]) -> tuple[KnowledgeGraph, Relation]:
    relation = Relation("parent-child", "disease", "disease")
    nodes = tuple(Node(f"D{i}", NodeType.DISEASE, f"disease {i}") for i in range(4))
    heads, tails = (np.array([e[k] for e in edges], dtype=np.int32) for k in (0, 1))
    none = np.zeros(len(edges), np.int16)
    return KnowledgeGraph("g", nodes, (relation,), heads, none, tails, none, ("made",)), relation


def test_the_graphs_own_relation_gives_an_ontology() -> None:
    graph, relation = disease_graph([(0, 1), (0, 2), (2, 3)])
    assert ancestors(ontology_of(graph, relation))["D3"] == {"D3", "D2", "D0"}
    assert ancestors(ontology_of(graph, relation, parent="tail"))["D0"] == {"D0", "D1", "D2", "D3"}


def test_a_relation_listed_both_ways_does_not_say_which_end_is_the_parent() -> None:
    graph, relation = disease_graph([(0, 1), (1, 0), (2, 3)])
    with pytest.raises(InputError, match=r"2 of 3 edges .* in both directions"):
        ontology_of(graph, relation)
    with pytest.raises(InputError, match="no edges"):
        ontology_of(graph, Relation("ppi", "disease", "disease"))


def tree(depth: int) -> nx.DiGraph:
    """A binary tree with edges from child to parent."""
    return nx.DiGraph((str(i), str((i - 1) // 2)) for i in range(1, 2 ** (depth + 1) - 1))


def test_sampled_pairs_spread_over_the_range_of_similarity() -> None:
    dag = tree(9)
    terms = sorted(dag)
    ic = information_content(dag)
    rows, reference = sample_pairs(dag, ic, terms, 400, np.random.default_rng(0))
    assert 360 <= len(rows) <= 400 and len(rows) == len({(min(r), max(r)) for r in rows.tolist()}) and (rows[:, 0] != rows[:, 1]).all()
    assert reference == pytest.approx(lin_similarity(dag, ic, [(terms[i], terms[j]) for i, j in rows]))
    at_random = np.random.default_rng(1).integers(len(terms), size=(400, 2))
    plain = lin_similarity(dag, ic, [(terms[i], terms[j]) for i, j in at_random])
    assert (plain > 0.6).mean() < 0.05 < 0.3 < (reference > 0.6).mean()  # why the sample is stratified
    assert np.bincount(np.minimum((reference * 5).astype(int), 4), minlength=5).min() >= 60
    again = sample_pairs(dag, ic, terms, 400, np.random.default_rng(0))[0]
    other = sample_pairs(dag, ic, terms, 400, np.random.default_rng(2))[0]
    assert np.array_equal(rows, again) and not np.array_equal(rows, other)


def test_the_number_of_bins_changes_the_sample() -> None:
    dag = tree(7)
    ic = information_content(dag)
    one, ten = (sample_pairs(dag, ic, sorted(dag), 300, np.random.default_rng(0), bins=b)[1] for b in (1, 10))
    assert ten.mean() > one.mean() + 0.1


def test_of_few_terms_all_pairs_are_candidates() -> None:
    ic = information_content(DAG)
    rows, _ = sample_pairs(DAG, ic, sorted(DAG), 1000, np.random.default_rng(0))
    assert len(rows) == 15
    with pytest.raises(InputError, match="too few"):
        sample_pairs(DAG, ic, ["a", "b"], 100, np.random.default_rng(0))


def test_strata_are_equal_and_none_makes_up_for_a_short_one() -> None:
    reference = np.concatenate([np.full(3, 0.95), np.full(500, 0.05), np.full(500, 0.55), [1.0]])
    kept = stratify(reference, 100, np.random.default_rng(0))
    assert [int((reference[kept] == v).sum()) for v in (0.95, 1.0, 0.05, 0.55)] == [3, 1, 10, 10]


def planted(noise: float, seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors on a circle, pairs, and a reference that is their cosine with noise."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, n)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    pairs = rng.integers(n, size=(600, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return x, pairs, (x[pairs[:, 0]] * x[pairs[:, 1]]).sum(1) + noise * rng.standard_normal(len(pairs))


def test_the_correlation_is_spearmans_and_the_better_space_wins() -> None:
    x, pairs, reference = planted(0.3, 0)
    noise = np.random.default_rng(9).standard_normal((len(x), 8)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    got = compare({"noise": noise, "true": x}, pairs, reference, resamples=200)
    cosine = (x[pairs[:, 0]].astype(float) * x[pairs[:, 1]]).sum(1)
    assert got["true"]["spearman"] == pytest.approx(stats.spearmanr(cosine, reference).statistic)
    assert got["true"]["ci"][0] < got["true"]["spearman"] < got["true"]["ci"][1]
    assert got["noise"]["ci"][0] < 0 < got["noise"]["ci"][1]
    assert got["true"]["difference"] == pytest.approx(got["true"]["spearman"] - got["noise"]["spearman"])
    assert got["true"]["difference_ci"][0] > 0 and "difference" not in got["noise"]
    exact = compare({"true": x}, pairs, cosine, resamples=20)["true"]
    assert exact["spearman"] == pytest.approx(1) and exact["ci"] == pytest.approx([1, 1])


def test_the_interval_covers_and_follows_the_seed() -> None:
    truth = compare({"x": (p := planted(0.5, 99, 4000))[0]}, p[1], p[2], resamples=2)["x"]["spearman"]
    inside = 0
    for seed in range(40):
        x, pairs, reference = planted(0.5, seed)
        low, high = compare({"x": x}, pairs, reference, resamples=100)["x"]["ci"]
        inside += low <= truth <= high
    assert inside >= 34
    assert compare({"x": x}, pairs, reference, resamples=50, seed=1) == compare({"x": x}, pairs, reference, resamples=50, seed=1)
    assert compare({"x": x}, pairs, reference, resamples=50, seed=1) != compare({"x": x}, pairs, reference, resamples=50, seed=2)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 4)), min_size=3, max_size=20))
def test_weighted_ranks_equal_those_of_repeated_values(rows: list[tuple[int, int, int]]) -> None:
    from biobridge_rag.evaluation.semantics import _correlation, _ranks

    a, b, times = (np.array(column) for column in zip(*rows, strict=True))
    codes = [np.unique(v, return_inverse=True)[1] for v in (a, b)]
    weight = times.astype(float)
    repeated = [np.repeat(v, times) for v in (a, b)]
    for code, values in zip(codes, repeated, strict=True):
        assert np.repeat(_ranks(code, weight), times) == pytest.approx(stats.rankdata(values))
    if all(len(set(v.tolist())) > 1 for v in (a, b)):
        got = _correlation(_ranks(codes[0], weight), _ranks(codes[1], weight), weight)
        assert got == pytest.approx(stats.spearmanr(*repeated).statistic)


def test_what_has_no_correlation_is_one_clear_line() -> None:
    x, pairs, reference = planted(0.3, 0)
    with pytest.raises(InputError, match="the semantic similarity is the same for all pairs"):
        compare({"x": x}, pairs, np.zeros(len(pairs)))
    with pytest.raises(InputError, match="x is not a number for some"):
        compare({"x": np.full_like(x, np.nan)}, pairs, reference)
    with pytest.raises(InputError, match="2 pairs and 2 similarities"):
        compare({"x": x}, pairs[:2], reference[:2])
