"""From a graph to a report: every split on a small made graph, its leaks, its saved file, and which methods it ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag import assessing
from biobridge_rag.assessing import BASELINES, Training, assess_split, history_of
from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import InputError, LeakageError
from biobridge_rag.evaluation import kge, learned
from biobridge_rag.evaluation.metrics import filtered_ranks
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.splits import SPLITS, HeldOut, draw, hold_out, load_split, save_split
from biobridge_rag.types import KnowledgeGraph, Modality, Node, NodeType, Relation, Vectors

FAMILIES, PER = 7, 4
TYPES = (NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE)
TARGET = Relation("target", "drug", "gene/protein")
INDICATION = Relation("indication", "drug", "disease")
ASSOCIATED = Relation("associated with", "disease", "gene/protein")
PPI = Relation("ppi", "gene/protein", "gene/protein")
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCNCC1", "c1ccsc1", "C1CCOC1", "c1ccc2ccccc2c1", "C1CC1")
KEYS = {"protocol", "split", "n_unseen", "relations", "macro", "micro", "missing", "skipped", "leaky", "notes", "baselines", "history"}
QUICK = Training(epochs=0)


@dataclass
class FakeEncoder:
    """Looks the vector of a value up, and remembers what it was asked for."""

    modality: Modality
    vectors: dict[str, np.ndarray]
    asked: list[list[str]] = field(default_factory=list)
    dim: int = 48

    @property
    def id(self) -> str:
        return f"fake-{self.modality}"

    def encode(self, values: Sequence[str]) -> Vectors:
        self.asked.append(list(values))
        return np.stack([self.vectors[v] for v in values])


@dataclass(frozen=True)
class Small:
    graph: KnowledgeGraph
    encoders: dict[Modality, FakeEncoder]
    tables: dict[NodeType, Vectors]


def make_small() -> Small:
    """Seven families of four; proteins of a family are near twins, drugs share a scaffold, diseases are alike; families are linked within
    themselves and, here and there, with others."""
    rng = np.random.default_rng(0)
    values = {
        NodeType.PROTEIN: [f"MKV{i}" for i in range(FAMILIES * PER)],
        NodeType.DRUG: ["C" * (i % PER) + RINGS[i // PER] for i in range(FAMILIES * PER)],
        NodeType.DISEASE: [f"disease {i}" for i in range(FAMILIES * PER)],
    }
    nodes = tuple(Node(f"{t.name[:2]}{i}", t, f"{t.label} {i}", values=(v,)) for t in TYPES for i, v in enumerate(values[t]))
    first = {t.value: i * FAMILIES * PER for i, t in enumerate(TYPES)}
    tables, encoders = {}, {}
    for t, noise in zip(TYPES, (0.02, 0.1, 0.1), strict=True):
        centres = np.repeat(np.eye(48)[:FAMILIES], PER, axis=0)
        tables[t] = unit(centres + noise * rng.standard_normal(centres.shape))
        encoders[t.modality] = FakeEncoder(t.modality, dict(zip(values[t], tables[t], strict=True)))
    edges = set()
    for relation in (TARGET, INDICATION, ASSOCIATED, PPI):
        for h in range(FAMILIES * PER):
            for t in range(FAMILIES * PER):
                likely = rng.random() < (0.7 if h // PER == t // PER else 0.05)
                if likely and (relation is not PPI or h < t):
                    edge = relation, first[relation.head_type] + h, first[relation.tail_type] + t
                    edges |= {edge, (relation.inverse, edge[2], edge[1])}
    relations = tuple(sorted({r for r, _, _ in edges}))
    relation_of, head, tail = np.array(sorted((relations.index(r), h, t) for r, h, t in edges)).T
    graph = KnowledgeGraph(
        "families", nodes, relations, head.astype(np.int32), relation_of.astype(np.int16), tail.astype(np.int32),
        np.zeros(len(head), np.int16), ("made",),
    )  # fmt: skip
    return Small(graph, encoders, tables)


@pytest.fixture
def small() -> Small:
    return make_small()


def silent(_stage: str, _done: int, _total: int) -> None: ...


def run(
    small: Small, name: str, what: str | None = None, *, fraction: float = 0.2, baselines: Sequence[str] = ("popularity", "analogues"),
    training: Training = QUICK, saved: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    return assess_split(small.graph, small.encoders, name, what, fraction, baselines, training, silent, saved)


@cache
def report_of(name: str, *baselines: str, what: str | None = None) -> dict[str, Any]:
    """A report that several tests read."""
    return run(make_small(), name, what, baselines=baselines or ("popularity", "analogues"))


def methods(report: dict[str, Any]) -> set[str]:
    return {m for row in report["relations"] for m in row["methods"]}


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_gives_a_report(small: Small, name: str) -> None:
    report = report_of(name)
    assert set(report) >= KEYS and report["split"] == name and json.loads(json.dumps(report)) == report
    assert report["n_unseen"] > 0 and report["relations"] and report["macro"]
    assert report["leaky"] == (name == "paper") == any("Leaky" in note for note in report["notes"])
    assert all(0.0 <= value <= 1.0 for row in report["relations"] for m in row["methods"].values() for value in m.values())
    untrained = name in ("relation", "modality")
    assert ("random" in report) == untrained == ("calibration" not in report)
    if not untrained:
        assert methods(report) == {"fused", "bridge", "analogues", "popularity"}
        assert 0.0 <= report["calibration"]["ece"] <= 1.0 and report["calibration"]["n"] > 0
        held = hold_out(small.graph, draw(name, small.graph, 0.2, 0, small.tables))
        assert {(r["head_type"], r["relation"], r["tail_type"]): r["n_triples"] for r in report["relations"]} == {
            (r.head_type, r.name, r.tail_type): len(heads) for r, (heads, _) in held.unseen.edges.items()
        }


def test_held_out_nodes_find_the_families_that_were_planted() -> None:
    report = report_of("inductive")
    assert report["macro"]["fused"]["mrr"] > report["macro"]["popularity"]["mrr"] + 0.2
    assert report["macro"]["bridge"]["mrr"] > report["macro"]["popularity"]["mrr"] + 0.2


class FamilyAligner:
    """Values of one family, by their number, are alike, others are not."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = list(values)

    def similarities(self, sequences: Sequence[str]) -> Vectors:
        return np.array([[1.0 if a == b else 0.9 * (family(a) == family(b)) for b in self.values] for a in sequences], np.float32)

    def table(self, progress: Any) -> np.ndarray[Any, Any]:
        return self.similarities(self.values).astype(np.float16)

    def kept(self, rows: np.ndarray[Any, Any]) -> FamilyAligner:
        return FamilyAligner([self.values[i] for i in rows])

    def identities(self, sequence: str, rows: Sequence[int]) -> list[tuple[float, int]]:
        raise NotImplementedError


def family(value: str) -> int:
    return int(value.removeprefix("MKV")) // PER


@dataclass
class AligningFake(FakeEncoder):
    """One whose vectors are noise and whose aligner knows the families."""

    def __post_init__(self) -> None:
        rng = np.random.default_rng(5)
        self.vectors = {value: unit(rng.standard_normal((1, self.dim)))[0] for value in self.vectors}

    def aligner(self, values: Sequence[str]) -> FamilyAligner:
        return FamilyAligner(values)


@pytest.mark.parametrize("name", ["inductive", "paper"])
def test_heads_are_compared_by_the_encoders_aligner(small: Small, name: str) -> None:
    """Whether they left the graph or stay in it: nothing but the aligner knows the families of proteins."""
    proteins = small.encoders[Modality.PROTEIN]
    blind = AligningFake(Modality.PROTEIN, dict(proteins.vectors))
    mrr = []
    for encoder in (blind, FakeEncoder(Modality.PROTEIN, dict(blind.vectors))):
        encoders = {**small.encoders, Modality.PROTEIN: encoder}
        report = run(replace(small, encoders=encoders), name, baselines=("popularity", "analogues", "kernel-ridge"))
        rows = [r for r in report["relations"] if r["head_type"] == "gene/protein" and r["tail_type"] != "gene/protein"]
        assert rows and not report["missing"]
        mrr.append({m: np.mean([r["methods"][m]["mrr"] for r in rows]) for m in methods(report)})
    seeing, vectors_alone = mrr
    for method in ("fused", "bridge", "analogues", "kernel-ridge"):
        if (name, method) == ("paper", "fused"):
            continue  # it puts first what the graph states in the other direction
        assert seeing[method] > vectors_alone[method] + 0.2, method
    assert seeing["popularity"] == vectors_alone["popularity"]


@pytest.mark.parametrize("name", ["inductive", "paper"])
def test_popularity_is_that_of_the_training_graph(small: Small, name: str) -> None:
    """The whole way by hand: the split, the training graph's counts, in both directions, of heads other than the one that asks, filtered
    ranks. A head of `paper` is no candidate of its own."""
    report = report_of(name)
    held = hold_out(small.graph, draw(name, small.graph, 0.2, 0))
    for row in report["relations"]:
        relation = Relation(row["relation"], row["head_type"], row["tail_type"])
        heads, tails = held.unseen.edges[relation]
        stated = ((incidence(held.graph, relation) + incidence(held.graph, relation.inverse).T) > 0).tocsr()
        found: list[float] = []
        for head in np.unique(heads):
            own = stated[held.rows[head]].toarray()[0] if held.rows is not None else 0.0
            scores, true = np.asarray(stated.sum(axis=0), dtype=np.float32).ravel() - own, tails[heads == head]
            if held.rows is not None and relation.head_type == relation.tail_type:
                scores[held.rows[head]] = -np.inf
            found += (1.0 / filtered_ranks(scores, true)).tolist()
        assert row["methods"]["popularity"]["mrr"] == pytest.approx(np.mean(found), abs=1e-5), relation


@pytest.mark.parametrize("name", ["inductive", "inductive-cluster"])
def test_nodes_that_left_the_graph_are_encoded_by_their_values(small: Small, name: str) -> None:
    run(small, name)
    held = draw(name, small.graph, 0.2, 0, small.tables).held
    for t in TYPES:
        later = {v for batch in small.encoders[t.modality].asked[1:] for v in batch}
        assert later == {small.graph.nodes[i].values[0] for i in held[t]}


@pytest.mark.parametrize("name", ["paper", "relation", "modality"])
def test_nodes_that_stay_are_read_from_the_table(small: Small, name: str) -> None:
    run(small, name)
    assert all(len(encoder.asked) == 1 for encoder in small.encoders.values())


def test_training_sees_the_graph_and_tables_without_what_is_held_out(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    real = assessing.train_parts
    monkeypatch.setattr(assessing, "train_parts", lambda *a: seen.append(a) or real(*a))
    for name in ("inductive", "paper"):
        run(small, name, training=Training("default", 1, 3, "cpu"))
        graph, tables, likeness, kind, epochs, seed, device = seen[-1][:7]
        split = draw(name, small.graph, 0.2, 3)
        assert (kind, epochs, seed, device) == ("default", 1, 3, "cpu")
        assert np.array_equal(graph.head, hold_out(small.graph, split).graph.head)
        for t in TYPES:
            stay = np.setdiff1d(small.graph.by_type[t], split.held[t]) if name == "inductive" else small.graph.by_type[t]
            x = small.tables[t][small.graph.rank_in_type[stay]]
            assert np.allclose(tables[t], x) and np.allclose(likeness[t].table, x)
            assert likeness[t].method == "cosine" and np.allclose(likeness[t].table_among, x @ x.T, atol=2e-3)


def test_the_leak_of_the_papers_split_is_counted_in_a_note(small: Small) -> None:
    report = report_of("paper")
    split = draw("paper", small.graph, 0.2, 0)
    held = set(split.all_held.tolist())
    inverse = sum(h in held and t not in held for h, t in zip(small.graph.head.tolist(), small.graph.tail.tolist(), strict=True))
    assert report["leaky"] and any(f"of {inverse:,} tested edges" in note for note in report["notes"])


def planted(cut: HeldOut, turned: bool) -> HeldOut:
    """The training graph with the first test edge of `target`, or its inverse, put back."""
    heads, tails = cut.unseen.edges[TARGET]
    graph = cut.graph
    head = graph.position("drug", cut.unseen.nodes[heads[0]].id)
    tail = int(graph.by_type[NodeType.PROTEIN][tails[0]])
    relation = TARGET.inverse if turned else TARGET
    ends = (tail, head) if turned else (head, tail)
    columns = {"head": ends[0], "tail": ends[1], "relation": graph.relations.index(relation), "source": 0}
    added = {name: np.append(getattr(graph, name), np.array([v], getattr(graph, name).dtype)) for name, v in columns.items()}
    return replace(cut, graph=replace(graph, **added))


@pytest.mark.parametrize(("name", "turned"), [("paper", False), ("relation", False), ("relation", True)])
def test_a_test_edge_in_training_stops_it(small: Small, monkeypatch: pytest.MonkeyPatch, name: str, turned: bool) -> None:
    monkeypatch.setattr(assessing, "hold_out", lambda graph, split: planted(hold_out(graph, split), turned))
    monkeypatch.setattr(assessing, "train_parts", lambda *_: pytest.fail("It was trained all the same."))
    with pytest.raises(LeakageError, match="in training"):
        run(small, name, TARGET.key if name == "relation" else None)


def test_a_held_out_node_in_training_stops_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assessing, "hold_out", lambda graph, split: replace(hold_out(graph, split), graph=graph))
    with pytest.raises(LeakageError, match="held-out node"):
        run(small, "inductive")


def test_a_near_twin_left_in_training_by_a_saved_split_stops_it(small: Small, tmp_path: Path) -> None:
    saved = tmp_path / "split.json"
    split = draw("inductive-cluster", small.graph, 0.2, 0, small.tables)
    broken = replace(split, held=split.held | {NodeType.PROTEIN: split.held[NodeType.PROTEIN][1:]})
    save_split(broken, small.graph, saved)
    with pytest.raises(LeakageError, match="share a cosine"):
        run(small, "inductive-cluster", saved=saved)


@pytest.mark.parametrize("name", ["inductive", "relation"])
def test_a_split_is_saved_and_used_again_whatever_the_seed(small: Small, tmp_path: Path, name: str) -> None:
    saved = tmp_path / "split.json"
    first = run(small, name, saved=saved)
    text, drawn = saved.read_text(), draw(name, small.graph, 0.2, 0)
    assert np.array_equal(load_split(saved, small.graph).all_held, drawn.all_held) and first == report_of(name)
    other = replace(
        QUICK, seed=next(i for i in range(1, 9) if draw(name, small.graph, 0.2, i).relation != drawn.relation or name == "inductive")
    )
    again, without = run(small, name, saved=saved, training=other), run(small, name, training=other)

    def sizes(report: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(r["head_type"], r["relation"], r["tail_type"], r["n_heads"], r["n_triples"]) for r in report["relations"]]

    assert saved.read_text() == text
    assert sizes(again) == sizes(first) != sizes(without)


def test_a_saved_split_of_another_kind_is_refused(small: Small, tmp_path: Path) -> None:
    saved = tmp_path / "split.json"
    save_split(draw("relation", small.graph, 0.2, 0, what=TARGET.key), small.graph, saved)
    with pytest.raises(InputError, match=r"relation of drug\|target\|gene/protein"):
        run(small, "inductive", saved=saved)
    with pytest.raises(InputError, match="not the one asked for"):
        run(small, "relation", INDICATION.key, saved=saved)
    assert run(small, "relation", TARGET.key, saved=saved)["split"] == "relation"
    save_split(draw("paper", small.graph, 0.2, 0), small.graph, saved)
    with pytest.raises(InputError, match="the split paper, which"):
        run(small, "inductive", saved=saved)


@pytest.mark.parametrize("relation", [TARGET, INDICATION])
def test_a_relation_is_scored_by_transfer_and_set_beside_chance(relation: Relation) -> None:
    """A path over the third type leads from a head to its family's tails."""
    report = report_of("relation", what=relation.key)
    tested = [relation.key, relation.inverse.key]
    assert sorted(report["random"]) == sorted(report["macro_over"]) == sorted(tested)
    assert methods(report) <= {"fused", "composed", "parallel", "sibling", "degree", "frozen"}
    assert set(report["macro_against_best_baseline"]) == {"fused", "composed"} and report["macro_best_baseline"] == "degree"
    for row in report["relations"]:
        chance = report["random"][f"{row['head_type']}|{row['relation']}|{row['tail_type']}"]
        assert set(chance) == set(row["methods"]["composed"]) and 0.0 < chance["mrr"] < 0.3
        assert row["methods"]["composed"]["mrr"] > chance["mrr"] + 0.2


def test_a_modality_is_scored_where_a_method_applies_and_counted_where_none_does() -> None:
    """No edge at all leads to a disease, so those two relations are skipped; from a disease there is the degree."""
    report = report_of("modality", what="disease")
    tested = {f"{r['head_type']}|{r['relation']}|{r['tail_type']}" for r in report["relations"]}
    assert tested == {r.key for r in (INDICATION.inverse, ASSOCIATED)} and "degree" in methods(report)
    assert tested < set(report["random"]) == {r.key for r in (INDICATION, INDICATION.inverse, ASSOCIATED, ASSOCIATED.inverse)}
    assert sum("no method can score" in why for why in report["skipped"]) == 2


@pytest.mark.parametrize("name", ["relation", "modality"])
def test_baselines_that_transfer_leaves_out_are_named(name: str) -> None:
    assert any(note.endswith("of what is asked: popularity, analogues.") for note in report_of(name)["notes"])
    assert not run(make_small(), name, baselines=())["notes"]


def test_the_look_up_of_inverse_edges_is_ranked_on_the_papers_split_alone() -> None:
    leaky, honest = (report_of(name, "inverse") for name in ("paper", "inductive"))
    assert "inverse" in methods(leaky) and "inverse" not in methods(honest)
    mrr = {method: figures["mrr"] for method, figures in leaky["macro"].items()}
    assert mrr["fused"] > mrr["inverse"] > mrr["bridge"]  # fused looks up too, and predicts the rest
    assert any(note.endswith("no training edge at all: inverse.") for note in honest["notes"])
    assert not any("Left out" in note for note in leaky["notes"])


@pytest.mark.parametrize("name", ["popularity", "analogues", "kernel-ridge"])
def test_a_baseline_is_ranked_where_it_is_asked_for(small: Small, name: str) -> None:
    assert methods(run(small, "inductive", baselines=(name, name))) == {"fused", "bridge", name}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained baselines with the least of training."""
    options = learned.Options(width=8, epochs=1, settings=(learned.Setting(),), trial=1)
    monkeypatch.setattr(learned, "train_learned", partial(learned.train_learned, options=options))
    small = kge.Options(dim=8, epochs=1, settings=kge.SEARCH[:1], validation=0.0)
    monkeypatch.setattr(kge, "train_kge", partial(kge.train_kge, options=small))


@pytest.mark.usefixtures("quick")
def test_trained_baselines_are_ranked_and_say_what_they_chose(small: Small) -> None:
    report = run(small, "paper", baselines=("linear", "distmult"))
    assert methods(report) == {"fused", "bridge", "linear", "distmult"} and set(report["baselines"]) == {"linear", "distmult"}
    assert report["baselines"]["linear"]["epochs"] == 1 and report["baselines"]["distmult"]["dim"] == 8


@pytest.mark.usefixtures("quick")
def test_graph_embeddings_cannot_score_nodes_that_left_the_graph(small: Small) -> None:
    report = run(small, "inductive", baselines=("linear", "distmult"))
    assert methods(report) == {"fused", "bridge", "linear"} and set(report["baselines"]) == {"linear"}
    assert any(note.endswith("no training edge at all: distmult.") for note in report["notes"])


def test_the_share_and_the_seed_change_the_result(small: Small) -> None:
    base = report_of("inductive")
    assert run(small, "inductive", fraction=0.4)["n_unseen"] > base["n_unseen"]
    assert run(small, "inductive", training=replace(QUICK, seed=1))["macro"]["fused"] != base["macro"]["fused"]


@pytest.mark.parametrize(
    ("options", "match"),
    [({"name": "inductve"}, "no split"), ({"baselines": ("popular",)}, "no baseline"), ({"fraction": 0.9}, "share"),
     ({"name": "relation", "what": "drug|cures|disease"}, "no relation"), ({"what": "disease"}, "takes no relation")],
)  # fmt: skip
def test_bad_input_is_one_clear_error(small: Small, options: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assessing, "train_parts", lambda *_: pytest.fail("It was trained all the same."))
    with pytest.raises(InputError, match=match):
        run(small, **({"name": "inductive"} | options))


def test_an_unknown_baseline_is_refused_before_anything_is_encoded_and_lists_all(small: Small) -> None:
    with pytest.raises(InputError) as error:
        run(small, "inductive", baselines=("popular",))
    assert all(name in str(error.value.help) for name in BASELINES)
    assert not any(encoder.asked for encoder in small.encoders.values())


def test_the_history_is_what_training_recorded(tmp_path: Path) -> None:
    assert history_of(tmp_path) == []
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "training.json").write_text(json.dumps({"epochs": [{"epoch": 1, "loss": 2.5}], "kind": "official"}))
    assert history_of(tmp_path) == [{"epoch": 1, "loss": 2.5}]


def test_the_history_of_the_bridges_training_is_in_the_report(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epochs lie in a folder that is gone when the report is returned."""
    real = assessing.train_parts

    def recording(*args: Any) -> Any:
        out = real(*args)
        (args[8] / "training").mkdir()
        (args[8] / "training" / "training.json").write_text(json.dumps({"epochs": [{"epoch": 1}]}))
        return out

    monkeypatch.setattr(assessing, "train_parts", recording)
    assert run(small, "inductive")["history"] == [{"epoch": 1}]
