"""Graph embeddings: they learn what was planted, score as PyKEEN does, and every option counts."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from biobridge_rag.errors import InputError
from biobridge_rag.evaluation import kge
from biobridge_rag.evaluation.kge import KGE, LOSSES, KGEScorer, Options, Setting, train_kge
from biobridge_rag.evaluation.ranking import rank
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.splits import draw, hold_out
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import KnowledgeGraph, NodeType, Relation, Vectors
from tests.evaluation.conftest import graph_of_pairs

FAMILIES = 4
EACH = {NodeType.PROTEIN: 8, NodeType.DRUG: 7, NodeType.DISEASE: 6}
TARGET = Relation("target", "gene/protein", "drug")
ENZYME = Relation("enzyme", "gene/protein", "drug")
INDICATION = Relation("indication", "drug", "disease")
PPI = Relation("ppi", "gene/protein", "gene/protein")
UNKNOWN = Relation("unknown", "disease", "gene/protein")
QUICK = Options(dim=8, epochs=2, batch=64, negatives=8, validation=0.0, settings=(Setting("infonce", 2e-2),))


def graph_of(pairs: dict[Relation, set[tuple[int, int]]], lonely: int = 0) -> KnowledgeGraph:
    """Pairs of rows in the types' tables; every edge also stands in the other direction. The last `lonely` drugs have no edge."""
    return graph_of_pairs(pairs, {t: FAMILIES * each + (lonely if t is NodeType.DRUG else 0) for t, each in EACH.items()})


def planted(lonely: int = 0) -> KnowledgeGraph:
    """A protein's targets are of its own family, its enzymes of the next one; indications and interactions keep to the family."""
    rng = np.random.default_rng(7)
    out: dict[Relation, set[tuple[int, int]]] = {}
    for relation, shift in ((TARGET, 0), (ENZYME, 1), (INDICATION, 0), (PPI, 0)):
        n_h, n_t = EACH[NodeType(relation.head_type)], EACH[NodeType(relation.tail_type)]
        within = [(h, t) for h in range(FAMILIES * n_h) for t in range(FAMILIES * n_t) if (h // n_h + shift) % FAMILIES == t // n_t]
        out[relation] = {pair for pair in within if rng.random() < 0.6 and (relation is not PPI or pair[0] != pair[1])}
    return graph_of(out, lonely)


def train(name: str, graph: KnowledgeGraph, options: Options = QUICK, seed: int = 0) -> KGEScorer:
    return train_kge(name, graph, seed=seed, progress=lambda *_: None, options=options)


def heads(n: int) -> Heads:
    return Heads(np.zeros((n, 1), np.float32), np.arange(n))


def scores(scorer: KGEScorer, relation: Relation = TARGET, n: int = 5) -> Vectors:
    return scorer.score(heads(n), relation)[scorer.methods[0]]


def weights(scorer: KGEScorer) -> Vectors:
    return np.concatenate([p.detach().numpy().ravel() for p in scorer.model.parameters()])


@pytest.mark.parametrize("name", KGE)
def test_scores_are_those_of_pykeen_s_score_hrt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(kge, "_CELLS", 3 * 28 * QUICK.dim)  # three heads a block: blocks must not show in the result
    graph = planted()
    scorer = train(name, graph, replace(QUICK, epochs=1))
    for relation in (TARGET, TARGET.inverse, PPI):
        got = scores(scorer, relation, 10)
        at_heads, at_tails = (graph.by_type[NodeType(t)] for t in (relation.head_type, relation.tail_type))
        assert got.shape == (10, len(at_tails)) and got.dtype == np.float32
        for head, tail in np.random.default_rng(0).integers((10, len(at_tails)), size=(20, 2)):
            triple = torch.tensor([[at_heads[head], scorer.relations[relation], at_tails[tail]]])
            assert got[head, tail] == pytest.approx(scorer.model.score_hrt(triple).item(), rel=1e-5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transe", "transr", "distmult", "complex"])
def test_a_planted_structure_is_learned(name: str) -> None:
    graph = planted()
    held = hold_out(graph, draw("paper", graph, 0.2, 1))
    options = Options(dim=16, epochs=40, batch=32, negatives=16, trial=20, settings=(Setting(), Setting("published", 1e-2)), validation=0.2)
    trained = train(name, held.graph, options)
    begun = replace(trained, methods=("begun",), model=train(name, held.graph, replace(QUICK, dim=16, epochs=1)).model)
    report = rank(
        [trained, begun], held.graph, held.unseen, lambda _, at: np.zeros((len(at), 1), np.float32),
        split="paper", progress=lambda *_: None, rows=held.rows, resamples=50, leaky=True,
    )  # fmt: skip
    chance = np.mean([np.mean(1 / np.arange(1, r["n_candidates"] + 1)) for r in report["relations"]])
    assert report["macro"][name]["mrr"] > 3 * chance
    assert report["macro"][name]["mrr"] > 1.5 * report["macro"]["begun"]["mrr"]
    best = max(trained.report["search"], key=lambda tried: tried["validation_mrr"])
    assert trained.report["setting"] == {"loss": best["loss"], "learning_rate": best["learning_rate"]}
    assert trained.report["validation_mrr"] >= best["validation_mrr"]
    assert [tried["epochs"] for tried in trained.report["search"]] == [20, 20]


def test_the_seed_fixes_the_result_and_no_other_generator_is_touched() -> None:
    import torch

    graph = planted()
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.rand(1).item(), np.random.random()
    options = replace(QUICK, validation=0.2)
    a = scores(train("transe", graph, options))
    torch.manual_seed(3)
    np.random.seed(3)
    b = scores(train("transe", graph, options))
    assert (torch.rand(1).item(), np.random.random()) == before
    assert np.array_equal(a, b)
    assert not np.array_equal(a, scores(train("transe", graph, options, seed=1)))


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 12},
        {"epochs": 3},
        {"batch": 16},
        {"negatives": 4},
        {"validation": 0.4},
        {"settings": (Setting("infonce", 1e-3), Setting("infonce", 1e-4))},
        {"refit": False},
        {"directed": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_option_changes_the_result(change: dict[str, object]) -> None:
    graph, base = planted(), replace(QUICK, validation=0.2)
    if "validation" in change:
        base = replace(base, refit=False)
    one, other = train("distmult", graph, base), train("distmult", graph, replace(base, **change))
    assert not np.array_equal(scores(one), scores(other))


def test_epochs_and_dim_of_the_call_go_before_the_options() -> None:
    graph = planted()
    scorer = train_kge("transe", graph, epochs=3, dim=6, progress=lambda *_: None, options=QUICK)
    assert (scorer.report["epochs"], scorer.report["dim"]) == (3, 6)
    assert np.array_equal(scores(scorer), scores(train("transe", graph, replace(QUICK, epochs=3, dim=6))))


def test_the_search_stops_when_patience_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([0.5, 0.1, 0.6, 0.4, 0.3, 0.2, 0.1])  # first setting, second one, then the first goes on

    def look(run: kge._Run, held: object) -> None:
        run.stale += 1
        if (mrr := next(found)) > run.best:
            run.best, run.best_epoch, run.stale = mrr, run.epochs, 0

    monkeypatch.setattr(kge._Run, "look", look)
    settings = (Setting("infonce", 1e-3), Setting("infonce", 1e-2))
    options = replace(QUICK, epochs=50, trial=2, patience=2, validation=0.2, settings=settings)
    report = train("transe", planted(), options).report
    assert report["epochs"] == 4 and report["validation_mrr"] == 0.6
    assert next(found) == 0.2  # two looks after the best one, then no more
    assert report["setting"]["learning_rate"] == 1e-3
    found = iter([0.5, 0.1, 0.4, 0.6])
    assert train("transe", planted(), replace(options, patience=1)).report["epochs"] == 2


@pytest.mark.parametrize("loss", [*LOSSES, "published"])
def test_each_loss_trains(loss: str) -> None:
    graph = planted()
    two, one = (train("rotate", graph, replace(QUICK, epochs=n, settings=(Setting(loss, 1e-2),))) for n in (2, 1))
    assert np.isfinite(scores(two)).all() and not np.array_equal(scores(two), scores(one))
    if loss not in ("published", "nssa"):  # rotate's own loss is nssa
        published = train("rotate", graph, replace(QUICK, settings=(Setting("published", 1e-2),)))
        assert not np.array_equal(scores(two), scores(published))


def test_a_shared_id_makes_a_symmetric_model_read_the_inverse_edge() -> None:
    graph = planted()
    n_proteins, n_drugs = (len(graph.by_type[t]) for t in (NodeType.PROTEIN, NodeType.DRUG))
    shared, directed = (train("distmult", graph, replace(QUICK, directed=d)) for d in (False, True))
    assert len(set(shared.relations.values())) == 4
    assert len(set(directed.relations.values())) == 7  # ppi is its own inverse
    there, back = scores(shared, TARGET, n_proteins), scores(shared, TARGET.inverse, n_drugs)
    np.testing.assert_allclose(there, back.T, rtol=1e-5, atol=1e-6)
    there, back = scores(directed, TARGET, n_proteins), scores(directed, TARGET.inverse, n_drugs)
    assert np.abs(there - back.T).max() > 1e-3


def test_what_cannot_be_scored_is_left_out() -> None:
    scorer = train("transe", planted())
    assert set(scorer.score(heads(2), TARGET)) == {"transe"}
    assert scorer.score(Heads(np.zeros((2, 1), np.float32)), TARGET) == {}
    assert scorer.score(heads(2), UNKNOWN) == {}


def test_heads_without_a_training_edge_are_counted() -> None:
    graph = planted(lonely=2)
    scorer = train("transe", graph)
    n = len(graph.by_type[NodeType.DRUG])
    assert scorer.report["isolated_nodes"] == 2
    assert scorer.untrained("drug", np.array([0, n - 2, n - 1])) == 2
    assert scorer.untrained("gene/protein", np.array([0, 1])) == 0


def test_an_epoch_holds_every_edge_once_in_batches_of_one_relation() -> None:
    graph = planted()
    run = kge._Run("transe", graph, Setting(), replace(QUICK, batch=7), 0, "cpu")
    seen: dict[Relation, list[tuple[int, int]]] = {r: [] for r in graph.relations}
    for relation, h, t in run._batches():
        assert 1 <= len(h) <= 7
        seen[relation] += zip(h.tolist(), t.tolist(), strict=True)
    for relation in graph.relations:
        assert sorted(seen[relation]) == sorted(zip(*(x.tolist() for x in graph.edges(relation)), strict=True))


def test_known_tails_are_no_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    import pykeen.losses

    graph = planted()
    run = kge._Run("distmult", graph, Setting(), replace(QUICK, negatives=1000), 0, "cpu")
    given = []
    real = pykeen.losses.InfoNCELoss.process_slcwa_scores

    def record(self: object, **values: object) -> object:
        given.append(values["batch_filter"])
        return real(self, **values)

    monkeypatch.setattr(pykeen.losses.InfoNCELoss, "process_slcwa_scores", record)
    h, t = graph.edges(TARGET)
    run._step(TARGET, h, t)
    assert np.array_equal(given[0].numpy(), incidence(graph, TARGET)[h].toarray() == 0)


def test_a_relation_that_links_all_to_all_teaches_nothing() -> None:
    every = {(h, t) for h in range(FAMILIES * EACH[NodeType.DRUG]) for t in range(FAMILIES * EACH[NodeType.DISEASE])}
    full = graph_of({INDICATION: every})
    one, three = (train("transe", full, replace(QUICK, epochs=n)) for n in (1, 3))
    assert np.array_equal(weights(one), weights(three))


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_training_that_diverges_is_an_error(validation: float) -> None:
    with pytest.raises(InputError, match=r"complex diverged.*smaller learning rate"):
        train("complex", planted(), replace(QUICK, validation=validation, settings=(Setting("infonce", 1e30),)))


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"no graph embedding 'transx'.*transe, transd, transh, transr, complex, distmult, rotate"):
        train("transx", planted())


def test_a_graph_without_edges_is_refused() -> None:
    graph = planted()
    none = graph.without_heads(range(len(graph.nodes)))
    with pytest.raises(InputError, match="no edges"):
        train("transe", none)


def test_a_missing_pykeen_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n == "pykeen" or n.startswith("pykeen.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pykeen", None)
    with pytest.raises(InputError, match=r"need PyKEEN, which is not installed.*pip install 'biobridge-rag\[kge\]'"):
        train("transe", planted())


@pytest.mark.parametrize(
    "bad", [{"dim": 0}, {"epochs": 0}, {"trial": 0}, {"validation": 0.6}, {"settings": ()}, {"settings": (Setting("hinge"),)}]
)
def test_options_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(QUICK, **bad)
