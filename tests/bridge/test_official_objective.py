"""What the authors' architecture is trained on and judged by, each fast path against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biobridge_rag.bridge.official import OfficialNetwork
from biobridge_rag.bridge.official_objective import Objective, TrainingSet, _reciprocal_ranks, carry, filtered_mrr, hold_out, part_of
from biobridge_rag.evaluation.metrics import filtered_ranks
from biobridge_rag.graph.incidence import incidence

NODE_TYPES, RELATIONS = {"drug": 0, "gene/protein": 1}, {"target": 0}


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield OfficialNetwork(2, 1, {0: 16, 1: 24}, 48, 2, 4).eval()


@pytest.fixture
def data(small):
    held = hold_out(small.graph, 0.2, np.random.default_rng(0))
    watched = part_of(held, 0.5, np.random.default_rng(1))
    return TrainingSet(small.graph, small.tables, held, watched, NODE_TYPES, RELATIONS, torch.device("cpu"))


def test_the_last_layer_for_token_0_alone_gives_the_same_numbers_and_gradients(network) -> None:
    x = torch.randn(7, 48, generator=torch.Generator().manual_seed(1))
    ids = (torch.tensor([0, 1, 0, 1, 0, 1, 0]), torch.zeros(7, dtype=torch.int64), torch.tensor([1, 0, 1, 0, 1, 0, 1]))
    weight = network.encoder.layers[0].linear1.weight
    plain, short = network(x, *ids), carry(network, x, *ids)
    assert torch.allclose(plain, short, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), weight)[0] for y in (plain, short)]
    assert torch.allclose(*gradients, atol=1e-4)


def test_false_tails_are_each_triples_own_different_and_unlinked(data, small) -> None:
    """The authors' negatives: drawn for each triple, of the tail's type, none linked to the head, none held out."""
    linked = {r: incidence(small.graph, r).toarray() for r in data.relations}
    batch = np.arange(len(data.head))
    drawn_for_one_query = []
    for block in data.blocks(batch, 5, np.random.default_rng(0)):
        tails = block.candidates[block.column]
        assert block.allowed.all() and tails.shape == (len(block.row), 6)
        assert np.isin(tails, data.open[block.tail_type]).all()
        for row, triple in zip(block.row, tails, strict=True):
            query = batch[block.queries[row]]
            links = linked[data.relations[data.relation[query]]][data.head[query]]
            assert links[triple[0]] and not links[triple[1:]].any() and len(set(triple.tolist())) == 6
        drawn_for_one_query.append(tails[block.row == 0, 1:])
    assert any(len(np.unique(t)) > 5 for t in drawn_for_one_query), "the triples of one query share their false tails"


def test_false_tails_that_are_not_there_are_masked(graph_of, small) -> None:
    graph = graph_of([(0, d) for d in range(45)] + [(p, p) for p in range(1, 30)], 30, 48)
    none = {t.value: np.zeros(0, np.int64) for t in graph.by_type}
    data = TrainingSet(graph, small.tables, none, none, NODE_TYPES, RELATIONS, torch.device("cpu"))
    query = np.flatnonzero((data.head == 0) & (data.relation == data.relations.index(small.target)))
    (block,) = data.blocks(query, 5, np.random.default_rng(0))
    false = block.candidates[block.column[:, 1:]]
    assert (block.allowed.sum(axis=1) <= 3).all() and block.allowed.any()
    assert set(false[block.allowed].tolist()) <= {45, 46, 47}


@pytest.mark.parametrize("negatives", [None, 4])
def test_the_loss_is_that_of_a_plain_loop(data, network, negatives) -> None:
    objective = Objective(network, data, negatives, False)
    batch = np.arange(0, len(data.head), 2)
    fast = objective(batch, np.random.default_rng(3))
    slow = 0.0
    for block in data.blocks(batch, negatives, np.random.default_rng(3)):
        for k, row in enumerate(block.row):
            query = batch[block.queries[row]]
            relation = data.relations[data.relation[query]]
            ids = [torch.tensor([i]) for i in data.ids[data.relation[query]]]
            x = torch.from_numpy(data.tables[relation.head_type].numpy()[[data.head[query]]])
            q = network(network.proj_layer[str(NODE_TYPES[relation.head_type])](x), *ids)
            true = block.candidates[block.column[k, 0]]
            if negatives is None:
                edges = data.edges[data.relation[query]][data.head[query]].indices
                false = np.setdiff1d(block.candidates, edges)
            else:
                false = block.candidates[block.column[k, 1:]]
            c = network.proj_layer[str(NODE_TYPES[relation.tail_type])](data.tables[relation.tail_type][[true, *false]])
            logits = torch.nn.functional.cosine_similarity(q, c) / 0.1
            slow += torch.nn.functional.cross_entropy(logits[None], torch.tensor([0])).item()
    assert fast.item() == pytest.approx(slow, rel=1e-4)


def test_an_epoch_holds_each_query_once(data) -> None:
    batches = data.batches(20, 0.0, np.random.default_rng(0))
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(data.head)))
    assert len(batches) > 3 and all(data.count[b].sum() < 20 + data.count.max() for b in batches)


def test_balance_gives_relations_equal_shares(small) -> None:
    """One relation whole, and its inverse of which an eighth is left."""
    held = hold_out(small.graph, 0.0, np.random.default_rng(0))
    data = TrainingSet(small.graph, small.tables, held, held, NODE_TYPES, RELATIONS, torch.device("cpu"))
    keep = (data.relation == 0) | (np.arange(len(data.head)) % 8 == 0)
    data.head, data.relation, data.count = data.head[keep], data.relation[keep], data.count[keep]
    total = data.count.sum()

    def share(balance: float) -> float:
        drawn = [np.concatenate(data.batches(20, balance, np.random.default_rng(s))) for s in range(40)]
        assert np.mean([data.count[d].sum() for d in drawn]) == pytest.approx(total, rel=0.05)
        every = np.concatenate(drawn)
        return float(data.count[every][data.relation[every] == 0].sum() / data.count[every].sum())

    by_edges = data.count[data.relation == 0].sum() / total
    assert by_edges > 0.8 and share(0.0) == pytest.approx(by_edges)
    assert share(1.0) == pytest.approx(0.5, abs=0.03) and 0.55 < share(0.5) < by_edges - 0.05


def test_reciprocal_ranks_are_those_of_the_protocol() -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (9, 40)).astype(np.float32)  # many ties
    truth = sparse.csr_matrix((rng.random((9, 40)) < 0.2).astype(np.float32))
    expected = np.concatenate([1 / filtered_ranks(scores[i], truth[i].indices) for i in range(9)])
    assert np.allclose(_reciprocal_ranks(torch.from_numpy(scores), truth).numpy(), expected)


def test_the_validation_mrr_is_over_watched_heads_and_open_tails(data, network, small) -> None:
    """The mean over relations of the mean over the watched heads' edges, against a plain computation."""
    objective = Objective(network, data, None, False)
    means = []
    for i, (rows, _) in data.watched.items():
        relation, ranks = data.relations[i], []
        edges, tails = incidence(small.graph, relation), data.open[relation.tail_type]
        assert not np.isin(rows, data.open[relation.head_type]).any()
        scores = (objective.queries([(i, rows)]) @ objective.tails(relation.tail_type, tails).T).detach().numpy()
        for row, line in zip(rows, scores, strict=True):
            ranks.extend(1 / filtered_ranks(line, np.flatnonzero(np.isin(tails, edges[row].indices))))
        means.append(np.mean(ranks))
    assert filtered_mrr(objective) == pytest.approx(np.mean(means), abs=1e-6)


def test_watched_and_other_held_out_rows_are_apart_and_both_there() -> None:
    held = {"drug": np.arange(9), "disease": np.arange(1), "gene/protein": np.zeros(0, np.int64)}
    part = part_of(held, 0.25, np.random.default_rng(0))
    assert {t: len(rows) for t, rows in part.items()} == {"drug": 3, "disease": 0, "gene/protein": 0}
    assert all(len(rows) == 0 for rows in part_of(held, 0.0, np.random.default_rng(0)).values())


def test_bf16_changes_the_loss_a_little(data, network) -> None:
    batch = np.arange(len(data.head))
    plain, short = (Objective(network, data, None, bf16)(batch, np.random.default_rng(0)).item() for bf16 in (False, True))
    assert plain != short and short == pytest.approx(plain, rel=0.02)
