"""Training of the authors' architecture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from biobridge_rag.bridge.checkpoints import CHECKPOINT, RECORD
from biobridge_rag.bridge.model import load_bridge, save_bridge, unit
from biobridge_rag.bridge.official_training import train_official
from biobridge_rag.errors import HomeMismatchError, InputError
from biobridge_rag.types import Relation

HIDDEN, LAYERS, FEED_FORWARD, HEADS = 48, 2, 2048, 12
NODE_TYPES = {"biological_process": 0, "gene/protein": 1, "disease": 2, "anatomy": 3}
RELATIONS = {"interacts with": 0, "ppi": 1, "associated with": 2}
DIMS = {"biological_process": 20, "gene/protein": 30, "disease": 20}
ASSOCIATED = Relation("associated with", "disease", "gene/protein")


def train(small, graph=None, epochs: int = 2, seed: int = 0, **options):
    sizes = {"hidden": 48, "layers": 1, "heads": 4, **options}
    progress = sizes.pop("progress", lambda *_: None)
    return train_official(graph or small.graph, small.tables, epochs=epochs, seed=seed, device="cpu", progress=progress, **sizes)


def test_training_returns_a_bridge_and_held_out_heads_only(small) -> None:
    bridge, honest = train(small)
    assert bridge.hidden_dim == 48 and set(honest) == {small.target, small.target.inverse}
    for relation, left_out in honest.items():
        x = small.tables[relation.head_type]
        linked = np.unique(small.graph.edges(relation)[0])
        assert set(left_out.rows) <= set(linked) and 0 < len(left_out.rows) <= 0.2 * len(x)
        assert np.array_equal(left_out.transforms, bridge.transform(x[left_out.rows], relation))


def test_held_out_heads_leave_no_trace(small, graph_of) -> None:
    """Edges of held-out nodes may be anything: the bridge is the same to the last bit."""
    bridge, honest = train(small)
    held = {r.head_type: set(h.rows.tolist()) for r, h in honest.items()}
    drugs = set(np.unique(small.graph.edges(small.target)[1]).tolist())
    proteins, tails = small.graph.edges(small.target)
    kept = [(int(p), int(d)) for p, d in zip(proteins, tails, strict=True) if p not in held["gene/protein"] and d not in held["drug"]]
    rewired = [(p, d) for p in sorted(held["gene/protein"]) for d in sorted(held["drug"])]
    needed = [(p, min(held["drug"])) for p in range(30)] + [(min(held["gene/protein"]), d) for d in sorted(drugs)]
    other = graph_of(kept + sorted({*rewired, *needed}), 30, 48)
    again, _ = train(small, other)
    assert all(np.array_equal(v, again.tensors()[name]) for name, v in bridge.tensors().items())


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_alone(small) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train(small)[0].tensors()
    assert torch.equal(torch.rand(3), expected)
    second, other = train(small)[0].tensors(), train(small, seed=1)[0].tensors()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_every_option_changes_the_result(small) -> None:
    base = train(small)[0].tensors()["proj_layer.0.weight"]
    changes = [{"epochs": 3}, {"batch": 60}, {"negatives": 2}, {"held_out": 0.4}, {"layers": 2}, {"heads": 2}, {"hidden": 24}]
    changes += [{"balance": 1.0, "batch": 60}, {"dropout": 0.0}, {"precision": "bf16"}]
    for change in changes:
        out = train(small, **change)[0].tensors()["proj_layer.0.weight"]
        assert out.shape != base.shape or not np.array_equal(out, base), change


def test_nothing_held_out_gives_no_honest_predictions(small) -> None:
    _, honest = train(small, held_out=0.0)
    assert all(len(h.rows) == 0 and h.transforms.shape == (0, 48) for h in honest.values())


def test_a_head_linked_to_every_tail_keeps_weights_finite(small, graph_of) -> None:
    graph = graph_of([(0, d) for d in range(48)] + [(p, p) for p in range(1, 30)], 30, 48)
    bridge, _ = train(small, graph, batch=1)
    assert all(np.isfinite(v).all() for v in bridge.tensors().values())


def test_progress_is_told_each_epoch(small) -> None:
    told = []
    train(small, epochs=3, progress=lambda stage, done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_it_learns_what_it_has_not_seen(small) -> None:
    """Held-out proteins lie nearer to the drugs of their family than to others, though no edge of theirs was seen."""

    def margin(epochs: int) -> float:
        bridge, honest = train(small, epochs=epochs)
        left_out = honest[small.target]
        scores = unit(left_out.transforms) @ unit(bridge.project(small.tables["drug"], "drug")).T
        own = np.arange(48)[None, :] // 8 == left_out.rows[:, None] // 5
        return float(scores[own].mean() - scores[~own].mean())

    assert margin(100) > margin(0) + 0.15


def test_a_trained_bridge_survives_the_disk(small, tmp_path: Path) -> None:
    bridge, _ = train(small)
    save_bridge(bridge, tmp_path)
    loaded, _ = load_bridge(tmp_path)
    x = small.tables["drug"]
    assert np.array_equal(loaded.transform(x, small.target.inverse), bridge.transform(x, small.target.inverse))


def test_bad_training_requests_are_bad_input(small) -> None:
    with pytest.raises(InputError, match="no edges"):
        train(small, small.graph.without_heads(range(len(small.graph.nodes))))
    with pytest.raises(InputError, match="heads"):
        train(small, hidden=50)


def same(a, b) -> bool:
    first, second = a.tensors(), b.tensors()
    return first.keys() == second.keys() and all(np.array_equal(v, second[name]) for name, v in first.items())


def test_history_tells_each_epoch(small) -> None:
    rows = []
    train(small, epochs=4, batch=40, history=rows)
    assert [r.epoch for r in rows] == [1, 2, 3, 4] and rows[0].steps > 1
    assert [r.steps for r in rows] == sorted({r.steps for r in rows})
    assert rows[-1].loss < rows[0].loss and all(r.loss > 0 and 0 < r.validation_mrr <= 1 and r.seconds > 0 for r in rows)
    assert 0 < rows[-1].learning_rate < max(r.learning_rate for r in rows) <= 1.6e-3
    train(small, epochs=2, held_out=0.0, history=rows)
    assert [r.validation_mrr for r in rows] == [None, None]


def test_the_stage_tells_loss_and_validation_mrr(small) -> None:
    rows, told = [], []
    train(small, history=rows, progress=lambda stage, *_: told.append(stage))
    assert f"loss {rows[-1].loss:.4f}, validation MRR {rows[-1].validation_mrr:.4f}" in told[-1]


def test_predictions_are_of_heads_that_nothing_was_chosen_by(small) -> None:
    """Validation takes its share of the held-out heads, and the predictions are of the others; training sees neither."""
    none, all_held = train(small, validation=0.0)
    half, rest = train(small, validation=0.5)
    assert same(none, half)
    for relation, left_out in rest.items():
        assert 0 < len(left_out.rows) < len(all_held[relation].rows)
        assert set(left_out.rows) < set(all_held[relation].rows)


def test_early_stopping_stops_and_returns_the_best_epoch(small, tmp_path: Path) -> None:
    """With patience 1 it stops at the first epoch that is no better, and the weights are those of the epoch before."""
    rows = []
    stopped, _ = train(small, epochs=60, batch=40, patience=1, validation=0.5, history=rows)
    mrr = [r.validation_mrr for r in rows]
    assert 2 <= len(rows) < 60 and mrr[-1] <= mrr[-2] == max(mrr)
    assert all(b > a for a, b in pairwise(mrr[:-1]))
    with pytest.raises(Cut):
        train(small, epochs=60, batch=40, validation=0.5, checkpoints=tmp_path, progress=cut_at(len(rows) - 1))
    best = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]["network"]
    assert all(np.array_equal(value, best[name].numpy()) for name, value in stopped.tensors().items())
    patient = []
    train(small, epochs=60, batch=40, patience=8, validation=0.5, history=patient)
    assert len(patient) > len(rows) and [r.validation_mrr for r in patient[: len(rows)]] == mrr


class Cut(Exception):
    """Stands for a kill, where no process is to die."""


def cut_at(epoch: int):
    def progress(stage: str, done: int, total: int) -> None:
        if done >= epoch:
            raise Cut

    return progress


@pytest.mark.parametrize("options", [{}, {"negatives": 3, "balance": 0.5, "patience": 5}])
def test_a_run_that_was_cut_goes_on_to_the_same_bits(small, tmp_path: Path, options) -> None:
    given = {"epochs": 4, "batch": 40, **options}
    rows, again = [], []
    whole, honest = train(small, history=rows, **given)
    for epoch in (1, 3):
        with pytest.raises(Cut):
            train(small, checkpoints=tmp_path, progress=cut_at(epoch), **given)
    resumed, left_out = train(small, checkpoints=tmp_path, history=again, **given)
    assert same(whole, resumed)
    assert all(np.array_equal(honest[r].transforms, left_out[r].transforms) for r in honest)
    assert [(r.loss, r.validation_mrr, r.learning_rate) for r in rows] == [(r.loss, r.validation_mrr, r.learning_rate) for r in again]
    record = json.loads((tmp_path / RECORD).read_text())
    assert [r["loss"] for r in record["epochs"]] == [r.loss for r in rows]


def test_a_run_cut_inside_an_epoch_goes_on_to_the_same_bits(small, tmp_path: Path, monkeypatch) -> None:
    """Cut at the 6th step, the last checkpoint after the 4th of five an epoch; then at the 3rd after that, and then let go."""
    rows, again, step = [], [], torch.optim.AdamW.step
    given = {"epochs": 3, "batch": 30, "negatives": 3}
    whole, _ = train(small, history=rows, **given)

    def steps_until_cut(n: int):
        left = iter(range(n - 1))

        def cut(self, *args, **kwargs):
            if next(left, None) is None:
                raise Cut
            return step(self, *args, **kwargs)

        return cut

    for n in (4, 3):
        monkeypatch.setattr(torch.optim.AdamW, "step", steps_until_cut(n))
        with pytest.raises(Cut):
            train(small, checkpoints=tmp_path, save_every=2, **given)
        at = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]
        assert at["step"] % 2 == 0 and (at["epoch"], at["step"]) > (0, 0)
    monkeypatch.undo()
    resumed, _ = train(small, checkpoints=tmp_path, save_every=2, history=again, **given)
    assert same(whole, resumed) and [r.loss for r in rows] == [r.loss for r in again]


@pytest.mark.parametrize("options", [{}, {"epochs": 60, "batch": 40, "patience": 1, "validation": 0.5}])
def test_a_finished_run_is_not_trained_again(small, tmp_path: Path, monkeypatch, options) -> None:
    first, _ = train(small, checkpoints=tmp_path, **options)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("trained again"))
    second, _ = train(small, checkpoints=tmp_path, **options)
    assert same(first, second)


def test_a_checkpoint_of_other_options_or_data_is_refused(small, graph_of, tmp_path: Path) -> None:
    train(small, checkpoints=tmp_path)
    with pytest.raises(HomeMismatchError, match=r"dropout 0\.1, not 0\.2, epochs 2, not 3\."):
        train(small, epochs=3, dropout=0.2, checkpoints=tmp_path)
    with pytest.raises(HomeMismatchError, match="graph "):
        train(small, graph_of([(p, d) for p in range(30) for d in range(5)], 30, 48), checkpoints=tmp_path)
    small.tables["drug"][0] *= -1
    with pytest.raises(HomeMismatchError, match="embeddings "):
        train(small, checkpoints=tmp_path)


CHILD = """
import hashlib, json, sys
from pathlib import Path
import numpy as np, torch
from biobridge_rag.bridge.official_training import train_official
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

torch.set_num_threads(1)
rng = np.random.default_rng(0)
target = Relation("target", "gene/protein", "drug")
nodes = [Node(f"P{i}", NodeType.PROTEIN, "") for i in range(40)] + [Node(f"D{i}", NodeType.DRUG, "") for i in range(40)]
pairs = np.unique(np.stack([rng.integers(0, 40, 200), rng.integers(40, 80, 200)], 1), axis=0).astype(np.int32)
kind = np.repeat(np.array([0, 1], np.int16), len(pairs))
graph = KnowledgeGraph(
    "small", tuple(nodes), (target, target.inverse), pairs.T.reshape(-1), kind, pairs.T[::-1].reshape(-1), kind * 0, ("made by hand",)
)
tables = {"gene/protein": rng.standard_normal((40, 24)).astype(np.float32), "drug": rng.standard_normal((40, 16)).astype(np.float32)}

def run(folder, **options):
    rows = []
    bridge, _ = train_official(
        graph, tables, seed=0, device="cpu", hidden=48, layers=1, heads=4, history=rows, checkpoints=Path(folder),
        progress=lambda stage, done, total: print(stage, done, flush=True), **options,
    )
    weights = bridge.tensors()
    np.savez(Path(folder) / "weights.npz", **weights)
    return {"losses": [(r.loss, r.validation_mrr) for r in rows]}
"""


def child(script: str, tmp_path: Path, *launcher: str) -> list[str]:
    path = tmp_path / "child.py"
    path.write_text(CHILD + script)
    return [sys.executable, *launcher, str(path)]


def environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_a_run_killed_by_sigkill_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Killed in the middle of an epoch, where only the checkpoints of every third step can lead on."""
    options = "epochs=10, batch=16, save_every=3"
    killed = tmp_path / "killed"
    command = child(f"run({str(killed)!r}, {options})", tmp_path)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    for line in process.stdout:
        if line.split()[-1] == "2":
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (killed / "weights.npz").exists()
    process.stdout.close()
    at = torch.load(killed / CHECKPOINT, weights_only=True)["state"]
    assert 2 <= at["epoch"] < 10
    undisturbed = tmp_path / "undisturbed"
    again = child(f"run({str(killed)!r}, {options})\nrun({str(undisturbed)!r}, {options})", tmp_path)
    out = subprocess.run(again, capture_output=True, text=True, env=environment(), check=True).stdout
    assert out.splitlines()[0].split()[-1] == str(at["epoch"]), "it did not go on where it was killed"
    with np.load(killed / "weights.npz") as a, np.load(undisturbed / "weights.npz") as b:
        assert set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_two_processes_under_torchrun_train_as_one(tmp_path: Path) -> None:
    """The same global batch, dropout off: the losses, validation figures and weights of one process; the first alone speaks."""
    options = "epochs=3, batch=30, dropout=0.0"
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    script = f"""
from torch import distributed
folder = {str(shared)!r} if distributed.is_torchelastic_launched() else {str(alone)!r}
result = run(folder, {options})
Path(folder, "losses.json").write_text(json.dumps(result["losses"]))
"""
    launchers = ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])
    runs = [
        subprocess.Popen(child(script, tmp_path, *launcher), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        for launcher in launchers
    ]
    out = [process.communicate(timeout=120) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], out
    assert out[1][0].count("epochs 0\n") == 1, "both processes speak"
    one, two = (np.array(json.loads((folder / "losses.json").read_text())) for folder in (alone, shared))
    assert one.shape == (3, 2) and np.allclose(one, two, rtol=1e-5)
    with np.load(alone / "weights.npz") as a, np.load(shared / "weights.npz") as b:
        for name in a:
            one, two = a[name], b[name]
            if name.endswith("in_proj_bias"):  # a shift of all keys changes no attention: their gradient is rounding, which Adam scales up
                one, two = (np.delete(x, np.s_[48:96]) for x in (one, two))
            assert np.allclose(one, two, atol=1e-6), name


def test_tensorboard_gets_the_rows(small, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = []
    train(small, epochs=3, log_dir=tmp_path, history=rows)
    log = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in log.Scalars("loss")] == [1, 2, 3]
    assert [e.value for e in log.Scalars("validation MRR")] == pytest.approx([r.validation_mrr for r in rows], rel=1e-5)


def test_logs_without_tensorboard_are_one_clear_line(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="TensorBoard") as caught:
        train(small, log_dir=tmp_path)
    assert "biobridge-rag[tensorboard]" in caught.value.help


@pytest.mark.parametrize(
    "options",
    [{"balance": 1.5}, {"dropout": 1.0}, {"validation": -0.1}, {"negatives": 0}, {"patience": 0}, {"save_every": 0}, {"precision": "fp8"}],
)
def test_options_out_of_range_are_bad_input(small, options) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        train(small, **options)


def test_early_stopping_without_validation_heads_is_bad_input(small) -> None:
    with pytest.raises(InputError, match="validation heads"):
        train(small, held_out=0.0, patience=2)
