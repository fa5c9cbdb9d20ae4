"""The ranking protocol on small made graphs: candidates, filter, blocks, missing methods, and the report's form."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.evaluation.metrics import filtered_ranks, summarise
from biobridge_rag.evaluation.ranking import rank
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

TARGET = Relation("target", "drug", "gene/protein")
INDICATION = Relation("indication", "drug", "disease")
PPI = Relation("ppi", "gene/protein", "gene/protein")
COUNTS = {NodeType.PROTEIN: 23, NodeType.DRUG: 40, NodeType.DISEASE: 9}
METRICS = {"mrr", "hits@1", "hits@3", "hits@10"}


def make_graph(*relations: Relation) -> KnowledgeGraph:
    """The counts' nodes and one edge of each relation, both directions."""
    nodes = tuple(Node(f"{t.value}{i}", t, "") for t, n in COUNTS.items() for i in range(n))
    first = {t.value: next(i for i, node in enumerate(nodes) if node.type is t) for t in COUNTS}
    every = sorted({r for relation in relations for r in (relation, relation.inverse)})
    head, tail = [first[r.head_type] for r in every], [first[r.tail_type] + 1 for r in every]
    kind = np.arange(len(every))
    return KnowledgeGraph(
        "g",
        nodes,
        tuple(every),
        np.array(head, np.int32),
        kind.astype(np.int16),
        np.array(tail, np.int32),
        kind.astype(np.int16) * 0,
        ("s",),
    )


def make_unseen(seed: int = 0, n_drugs: int = 30) -> UnseenNodes:
    """Drugs 0.. and five proteins after them, with edges drawn at random; most heads have several tails."""
    rng = np.random.default_rng(seed)
    nodes = tuple(Node(f"u{i}", NodeType.DRUG if i < n_drugs else NodeType.PROTEIN, "") for i in range(n_drugs + 5))

    def draw(heads: range, n_tails: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(h, t) for h in heads for t in rng.choice(n_tails, rng.integers(1, 5), replace=False)]
        rng.shuffle(pairs)
        return np.array(pairs).T[0], np.array(pairs).T[1]

    drugs, proteins = range(n_drugs), range(n_drugs, n_drugs + 5)
    edges = {TARGET: draw(drugs, 23), INDICATION: draw(drugs[:25], 9), PPI: draw(proteins, 23)}
    return UnseenNodes(nodes, edges, {"duplicate edge": 2})


def encode(node_type: NodeType, positions: list[int]) -> Vectors:
    return np.random.default_rng(9).normal(size=(100, 8)).astype(np.float32)[positions]


@dataclass
class Linear:
    """Scores by a fixed random matrix of each tail type, rounded to make ties; `at` counts the calls."""

    methods: tuple[str, ...] = ("fused", "analogues")
    only: tuple[Relation, ...] = (TARGET, INDICATION, PPI)
    plant: float | None = None
    calls: list[tuple[int, object]] = field(default_factory=list)

    def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
        self.calls.append((len(heads.x), heads.rows))
        out = {}
        if relation in self.only:
            for k, method in enumerate(self.methods):
                weights = np.random.default_rng(k).normal(size=(8, COUNTS[NodeType(relation.tail_type)])).astype(np.float32)
                out[method] = np.round(heads.x @ weights)
                if self.plant is not None:
                    out[method][-1, 2] = self.plant
        return out


def run(scorers=None, graph=None, unseen=None, **options):
    options = {"split": "inductive", "progress": lambda *a: None, "resamples": 50} | options
    graph = graph or make_graph(TARGET, INDICATION, PPI)
    return rank([Linear()] if scorers is None else scorers, graph, unseen or make_unseen(), encode, **options)


def naive_ranks(unseen: UnseenNodes, relation: Relation, method: str) -> list[float]:
    heads, tails = unseen.edges[relation]
    out: list[float] = []
    for h in np.unique(heads):
        scores = Linear().score(Heads(encode(NodeType.DRUG, [int(h)])), relation)[method][0]
        out.extend(filtered_ranks(scores, tails[heads == h]))
    return out


def test_the_report_equals_ranks_taken_head_by_head() -> None:
    unseen = make_unseen()
    report = run(unseen=unseen)
    assert [r["relation"] for r in report["relations"]] == ["indication", "ppi", "target"]
    for row in report["relations"]:
        relation = Relation(row["relation"], row["head_type"], row["tail_type"])
        heads = unseen.edges[relation][0]
        assert (row["n_heads"], row["n_triples"]) == (len(set(heads.tolist())), len(heads))
        assert row["n_candidates"] == COUNTS[NodeType(row["tail_type"])]
        for method in ("fused", "analogues"):
            assert row["methods"][method] == summarise(naive_ranks(unseen, relation, method))
    every = [rank for relation in unseen.edges for rank in naive_ranks(unseen, relation, "fused")]
    assert report["micro"]["fused"] == pytest.approx(summarise(every), abs=1e-6)
    crossing = [summarise(naive_ranks(unseen, r, "fused"))["mrr"] for r in (INDICATION, TARGET)]
    assert report["macro"]["fused"]["mrr"] == pytest.approx(np.mean(crossing), abs=1e-6)
    assert report["macro_over"] == [INDICATION.key, TARGET.key]


def test_the_contract() -> None:
    report = run(leaky=True, notes=["a note"], split="paper")
    old = {"protocol", "split", "n_unseen", "relations", "macro_over", "macro", "skipped"}
    new = {"micro", "macro_ci", "macro_best_baseline", "macro_against_best_baseline", "leaky", "notes", "missing"}
    assert set(report) == old | new
    assert (report["split"], report["n_unseen"], report["skipped"]) == ("paper", 35, {"duplicate edge": 2})
    assert (report["leaky"], report["notes"], report["missing"]) == (True, ["a note"], {})
    row = report["relations"][0]
    sizes = {"n_heads", "n_triples", "n_candidates"}
    assert set(row) == {"head_type", "relation", "tail_type", "methods", "ci", "best_baseline", "against_best_baseline"} | sizes
    for methods in (row["methods"], report["macro"], report["micro"]):
        assert list(methods) == ["fused", "analogues"]
        assert all(set(m) == METRICS for m in methods.values())
    assert report["macro_best_baseline"] == row["best_baseline"] == "analogues"
    for ci, against in ((row["ci"], row["against_best_baseline"]), (report["macro_ci"], report["macro_against_best_baseline"])):
        assert set(ci["fused"]) == {"mrr", "hits@10"}
        assert set(against) == {"fused"}
        assert set(against["fused"]) == {"mrr_difference", "ci", "p"}
    for m in ("fused", "analogues"):
        low, high = row["ci"][m]["mrr"]
        assert 0 < low <= row["methods"][m]["mrr"] <= high <= 1
        low, high = report["macro_ci"][m]["mrr"]
        assert low <= report["macro"][m]["mrr"] <= high


def test_blocks_of_any_size_give_the_same_report_and_stay_in_the_budget() -> None:
    whole, pieces, single = Linear(), Linear(), Linear()
    want = run([whole])
    assert max(n for n, _ in whole.calls) == 30
    assert run([pieces], budget=7 * 23 * 2 * 4) == want
    assert max(n for n, _ in pieces.calls) == 7 * 23 // 9  # of the nine diseases; of the 23 proteins seven heads at a time
    assert [n for n, _ in pieces.calls if n <= 7][-5:] == [7, 7, 7, 7, 2]
    assert run([single], budget=1) == want
    assert {n for n, _ in single.calls} == {1}


def test_a_node_is_encoded_once() -> None:
    seen: list[tuple[NodeType, int]] = []

    def counting(node_type: NodeType, positions: list[int]) -> Vectors:
        seen.extend((node_type, p) for p in positions)
        return encode(node_type, positions)

    graph = make_graph(TARGET, INDICATION, PPI)
    got = rank([Linear()], graph, make_unseen(), counting, split="inductive", progress=lambda *a: None, resamples=50)
    assert len(seen) == len(set(seen)) == 35
    assert got == run()


def test_several_scorers_stand_side_by_side() -> None:
    together = run([Linear(), Linear(("bridge", "linear"))])
    assert list(together["macro"]) == ["fused", "analogues", "bridge", "linear"]
    assert set(together["macro_against_best_baseline"]) == {"fused", "bridge"}
    alone = run([Linear()])
    for both, one in zip(together["relations"], alone["relations"], strict=True):
        assert {m: both["methods"][m] for m in one["methods"]} == one["methods"]


def test_ours_can_be_named() -> None:
    assert set(run(ours=["analogues"])["macro_against_best_baseline"]) == {"analogues"}


def test_a_method_that_cannot_score_a_relation_is_missing_and_has_no_mean_over_it() -> None:
    report = run([Linear(), Linear(("clip",), only=(TARGET, PPI)), Linear(("linear",), only=(TARGET, INDICATION))])
    assert report["missing"] == {"clip": [INDICATION.key], "linear": [PPI.key]}
    rows = {r["relation"]: r for r in report["relations"]}
    assert "clip" not in rows["indication"]["methods"] and "clip" not in rows["indication"]["ci"]
    assert "clip" in rows["target"]["methods"]
    assert list(report["macro"]) == ["fused", "analogues", "linear"] == list(report["macro_ci"])
    assert list(report["micro"]) == ["fused", "analogues"]
    assert rows["indication"]["best_baseline"] in ("analogues", "linear")


def test_a_relation_that_no_method_scores_is_counted() -> None:
    report = run([Linear(only=(TARGET, PPI))])
    assert report["skipped"][f"edge of a relation that no method can score: {INDICATION}"] == len(make_unseen().edges[INDICATION][0])
    assert report["macro_over"] == [TARGET.key]
    assert report["missing"] == {}


def test_a_relation_without_training_edges_is_skipped_unless_asked_for() -> None:
    graph = make_graph(TARGET, PPI)
    report = run(graph=graph)
    assert [r["relation"] for r in report["relations"]] == ["ppi", "target"]
    assert report["skipped"][f"edge of a relation that training never saw: {INDICATION}"] == len(make_unseen().edges[INDICATION][0])
    assert [r["relation"] for r in run(graph=graph, untrained=True)["relations"]] == ["indication", "ppi", "target"]


def test_nothing_to_rank_is_a_report_too() -> None:
    report = run(unseen=UnseenNodes((), {}, {}))
    assert (report["relations"], report["macro_over"], report["macro"]) == ([], [], {"fused": {}, "analogues": {}})
    assert (report["micro"], report["macro_ci"], report["macro_best_baseline"]) == ({}, {}, None)


def test_small_relations_are_the_mean_where_there_are_no_large_ones() -> None:
    assert run(unseen=make_unseen(n_drugs=12))["macro_over"] == [INDICATION.key, PPI.key, TARGET.key]


def test_duplicate_edges_count_once() -> None:
    unseen = make_unseen()
    doubled = UnseenNodes(unseen.nodes, {r: (np.tile(h, 2), np.tile(t, 2)) for r, (h, t) in unseen.edges.items()}, unseen.skipped)
    assert run(unseen=doubled) == run(unseen=unseen)


@pytest.mark.parametrize("budget", [1, 10_000])
def test_heads_of_the_graph_hand_on_their_rows_and_are_no_candidates_of_their_own(budget: int) -> None:
    """Every protein scores itself best; only where it is not told apart does that cost a rank. An edge to itself still counts."""

    @dataclass
    class Itself:
        methods: tuple[str, ...] = ("bridge",)

        def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
            assert heads.rows is not None
            scores = np.zeros((len(heads.x), 23), np.float32)
            scores[np.arange(len(heads.x)), heads.rows] = 2
            scores[:, 5] = 1
            return {"bridge": scores}

    nodes = tuple(Node(f"p{i}", NodeType.PROTEIN, "") for i in range(3))
    unseen = UnseenNodes(nodes, {PPI: (np.array([0, 1, 2, 2]), np.array([5, 5, 5, 8]))}, {})
    graph = make_graph(TARGET, INDICATION, PPI)
    [row] = run([Itself()], graph, unseen, rows=np.array([4, 22, 8]), budget=budget)["relations"]
    assert row["n_triples"] == 4
    assert row["methods"]["bridge"]["mrr"] == 1.0
    drugs = UnseenNodes(nodes, {Relation("target", "drug", "gene/protein"): (np.array([0]), np.array([5]))}, {})
    [row] = run([Itself()], graph, drugs, rows=np.array([4, 22, 8]))["relations"]
    assert row["methods"]["bridge"]["mrr"] == 0.5  # drug 4 and protein 4 are two things


@pytest.mark.parametrize("budget", [1, 10_000])
def test_heads_come_with_what_was_encoded(budget: int) -> None:
    """Each with its own node's values, by which sequences are compared, whatever the block."""
    seen: list[tuple[bytes, tuple[str, ...]]] = []

    @dataclass
    class Reading(Linear):
        def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
            assert heads.values is not None and len(heads.values) == len(heads)
            seen.extend((x.tobytes(), tuple(values)) for x, values in zip(heads.x, heads.values, strict=True))
            return super().score(heads, relation)

    made = make_unseen()
    nodes = tuple(replace(node, values=(node.id, "x") if i % 3 else (node.id,)) for i, node in enumerate(made.nodes))
    run([Reading()], unseen=UnseenNodes(nodes, made.edges), budget=budget)
    expected = {(encode(node.type, [i])[0].tobytes(), node.values) for i, node in enumerate(nodes)}
    assert {head for heads, _ in made.edges.values() for head in heads.tolist()} == set(range(35)) and set(seen) == expected


@pytest.mark.parametrize("planted", [np.nan, -np.nan])
def test_nan_is_never_ranked(planted: float) -> None:
    with pytest.raises(BiobridgeError, match=r"scores of fused for drug -indication-> disease hold NaN"):
        run([Linear(plant=planted)])


def test_infinite_scores_are_ranked() -> None:
    best, worst = run([Linear(plant=np.inf)]), run([Linear(plant=-np.inf)])
    assert best["relations"] != worst["relations"]


def test_scores_of_the_wrong_form_are_refused() -> None:
    @dataclass
    class Bad:
        given: dict[str, Vectors]
        methods: tuple[str, ...] = ("fused",)

        def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
            return self.given

    with pytest.raises(BiobridgeError, match=r"shape \(3, 3\)"):
        run([Bad({"fused": np.zeros((3, 3), np.float32)})])
    with pytest.raises(BiobridgeError, match="'other'"):
        run([Bad({"other": np.zeros((3, 3), np.float32)})])


def test_methods_need_names_of_their_own() -> None:
    with pytest.raises(InputError, match="name of its own"):
        run([Linear(), Linear()])
    with pytest.raises(InputError, match="none"):
        run([])
    with pytest.raises(InputError, match="must be 1 or more"):
        run(budget=0)
    with pytest.raises(InputError, match="must be 1 or more"):
        run(resamples=0)


def test_a_method_that_comes_and_goes_between_blocks_is_refused() -> None:
    @dataclass
    class Moody(Linear):
        def score(self, heads: Heads, relation: Relation) -> Mapping[str, Vectors]:
            full = super().score(heads, relation)
            return full if len(self.calls) % 2 else {"fused": full["fused"]}

    with pytest.raises(BiobridgeError, match="change between blocks"):
        run([Moody()], budget=1)


def test_seed_and_resamples_change_the_statistics_and_not_the_metrics() -> None:
    base, other, more = run(), run(seed=1), run(resamples=60)
    for changed in (other, more):
        assert changed["macro_ci"] != base["macro_ci"]
        assert changed["relations"][0]["ci"] != base["relations"][0]["ci"]
        assert changed["macro"] == base["macro"]


def test_progress_ends_where_it_said() -> None:
    told: list[tuple[str, int, int]] = []
    run(progress=lambda *a: told.append(a))
    assert told[-1] == ("ranking relations", 3, 3)
    assert ("encoding heads", 0, 35) in told
