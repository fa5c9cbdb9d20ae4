"""Trained baselines: they learn what was planted, hold out what they say, and every option counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation import learned, learned_model
from biobridge_rag.evaluation.learned import LEARNED, LearnedScorer, Options, Setting, train_learned
from biobridge_rag.evaluation.ranking import rank
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Relation, Vectors
from tests.evaluation.conftest import graph_of_pairs

FAMILIES = 5
EACH = {NodeType.PROTEIN: 8, NodeType.DRUG: 7, NodeType.DISEASE: 6}
WIDTH = {NodeType.PROTEIN: 24, NodeType.DRUG: 18, NodeType.DISEASE: 12}
TARGET = Relation("target", "gene/protein", "drug")
ENZYME = Relation("enzyme", "gene/protein", "drug")
ASSOCIATED = Relation("associated with", "disease", "gene/protein")
INDICATION = Relation("indication", "drug", "disease")
PPI = Relation("ppi", "gene/protein", "gene/protein")
QUICK = Options(width=12, epochs=2, settings=(Setting(),), trial=1)


def graph_of(pairs: dict[Relation, list[tuple[int, int]]]) -> KnowledgeGraph:
    """Pairs of rows in the types' tables; every edge also stands in the other direction."""
    return graph_of_pairs(pairs, {t: FAMILIES * each for t, each in EACH.items()})


@dataclass(frozen=True)
class Planted:
    """Families of nodes, alike within a type and linked across types; `new`: a head of each family and type, never in the graph."""

    pairs: dict[Relation, list[tuple[int, int]]]
    tables: dict[NodeType, Vectors]
    new: dict[NodeType, Vectors]

    @property
    def graph(self) -> KnowledgeGraph:
        return graph_of(self.pairs)


def family(node_type: str, row: int) -> int:
    return row // EACH[NodeType(node_type)]


@pytest.fixture(scope="module")
def planted() -> Planted:
    rng = np.random.default_rng(3)
    tables, new = {}, {}
    for t, each in EACH.items():
        centres = rng.standard_normal((FAMILIES, WIDTH[t]))
        tables[t] = unit(np.repeat(centres, each, axis=0) + 0.5 * rng.standard_normal((FAMILIES * each, WIDTH[t])))
        new[t] = unit(centres + 0.5 * rng.standard_normal(centres.shape))
    pairs = {}
    for r in (TARGET, ASSOCIATED, INDICATION, PPI):
        size = [len(tables[NodeType(t)]) for t in (r.head_type, r.tail_type)]
        alike = [(h, t) for h in range(size[0]) for t in range(size[1]) if family(r.head_type, h) == family(r.tail_type, t)]
        pairs[r] = [(h, t) for h, t in alike if rng.random() < 0.6 and (r is not PPI or h < t)]
    pairs[ENZYME] = [(h, (t + EACH[NodeType.DRUG]) % len(tables[NodeType.DRUG])) for h, t in pairs[TARGET]]
    return Planted(pairs, tables, new)


def train(name: str, planted: Planted, graph: KnowledgeGraph | None = None, options: Options = QUICK, seed: int = 0) -> LearnedScorer:
    return train_learned(
        name, graph or planted.graph, planted.tables, seed=seed, device="cpu", progress=lambda *_: None, options=options
    )  # fmt: skip


def scores(scorer: LearnedScorer, planted: Planted, relation: Relation = TARGET) -> Vectors:
    return scorer.score(Heads(planted.new[NodeType(relation.head_type)], None), relation)[scorer.methods[0]]


def found(scorer: LearnedScorer, planted: Planted, relation: Relation, shift: int = 0) -> float:
    """The share of the five best tails of new heads that are of the family linked to theirs; chance is one in FAMILIES."""
    best = np.argsort(-scores(scorer, planted, relation), axis=1)[:, :5]
    right = (np.arange(FAMILIES) + shift) % FAMILIES
    return float(np.mean([[family(relation.tail_type, int(t)) == right[i] for t in row] for i, row in enumerate(best)]))


ABLE = Options(width=24, epochs=8, settings=(Setting(learning_rate=1e-2), Setting(start="random", dropout=0.0)), trial=2)
STRONG = {name: replace(ABLE, width=48, epochs=12, layers=1) if name == "biobridge" else ABLE for name in LEARNED}


@pytest.mark.parametrize("name", list(LEARNED))
def test_each_learns_the_planted_structure_for_heads_it_never_saw(planted: Planted, name: str) -> None:
    pairs = {r: p for r, p in planted.pairs.items() if r != ENZYME}  # enzymes contradict targets: a space without relations has no place
    scorer = train(name, planted, graph_of(pairs), STRONG[name])
    for relation in (TARGET, TARGET.inverse, ASSOCIATED, PPI):
        assert found(scorer, planted, relation) >= 0.7, relation


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_relations_of_the_same_types_are_told_apart(planted: Planted, name: str) -> None:
    scorer = train(name, planted, options=ABLE)
    assert found(scorer, planted, TARGET) >= 0.75 and found(scorer, planted, ENZYME, shift=1) >= 0.75


def test_clip_knows_no_relations(planted: Planted) -> None:
    clip, linear = train("clip", planted), train("linear", planted)
    assert np.array_equal(scores(clip, planted, TARGET), scores(clip, planted, ENZYME))
    assert not np.array_equal(scores(linear, planted, TARGET), scores(linear, planted, ENZYME))
    x, y = planted.tables[NodeType.PROTEIN], planted.tables[NodeType.DRUG]
    there, back = clip.score(Heads(x, None), TARGET)["clip"], clip.score(Heads(y, None), TARGET.inverse)["clip"]
    assert np.allclose(there, back.T, atol=1e-5)  # one projection a type


def test_imagebind_ignores_edges_away_from_the_central_type_and_still_joins_their_ends(planted: Planted) -> None:
    pairs = {r: p for r, p in planted.pairs.items() if r != ENZYME}
    wrong = {**pairs, INDICATION: [(h, (t + 11) % 30) for h, t in pairs[INDICATION]]}
    without = {r: p for r, p in pairs.items() if r != INDICATION}
    right = train("imagebind", planted, graph_of(pairs), ABLE)
    for other in (wrong, without):
        again = train("imagebind", planted, graph_of(other), ABLE)
        assert np.array_equal(scores(right, planted, INDICATION), scores(again, planted, INDICATION))
        assert right.report == again.report
    assert found(right, planted, INDICATION) >= 0.6  # never trained on: the two meet through proteins
    assert not np.array_equal(
        scores(train("clip", planted, graph_of(pairs)), planted), scores(train("clip", planted, graph_of(wrong)), planted)
    )


@pytest.mark.parametrize("name", list(LEARNED))
def test_the_seed_fixes_the_bits(planted: Planted, name: str) -> None:
    options = replace(QUICK, width=12, epochs=1, layers=1)
    first, second, other = (scores(train(name, planted, options=options, seed=s), planted) for s in (0, 0, 1))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.shape == (FAMILIES, 35) and np.abs(first).max() <= 1.0001


@pytest.mark.parametrize("name", ["linear", "mlp", "clip", "imagebind"])
def test_edges_of_validation_heads_do_not_enter_training(planted: Planted, name: str) -> None:
    """In either direction: with one setting and one epoch there is nothing to choose, and their edges may be anything."""
    options = replace(QUICK, epochs=1, refit=False)
    edges = learned._edges_of(name, planted.graph, NodeType.PROTEIN)
    opened = learned_model.split_nodes(edges, options.validation, 0).open
    held = {t.value: np.setdiff1d(np.arange(len(x)), opened[t]) for t, x in planted.tables.items()}
    assert all(len(rows) for rows in held.values())

    def touches(r: Relation, h: int, t: int) -> bool:
        return h in held[r.head_type] or t in held[r.tail_type]

    def moved(r: Relation, h: int, t: int) -> tuple[int, int]:
        """Another end for the side that is open, among the open: so every node keeps an edge, and none of it may tell."""
        side = opened[NodeType(r.tail_type)]
        return (h, int(side[(7 * h + t) % len(side)])) if h in held[r.head_type] else (h, t)

    rewired = {r: sorted({moved(r, h, t) if touches(r, h, t) else (h, t) for h, t in p} - {(i, i) for i in range(99) if r == PPI})
               for r, p in planted.pairs.items()}  # fmt: skip
    assert rewired != planted.pairs
    plain = train(name, planted, options=options)
    assert np.array_equal(scores(plain, planted), scores(train(name, planted, graph_of(rewired), options), planted))
    seen = {**planted.pairs, TARGET: [p for p in planted.pairs[TARGET] if touches(TARGET, *p)] + [(int(opened[NodeType.PROTEIN][0]), 3)]}
    assert not np.array_equal(scores(plain, planted), scores(train(name, planted, graph_of(seen), options), planted))


def test_held_out_nodes_are_neither_heads_nor_tails_and_are_tested_on_all_their_edges(planted: Planted) -> None:
    edges = learned._edges_of("linear", planted.graph, NodeType.PROTEIN)
    split = learned_model.split_nodes(edges, 0.2, 0)
    for relation, matrix in edges.items():
        opened = {side: split.open[NodeType(t)] for side, t in (("head", relation.head_type), ("tail", relation.tail_type))}
        lesson, test = split.lessons[relation], split.tests[relation]
        assert set(lesson.rows) <= set(opened["head"]) and not set(test.rows) & set(opened["head"])
        assert np.array_equal(lesson.edges.toarray(), matrix.toarray()[lesson.rows][:, opened["tail"]])
        assert np.array_equal(test.edges.toarray(), matrix.toarray()[test.rows][:, opened["tail"]])


def test_the_loss_and_the_validation_equal_loops(planted: Planted) -> None:
    graph = planted.graph
    edges = learned._edges_of("linear", graph, NodeType.PROTEIN)
    inputs = {t: learned_model.tensor(learned_model.basis(x, 8, 0)(x), "cpu") for t, x in planted.tables.items()}
    split = learned_model.split_nodes(edges, 0.2, 0)
    setting = Setting(dropout=0.0)
    run = learned_model.Run("linear", split=split, inputs=inputs, setting=setting, width=12, batch=256, most=3, seed=0, device="cpu")
    run.advance()
    relation = next(r for r in edges if r.name == "ppi")
    lesson, opened = split.lessons[relation], split.open[NodeType.PROTEIN]

    def cosines(rows: Indices, r: Relation) -> Vectors:
        z = learned_model.query("linear", run.parameters, inputs[NodeType(r.head_type)][rows], r)
        return (z @ learned_model.project(run.parameters, run.candidates[NodeType(r.tail_type)], NodeType(r.tail_type)).T).detach().numpy()

    at = np.arange(0, len(lesson.rows), 2)
    terms = []
    for row, true, s in zip(lesson.rows[at], lesson.edges[at].toarray(), cosines(lesson.rows[at], relation) / 0.05, strict=True):
        false = [s[j] for j in range(len(s)) if not true[j] and opened[j] != row]
        terms += [-np.log(np.exp(s[j]) / (np.exp(s[j]) + np.exp(false).sum())) for j in np.flatnonzero(true)]
    assert float(run._loss(relation, at).detach()) == pytest.approx(np.mean(terms), rel=1e-4)

    means = []
    for r, test in split.tests.items():
        reciprocal = []
        for true, s in zip(test.edges.toarray(), cosines(test.rows, r), strict=True):
            false = s[true == 0]
            reciprocal += [1 / (1 + (false > s[j]).sum() + (false == s[j]).sum() / 2) for j in np.flatnonzero(true)]
        if len(test.rows) >= 5:
            means.append(np.mean(reciprocal))
    assert means and run._validate() == pytest.approx(np.mean(means), abs=1e-6)


def test_a_relation_that_cannot_be_scored_is_left_out(planted: Planted) -> None:
    never = Relation("carrier", "gene/protein", "drug")
    go = Relation("interacts with", "gene/protein", "cellular_component")
    for name in LEARNED:
        scorer = train(name, planted, options=replace(QUICK, epochs=1, layers=1))
        heads = Heads(planted.new[NodeType.PROTEIN], None)
        assert set(scorer.score(heads, TARGET)) == {name} == set(scorer.methods)
        assert scorer.score(heads, go) == {}
        assert set(scorer.score(heads, never)) == ({name} if name in ("clip", "imagebind") else set())
    apart = {PPI: planted.pairs[PPI], INDICATION: planted.pairs[INDICATION]}
    assert train("imagebind", planted, graph_of(apart)).score(Heads(planted.new[NodeType.DRUG], None), INDICATION) == {}


def test_the_ranking_protocol_takes_them_side_by_side(planted: Planted) -> None:
    graph = graph_of({r: planted.pairs[r] for r in (TARGET, ASSOCIATED)})
    nodes = tuple(Node(f"new{i}", NodeType.PROTEIN, f"new protein {i}") for i in range(FAMILIES))
    heads, tails = np.repeat(np.arange(FAMILIES), 7), np.arange(FAMILIES * 7)
    report = rank(
        [train("linear", planted, graph, ABLE), train("imagebind", planted, graph, ABLE)],
        graph, UnseenNodes(nodes, {TARGET: (heads, tails)}), lambda t, at: planted.new[t][at],
        split="inductive", progress=lambda *_: None, resamples=10,
    )  # fmt: skip
    row = report["relations"][0]["methods"]
    assert set(row) == {"linear", "imagebind"} and all(row[m]["mrr"] > 0.8 for m in row)  # chance is about 0.13


CHANGES = [
    {"width": 10}, {"epochs": 1}, {"inputs": 5}, {"batch": 8}, {"refit": False}, {"validation": 0.3, "refit": False},
    {"settings": (Setting(learning_rate=1e-3),)}, {"settings": (Setting(temperature=0.2),)},
    {"settings": (Setting(weight_decay=0.5),)}, {"settings": (Setting(dropout=0.0),)},
    {"settings": (Setting(start="random"),)}, {"settings": (Setting(start="whitened"),)},
]  # fmt: skip


@pytest.mark.parametrize("name", ["linear", "mlp", "clip"])
def test_every_option_changes_the_result(planted: Planted, name: str) -> None:
    few = replace(QUICK, validation=0.15)
    graph = graph_of({TARGET: planted.pairs[TARGET]})
    outcome = [scores(train(name, planted, graph, replace(few, **change)), planted) for change in [{}, *CHANGES]]
    for i, change in enumerate(CHANGES):
        for other in outcome[: i + 1]:
            assert other.shape == outcome[i + 1].shape and not np.array_equal(other, outcome[i + 1]), change


def test_the_options_of_single_methods_change_the_result(planted: Planted) -> None:
    proteins = train("imagebind", planted, options=QUICK)
    drugs = train("imagebind", planted, options=replace(QUICK, central=NodeType.DRUG))
    assert not np.array_equal(scores(proteins, planted), scores(drugs, planted))
    one, two, wide = (train("biobridge", planted, options=replace(QUICK, epochs=1, **c)) for c in (
        {"layers": 1}, {"layers": 2}, {"layers": 1, "width": 24}))  # fmt: skip
    assert not np.array_equal(scores(one, planted), scores(two, planted)) and not np.array_equal(
        scores(one, planted), scores(wide, planted)
    )


def test_epochs_given_to_the_call_go_before_those_of_the_options(planted: Planted) -> None:
    def call(name: str, epochs: int | None, options: Options) -> Vectors:
        none = lambda *_: None  # noqa: E731
        return scores(
            train_learned(name, planted.graph, planted.tables, epochs=epochs, seed=0, device="cpu", progress=none, options=options), planted
        )

    for name in ("linear", "biobridge"):
        small = replace(QUICK, epochs=1, layers=1)
        assert np.array_equal(call(name, 2, small), call(name, None, replace(small, epochs=2)))
        assert not np.array_equal(call(name, 2, small), call(name, None, small))


def plan_validation(monkeypatch: pytest.MonkeyPatch, values: dict[str, list[float]]) -> None:
    """Validation that goes as planned: values by the start of the setting, one an epoch."""
    monkeypatch.setattr(learned_model.Run, "_validate", lambda run: values[run.setting.start][run.epochs - 1])


def test_training_stops_when_patience_is_spent_and_keeps_the_best_epoch(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(QUICK, epochs=5, trial=1, refit=False)
    plan_validation(monkeypatch, {"pca": [0.5, 0.4, 0.3, 0.6, 0.1]})
    hasty, patient = (train("linear", planted, options=replace(options, patience=p)) for p in (2, 3))
    assert (hasty.report["epochs"], hasty.report["validation_mrr"]) == (1, 0.5)
    assert (patient.report["epochs"], patient.report["validation_mrr"]) == (4, 0.6)
    plan_validation(monkeypatch, {"pca": [0.5, 0.4, 0.3, 0.2, 0.1]})
    restored = train("linear", planted, options=replace(options, patience=9))  # ran all five, and went back to the first
    assert np.array_equal(scores(restored, planted), scores(hasty, planted))
    assert not np.array_equal(scores(restored, planted), scores(patient, planted))


def test_the_setting_that_validates_best_in_its_trial_is_chosen(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_validation(monkeypatch, {"pca": [0.3, 0.3, 0.3], "random": [0.2, 0.4, 0.3]})
    settings = (Setting(), Setting(start="random"))
    short, long = (train("linear", planted, options=replace(QUICK, settings=settings, trial=t)) for t in (1, 2))
    assert short.report["setting"]["start"] == "pca" and long.report["setting"]["start"] == "random"
    assert [(s["start"], s["epochs"], s["validation_mrr"]) for s in long.report["search"]] == [("pca", 2, 0.3), ("random", 2, 0.4)]
    assert not np.array_equal(scores(short, planted), scores(long, planted))


def test_a_setting_that_diverges_is_not_chosen(planted: Planted) -> None:
    wild = Setting(learning_rate=1e20, dropout=0.0)
    scorer = train("mlp", planted, options=replace(QUICK, settings=(wild, Setting())))
    assert scorer.report["search"][0]["validation_mrr"] is None and scorer.report["setting"]["learning_rate"] == 3e-3
    assert np.isfinite(scores(scorer, planted)).all()
    for validation in (0.1, 0.0):
        with pytest.raises(InputError, match="diverged"):
            train("mlp", planted, options=replace(QUICK, settings=(wild,), validation=validation))


def test_without_validation_the_first_setting_trains_for_all_epochs(planted: Planted) -> None:
    scorer = train("linear", planted, options=replace(ABLE, validation=0.0, settings=ABLE.settings[::-1]))
    assert scorer.report["epochs"] == 8 and scorer.report["validation_mrr"] is None and scorer.report["setting"]["start"] == "random"
    assert found(scorer, planted, TARGET) > 0.5


def test_a_wide_table_is_cut_to_its_principal_coordinates(planted: Planted) -> None:
    x = planted.tables[NodeType.PROTEIN]
    basis = learned_model.basis(x, 5, 0)
    centred = x - x.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    assert basis.axes.shape == (24, 5) and basis.share == pytest.approx((values[:5] ** 2).sum() / (values**2).sum(), abs=0.01)
    assert (basis(x) ** 2).mean() == pytest.approx(1.0, abs=1e-3)
    whole = learned_model.basis(x, 1024, 0)
    assert whole.share == pytest.approx(1.0, abs=1e-4)
    scale = np.linalg.norm(whole(x)[0] - whole(x)[1]) / np.linalg.norm(x[0] - x[1])
    assert np.allclose(whole(x) @ whole(x).T, scale**2 * centred @ centred.T, atol=1e-3 * scale**2)  # a turn, nothing more


def test_a_head_linked_to_every_tail_and_equal_rows_keep_scores_finite(planted: Planted) -> None:
    graph = graph_of({TARGET: [(0, d) for d in range(35)] + [(p, 0) for p in range(1, 40)]})
    tables = {**planted.tables, NodeType.DISEASE: np.zeros((30, 4), np.float32), NodeType.DRUG: unit(np.ones((35, 6), np.float32))}
    for name in ("linear", "mlp", "clip"):
        scorer = train_learned(name, graph, tables, seed=0, device="cpu", progress=lambda *_: None, options=QUICK)
        assert np.isfinite(scores(scorer, planted)).all()


def test_progress_starts_at_nothing_and_ends_at_all(planted: Planted) -> None:
    told: list[tuple[str, int, int]] = []
    train_learned(
        "linear", planted.graph, planted.tables, seed=0, device="cpu", options=QUICK, progress=lambda *line: told.append(line)
    )  # fmt: skip
    done = [d for _, d, _ in told]
    assert done[0] == 0 and done == sorted(done) and len(set(done)) > 4
    assert {text for text, _, _ in told} == {"training the baseline linear, epochs"}
    assert {total for _, _, total in told} == {done[-1]}


def test_bad_requests_are_bad_input(planted: Planted) -> None:
    with pytest.raises(InputError, match="linear, mlp, clip, imagebind, biobridge"):
        train("quadratic", planted)
    with pytest.raises(InputError, match="drug embeddings"):
        train_learned(
            "linear", planted.graph, {**planted.tables, NodeType.DRUG: planted.tables[NodeType.DRUG][1:]},
            seed=0, device="cpu", progress=lambda *_: None,
        )  # fmt: skip
    with pytest.raises(InputError, match="no edges"):
        train("linear", planted, planted.graph.without_heads(range(len(planted.graph.nodes))))
    with pytest.raises(InputError, match="no edge at a protein"):
        train("imagebind", planted, graph_of({INDICATION: planted.pairs[INDICATION]}))
    with pytest.raises(InputError, match="pca, whitened, random"):
        Setting(start="zeros")
    for wrong in ({"dropout": 1.0}, {"temperature": 0.0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(InputError, match="dropout"):
            Setting(**wrong)
    for wrong in ({"width": 0}, {"epochs": 0}, {"batch": 0}, {"patience": 0}, {"validation": 0.6}, {"settings": ()}):
        with pytest.raises(InputError, match="validation share"):
            replace(QUICK, **wrong)


def test_edges_of_a_joint_space_are_the_sum_by_types(planted: Planted) -> None:
    joint = learned._edges_of("clip", planted.graph, NodeType.PROTEIN)
    both = incidence(planted.graph, TARGET) + incidence(planted.graph, ENZYME)
    assert np.array_equal(joint[Relation("", "gene/protein", "drug")].toarray(), (both.toarray() > 0).astype(np.float32))
    assert Relation("", "drug", "disease") not in learned._edges_of("imagebind", planted.graph, NodeType.PROTEIN)
