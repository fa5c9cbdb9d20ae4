"""Labelled pairs: reading, matching, the figures, what each method reads, and that a query's own edges are never read."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.bridge.model import kernel, unit
from biobridge_rag.errors import FileError, InputError
from biobridge_rag.evaluation.pair_evidence import METHODS, Evidence, Odds, Side, _Others
from biobridge_rag.evaluation.pairs import Pairs, _curves, _match_drugs, auroc, average_precision, evaluate_pairs, pair_relation, read_pairs
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
TARGET = Relation("target", P.value, D.value)
ASSOCIATED = Relation("associated with", P.value, S.value)
N_PROTEINS, N_DRUGS, N_NEW, FAMILIES = 60, 50, 16, 4
DISEASES = 8


def made_graph(counts: dict[NodeType, list[Node]], edges: dict[Relation, list[tuple[int, int]]]) -> KnowledgeGraph:
    """edges: relation -> pairs of rows in the tables of its types; inverses are added."""
    nodes = tuple(node for group in counts.values() for node in group)
    first, start = {}, 0
    for t, group in counts.items():
        first[t.value], start = start, start + len(group)
    both = {**edges, **{r.inverse: [(b, a) for a, b in pairs] for r, pairs in edges.items()}}
    relations = tuple(sorted(both, key=lambda r: r.key))
    rows = sorted((i, first[r.head_type] + a, first[r.tail_type] + b) for i, r in enumerate(relations) for a, b in set(both[r]))
    kind, head, tail = np.array(rows).T
    zero = np.zeros(len(rows), np.int16)
    return KnowledgeGraph(
        "made", nodes, relations, head.astype(np.int32), kind.astype(np.int16), tail.astype(np.int32), zero, ("s",)
    )  # fmt: skip


def sequence_of(number: int) -> str:
    return "M" + "".join(np.random.default_rng([7, number]).choice(list("DEFHIKLPQRSVWY"), 12))


def drug_of(number: int) -> str:
    """A chain alcohol or amine: no two alike."""
    return "C" * (1 + number // 2) + ("O" if number % 2 else "N")


class World:
    """Protein families that bind drug families, with noise; the last N_NEW of each are unknown to the graph."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        centres = {t: rng.standard_normal((FAMILIES, 24)) for t in (P, D)}
        n = {P: N_PROTEINS + N_NEW, D: N_DRUGS + N_NEW}
        self.family = {t: rng.integers(FAMILIES, size=n[t]) for t in (P, D)}
        self.x = {t: unit((centres[t][self.family[t]] + 0.9 * rng.standard_normal((n[t], 24))).astype(np.float32)) for t in (P, D)}
        alike = self.family[P][:, None] == self.family[D][None, :]
        self.truth = rng.random(alike.shape) < np.where(alike, 0.4, 0.02)
        self.truth[0, :N_DRUGS] |= ~self.truth[:N_PROTEINS, :N_DRUGS].any(axis=0)  # every drug of the graph has an edge
        self.diseases = [(p, int(self.family[P][p] + FAMILIES * rng.integers(2))) for p in range(N_PROTEINS) for _ in range(2)]
        self.x_diseases = unit(rng.standard_normal((DISEASES, 6)).astype(np.float32))

    def graph(self, truth: np.ndarray | None = None) -> KnowledgeGraph:
        held = (self.truth if truth is None else truth)[:N_PROTEINS, :N_DRUGS]
        nodes = {
            P: [Node(f"p{i}", P, f"p{i}", values=(sequence_of(i),)) for i in range(N_PROTEINS)],
            D: [Node(f"d{i}", D, f"d{i}", values=(drug_of(i),)) for i in range(N_DRUGS)],
            S: [Node(f"s{i}", S, f"s{i}", values=(f"s{i}",)) for i in range(DISEASES)],
        }
        return made_graph(nodes, {TARGET: [(int(a), int(b)) for a, b in np.argwhere(held)], ASSOCIATED: self.diseases})

    @property
    def likeness(self) -> dict[NodeType, Likeness]:
        return {t: Likeness(x) for t, x in ((P, self.x[P][:N_PROTEINS]), (D, self.x[D][:N_DRUGS]), (S, self.x_diseases))}

    def like(self, node_type: NodeType, x: Vectors) -> Vectors:
        return self.likeness[node_type].of(Heads(x))

    def pairs(self, proteins: range, drugs: range) -> Pairs:
        """All positives of the block and as many negatives."""
        rng = np.random.default_rng(5)
        block = self.truth[proteins.start : proteins.stop, drugs.start : drugs.stop]
        positive, negative = np.argwhere(block), np.argwhere(~block)
        at = np.concatenate([positive, rng.permutation(negative)[: len(positive)]])
        labels = np.arange(len(at)) < len(positive)
        smiles, sequences = tuple(drug_of(i) for i in drugs), tuple(sequence_of(i) for i in proteins)
        return Pairs(smiles, sequences, at[:, 1], at[:, 0], labels.astype(np.int64), {})

    def encode(self, node_type: NodeType, values: list[str]) -> Vectors:
        name: Callable[[int], str] = sequence_of if node_type is P else drug_of
        known = {name(i): i for i in range(len(self.x[node_type]))}
        return self.x[node_type][[known[v] for v in values]]

    def evaluate(self, pairs: Pairs, relation: Relation = TARGET, seed: int = 0) -> dict:
        return evaluate_pairs(self.graph(), self.likeness, self.encode, pairs, relation, seed, lambda *_: None)


NEW_PROTEINS, NEW_DRUGS = range(N_PROTEINS, N_PROTEINS + N_NEW), range(N_DRUGS, N_DRUGS + N_NEW)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def report(world: World) -> dict:
    return world.evaluate(world.pairs(NEW_PROTEINS, range(N_DRUGS)))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


class TestReading:
    def test_counts_every_row_that_is_left_out_by_reason(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "p.csv", "smiles,sequence,label", "CCO,MKLV,1", "OCC,mklv*,1", "CCO,MKLV,0", "CCN,MKLV,0", "C(C,MKLV,1",
            ",MKLV,1", "CCO,MK1?,1", "CCO,,0", "CCC,MKLV,2", "CCC,MKLV,", "", "CCC",
        )  # fmt: skip
        pairs = read_pairs(path)
        assert pairs.smiles[:2] == ("CCO", "CCN") and pairs.sequences[0] == "MKLV"
        assert list(zip(pairs.drug, pairs.protein, pairs.labels, strict=True)) == [(0, 0, 1), (1, 0, 0)]
        assert pairs.skipped == {
            "duplicate": 1, "duplicate with another label": 1, "unreadable SMILES": 2, "invalid sequence": 3, "label that is not 0 or 1": 2,
        }  # fmt: skip

    def test_gzip_column_names_in_any_case_order_and_decimal_labels(self, tmp_path: Path) -> None:
        path = tmp_path / "p.csv.gz"
        with gzip.open(path, "wt", encoding="utf-8-sig") as stream:
            stream.write(",Label,Target Sequence,SMILES\n0,1.0,MKLV,CCO\n1,0.0,MKLV,CCN\n")
        pairs = read_pairs(path)
        assert pairs.labels.tolist() == [1, 0] and pairs.smiles == ("CCO", "CCN") and pairs.skipped == {}

    def test_salts_are_reduced_to_the_largest_fragment(self, tmp_path: Path) -> None:
        pairs = read_pairs(write(tmp_path / "p.csv", "smiles,sequence,label", "CCCN.Cl,MKLV,1", "CCO,MKLV,0"))
        assert pairs.smiles == ("CCCN", "CCO")

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (("smiles,label", "CCO,1"), "no column sequence"),
            (("smiles,sequence,label", "CCO,MKLV,1"), "only pairs of label 1"),
            (("smiles,sequence,label",), "no usable pair"),
            (("smiles,sequence,label", "C(,MKLV,1"), "1 left out: unreadable SMILES"),
        ],
    )
    def test_what_cannot_be_used_is_said_in_one_line(self, tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_pairs(write(tmp_path / "p.csv", *lines))

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "empty.csv").write_text("")
        with pytest.raises(InputError, match="is empty"):
            read_pairs(tmp_path / "empty.csv")
        with pytest.raises(FileError, match="cannot be read"):
            read_pairs(tmp_path / "none.csv")
        with pytest.raises(FileError, match="cannot be read"):
            read_pairs(write(tmp_path / "p.csv.gz", "smiles,sequence,label"))
        (tmp_path / "latin.csv").write_bytes("smiles,sequence,label\nCCO,MKLV\xe9,1\n".encode("latin-1"))
        with pytest.raises(FileError, match="cannot be read"):
            read_pairs(tmp_path / "latin.csv")


class TestFigures:
    def test_by_hand(self) -> None:
        scores, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0])
        assert auroc(scores, labels) == pytest.approx(3 / 4)
        assert average_precision(scores, labels) == pytest.approx((1 + 2 / 3) / 2)
        assert auroc(np.zeros(4), labels) == 0.5 and average_precision(np.zeros(4), labels) == 0.5

    @pytest.mark.parametrize("levels", [2, 7, 1000])
    def test_agree_with_scikit_learn_ties_and_weights_included(self, levels: int) -> None:
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(levels)
        for _ in range(20):
            scores, labels = rng.integers(levels, size=80) / 3.0, rng.integers(2, size=80)
            weights = rng.integers(4, size=80).astype(float)
            assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))
            assert average_precision(scores, labels) == pytest.approx(metrics.average_precision_score(labels, scores))
            area, precision = _curves(scores, labels, weights[None])
            assert area[0] == pytest.approx(metrics.roc_auc_score(labels, scores, sample_weight=weights))
            assert precision[0] == pytest.approx(metrics.average_precision_score(labels, scores, sample_weight=weights))

    def test_a_draw_of_one_class_has_no_figure(self) -> None:
        area, precision = _curves(np.arange(4.0), np.array([0, 0, 1, 1]), np.array([[1.0, 1, 0, 0], [0, 0, 1.0, 1]]))
        assert np.isnan(area).all() and np.isnan(precision).all()


class TestReport:
    def test_form(self, report: dict, world: World) -> None:
        assert set(report["methods"]) == set(report["ci"]) == set(METHODS)
        assert report["n"] == 2 * report["n_positive"] > 100
        assert (report["n_unseen_proteins"], report["n_unseen_drugs"], report["n_known_edges"]) == (N_NEW, 0, 0)
        for method in METHODS:
            for figure, value in report["methods"][method].items():
                low, high = report["ci"][method][figure]
                assert 0 <= low < value < high <= 1
        n_edges = int(world.truth[:N_PROTEINS, :N_DRUGS].sum())
        learned = report["learned_from"]["protein queries"]
        assert learned["cold"] == n_edges >= learned["seen"] > 0

    def test_finds_what_was_planted(self, report: dict) -> None:
        aupr = {m: v["aupr"] for m, v in report["methods"].items()}
        assert aupr["fused"] > 0.8 and aupr["bridge"] > 0.75 and aupr["analogues"] > 0.75 and aupr["popularity"] < 0.65

    def test_same_seed_same_report_other_seed_other_negatives(self, report: dict, world: World) -> None:
        pairs = world.pairs(NEW_PROTEINS, range(N_DRUGS))
        assert world.evaluate(pairs) == report
        other = world.evaluate(pairs, seed=1)
        assert other["methods"]["fused"] != report["methods"]["fused"] and other["methods"]["bridge"] == report["methods"]["bridge"]

    def test_either_direction_of_the_relation_is_the_same(self, report: dict, world: World) -> None:
        assert world.evaluate(world.pairs(NEW_PROTEINS, range(N_DRUGS)), TARGET.inverse) == report

    def test_unseen_drugs_are_queries_against_known_proteins(self, world: World) -> None:
        found = world.evaluate(world.pairs(range(N_PROTEINS), NEW_DRUGS))
        assert found["n_unseen_drugs"] == N_NEW and list(found["learned_from"]) == ["drug queries"]
        assert found["methods"]["fused"]["aupr"] > 0.8

    def test_both_sides_unseen(self, world: World) -> None:
        found = world.evaluate(world.pairs(NEW_PROTEINS, NEW_DRUGS))
        assert (found["n_unseen_proteins"], found["n_unseen_drugs"]) == (N_NEW, N_NEW)
        assert found["methods"]["fused"]["auroc"] > 0.75 and found["methods"]["popularity"]["auroc"] == 0.5

    def test_known_edges_are_counted_and_not_read_off(self, world: World) -> None:
        found = world.evaluate(world.pairs(range(N_PROTEINS), range(N_DRUGS)))
        assert found["n_known_edges"] == found["n_positive"] and found["n_unseen_proteins"] == 0
        noise = World(3)
        noise.truth = np.random.default_rng(4).random(noise.truth.shape) < 0.1
        noise.truth[0] = True
        assert noise.evaluate(noise.pairs(range(1, N_PROTEINS), range(N_DRUGS)))["methods"]["fused"]["auroc"] < 0.65

    def test_only_what_the_graph_lacks_is_encoded(self, world: World) -> None:
        asked: list[tuple[NodeType, int]] = []

        def encode(node_type: NodeType, values: list[str]) -> Vectors:
            asked.append((node_type, len(values)))
            return world.encode(node_type, values)

        pairs = world.pairs(range(N_PROTEINS - 4, N_PROTEINS + 4), range(N_DRUGS))
        evaluate_pairs(world.graph(), world.likeness, encode, pairs, TARGET, 0, lambda *_: None)
        assert asked == [(P, 4)]

    def test_profiles_change_the_result(self, world: World, report: dict) -> None:
        graph = world.graph()
        keep = np.array([r.name == "target" for r in graph.relations])[graph.relation]
        bare = replace(graph, head=graph.head[keep], tail=graph.tail[keep], relation=graph.relation[keep], source=graph.source[keep])
        pairs = world.pairs(NEW_PROTEINS, range(N_DRUGS))
        found = evaluate_pairs(bare, world.likeness, world.encode, pairs, TARGET, 0, lambda *_: None)
        assert found["methods"]["bridge"] == report["methods"]["bridge"] and found["methods"]["fused"] != report["methods"]["fused"]

    def test_what_does_not_fit_is_said(self, world: World) -> None:
        pairs = world.pairs(NEW_PROTEINS, range(N_DRUGS))
        with pytest.raises(InputError, match="between other types"):
            world.evaluate(pairs, ASSOCIATED)
        with pytest.raises(InputError, match="It has: target"):
            pair_relation(world.graph(), "nothing")
        few = np.zeros_like(world.truth)
        few[:19] = True
        with pytest.raises(InputError, match="19 heads; pairs need 20"):
            evaluate_pairs(world.graph(few), world.likeness, world.encode, pairs, TARGET, 0, lambda *_: None)


class TestMatching:
    def match(self, own: list[str], asked: list[str]) -> tuple[list[int], dict[str, int]]:
        nodes = {P: [Node("p", P, "p", values=("MKLV",))], D: [Node(f"d{i}", D, "", values=(s,)) for i, s in enumerate(own)]}
        rows, how, _ = _match_drugs(made_graph(nodes, {TARGET: [(0, 0)]}), asked)
        return rows.tolist(), how

    def test_by_canonical_form_inchikey_and_skeleton(self) -> None:
        own = ["C(C)O.Cl", "O=c1cccc[nH]1", "C[C@H](N)C(=O)O", "OC1=CC=CC=C1"]
        rows, how = self.match(own, ["CCO", "Oc1ccccn1", "CC(N)C(=O)O", "CCCCC"])
        assert rows == [0, 1, 2, -1] and how == {"canonical SMILES": 1, "InChIKey": 1, "same skeleton": 1}

    def test_a_skeleton_of_two_drugs_is_no_match(self) -> None:
        rows, how = self.match(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"], ["CC(N)C(=O)O", "C[C@@H](N)C(=O)O"])
        assert rows == [-1, 1] and how["same skeleton"] == 0


class TestEvidence:
    def side(self, world: World, truth: np.ndarray | None = None) -> Side:
        return Side(world.graph(truth), world.likeness, TARGET, np.arange(N_PROTEINS), 0)

    def test_bridge_is_two_step_kernel_ridge_written_out(self, world: World) -> None:
        evidence = Evidence(self.side(world), np.arange(N_PROTEINS))
        new_p, new_d = world.x[P][N_PROTEINS:], world.x[D][N_DRUGS:]
        q, o = (a.ravel() for a in np.indices((N_NEW, N_NEW)))
        _, cold, plain = evidence.read(world.like(P, new_p), world.like(D, new_d), np.full(N_NEW, -1), q, o)
        heads, tails = world.x[P][evidence.heads].astype(float), world.x[D][evidence.known].astype(float)
        left = kernel(new_p, heads) @ np.linalg.inv(kernel(heads, heads) + np.eye(len(heads)))
        right = kernel(new_d, tails) @ np.linalg.inv(kernel(tails, tails) + np.eye(len(tails)))
        naive = left @ world.truth[np.ix_(evidence.heads, evidence.known)] @ right.T
        assert cold.all()
        np.testing.assert_allclose(plain["bridge"], naive.ravel(), atol=2e-5)

    def test_a_known_other_is_smoothed_as_if_it_had_been_left_out(self, world: World) -> None:
        evidence = Evidence(self.side(world), np.arange(N_PROTEINS))
        others = _Others.of(evidence, world.like(D, world.x[D][:N_DRUGS]), np.arange(N_DRUGS))
        one = int(evidence.known[7])
        rest = np.delete(evidence.known, 7)
        gram = kernel(world.x[D][rest], world.x[D][rest]).astype(float)
        naive = kernel(world.x[D][[one]], world.x[D][rest]) @ np.linalg.inv(gram + np.eye(len(rest)))
        np.testing.assert_allclose(np.delete(others.smooth[one], 7), naive[0], atol=1e-5)
        assert others.smooth[one, 7] == 0.0 and one not in evidence.known[others.near[one][others.near_similar[one] > 0]]

    def test_own_edges_of_a_query_are_never_read(self, world: World) -> None:
        side = self.side(world)
        one = int(side.heads[3])
        turned = world.truth.copy()
        counts = world.truth[:N_PROTEINS, :N_DRUGS].sum(axis=0)
        turned[one, :N_DRUGS] ^= counts > 2
        kept = np.flatnonzero(side.fold != side.fold[one])
        x, y, every = world.like(P, world.x[P][[one]]), world.like(D, world.x[D][:N_DRUGS]), np.arange(N_DRUGS)
        asked = (x, y, every, np.zeros(N_DRUGS, np.int64), every)
        before, after = (Evidence(self.side(world, t), kept).read(*asked) for t in (None, turned))
        np.testing.assert_array_equal(before[0], after[0])
        for method, scores in before[2].items():
            np.testing.assert_array_equal(scores, after[2][method])
        everything = Evidence(side, np.arange(N_PROTEINS)).read(*asked)
        assert not np.array_equal(everything[0], before[0])

    def test_twins_leave_together(self, world: World) -> None:
        twins = np.arange(N_PROTEINS) // 2
        fold = Side(world.graph(), world.likeness, TARGET, twins, 0).fold
        assert (fold[::2] == fold[1::2]).all() and len(np.unique(fold)) == 5

    def test_sampled_pairs_are_all_edges_and_distinct_negatives(self, world: World) -> None:
        side = self.side(world)
        mine, universe = side.heads[:12], np.arange(N_DRUGS)
        i, j, truth = side._sample(mine, universe, 0)
        np.testing.assert_array_equal(world.truth[mine[i], j], truth)
        assert truth.sum() == world.truth[np.ix_(mine, universe)].sum() < (~truth).sum()
        assert len(np.unique(i * N_DRUGS + j)) == len(i)

    def test_a_cold_other_has_nothing_of_its_own(self, world: World) -> None:
        truth = world.truth.copy()
        truth[:, 5] = False
        evidence = Evidence(self.side(world, truth), np.arange(N_PROTEINS))
        x = world.like(D, world.x[D][[5]])
        q = o = np.zeros(1, np.int64)
        known, cold, _ = evidence.read(world.like(P, world.x[P][:1]), x, np.array([5]), q, o)
        unseen, _, _ = evidence.read(world.like(P, world.x[P][:1]), x, np.array([-1]), q, o)
        assert cold.all()
        np.testing.assert_array_equal(known, unseen)

    def test_a_hidden_other_is_read_as_if_it_had_no_edge(self, world: World) -> None:
        one = 5
        truth = world.truth.copy()
        truth[:, one] = False
        new_p = world.x[P][N_PROTEINS:]
        asked = (world.like(P, new_p), world.like(D, world.x[D][[one]]), np.array([one]), np.arange(N_NEW), np.zeros(N_NEW, np.int64))
        hidden, cold, plain = Evidence(self.side(world), np.arange(N_PROTEINS)).read(*asked, hide=True)
        bare = Evidence(self.side(world, truth), np.arange(N_PROTEINS)).read(*asked)
        assert cold.all() and world.truth[:N_PROTEINS, one].any()
        for method, scores in plain.items():
            np.testing.assert_allclose(scores, bare[2][method], atol=1e-5)
        same = np.isclose(hidden, bare[0], atol=1e-4).all(axis=0)
        assert (~same).sum() <= 1  # how many edges the query is expected to have, to which the hidden other still adds


class TestOdds:
    def test_the_share_of_positives_is_no_evidence(self) -> None:
        rng = np.random.default_rng(0)
        for share in (0.05, 0.9):
            truth = rng.random(2000) < share
            odds = Odds.learn(rng.standard_normal((2000, 3)).astype(np.float32), truth)
            assert abs(float(odds(np.zeros((1, 3), np.float32))[0])) < 0.2

    def test_products_of_features_are_learned(self) -> None:
        x = np.random.default_rng(0).standard_normal((3000, 2)).astype(np.float32)
        truth = x[:, 0] * x[:, 1] > 0
        assert auroc(Odds.learn(x[:2000], truth[:2000])(x[2000:]), truth[2000:]) > 0.95

    def test_a_missing_class_gives_even_odds(self) -> None:
        x = np.ones((5, 2), np.float32)
        assert not Odds.learn(x, np.zeros(5, bool))(x).any() and not Odds.learn(x, np.ones(5, bool))(x).any()
