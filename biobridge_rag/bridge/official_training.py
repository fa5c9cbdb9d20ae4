"""Trains the authors' architecture on a graph by InfoNCE: one run, which may stop at any moment and go on.

Knows: torch, its processes, the graph's edges, embedding tables. Does not know: encoders, the store, evaluation.

Nothing random is carried from step to step: each step's generators are seeded by (seed, epoch, step, process). So a checkpoint's
epoch and step are the states of all generators, and a run that was killed ends with the bits of one that was not (on a CPU).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from biobridge_rag.bridge.checkpoints import EpochRow, open_board, read_checkpoint, write_checkpoint, write_record
from biobridge_rag.bridge.official import DROPOUT, HEADS, OfficialBridge, OfficialNetwork
from biobridge_rag.bridge.official_objective import Objective, TrainingSet, filtered_mrr, hold_out, part_of
from biobridge_rag.bridge.training import LeftOut
from biobridge_rag.errors import InputError
from biobridge_rag.types import Indices, KnowledgeGraph, Progress, Relation, Vectors

LEARNING_RATE, WEIGHT_DECAY, BATCH = 1.6e-3, 1e-4, 4096
PRECISIONS = ("fp32", "bf16")
_WARM_UP, _CLIP = 0.1, 1.0
_STAGE = "training the official bridge"


def train_official(
    graph: KnowledgeGraph,
    tables: Mapping[str, Vectors],
    *,
    epochs: int,
    seed: int,
    device: str,
    progress: Progress,
    hidden: int = 768,
    layers: int = 6,
    heads: int = HEADS,
    batch: int | None = None,
    negatives: int | None = None,
    held_out: float = 0.2,
    validation: float = 0.25,
    patience: int | None = None,
    balance: float = 0.0,
    dropout: float = DROPOUT,
    precision: str | None = None,
    checkpoints: Path | None = None,
    save_every: int | None = None,
    log_dir: Path | None = None,
    history: list[EpochRow] | None = None,
) -> tuple[OfficialBridge, dict[Relation, LeftOut]]:
    """Trains on the graph's relations by InfoNCE at temperature 0.1. tables: node type -> (n_t, d_t) in the order of the graph.

    batch: triples a step (None: a 20th of them, 32 to 4096); the learning rate is 1.6e-3 at 4096 triples and goes with the root of
    the batch. negatives: false tails a triple, drawn for it alone as the authors do with 5 (None: all of the type).
    balance: 0 draws triples as often as they are, 1 every relation equally often, in the same number of triples an epoch.
    precision: fp32 or bf16, the latter by autocast (None: bf16 on CUDA, else fp32).

    A share `held_out` in [0, 1) of the nodes of each type is kept out of training, as head, tail and negative. Of those, a share
    `validation` in [0, 1) is watched: their filtered MRR, among the tails that training sees, is told each epoch, and with `patience`
    training stops after as many epochs without a better one and returns the best epoch (None: all epochs, and the last).
    The predictions returned are of the other held-out nodes, which nothing was chosen by. The one model returned is the one that
    never saw them: it is not trained again on all edges, which would take twice the time and turn the space that the predictions
    lie in. With held_out 0 it sees all and returns none.

    checkpoints: a folder that is written every epoch and every `save_every` steps; the same call goes on from what lies there, and
    one with other options or data raises HomeMismatchError. log_dir: TensorBoard's. history: filled with one row an epoch.
    The same seed gives the same bits on a CPU. Under torchrun each process takes its share of every batch and all return the same
    bridge; the first alone tells progress and writes.
    """
    options = {
        "epochs": epochs, "seed": seed, "hidden": hidden, "layers": layers, "heads": heads, "batch": batch, "negatives": negatives,
        "held_out": held_out, "validation": validation, "patience": patience, "balance": balance, "dropout": dropout,
        "precision": precision,
    }  # fmt: skip
    _check(graph, options, save_every)
    todo = [r for r in graph.relations if len(graph.edges(r)[0])]
    node_types = {t: i for i, t in enumerate(sorted(str(t) for t in tables))}
    relation_types = {name: i for i, name in enumerate(sorted({r.name for r in todo}))}
    held = hold_out(graph, held_out, np.random.default_rng([seed, 0]))
    watched = part_of(held, validation, np.random.default_rng([seed, 3]))
    run = {**options, "graph": graph.sha256, "embeddings": _sha256(tables)} if checkpoints else options
    with _processes(device) as (where, rank, world):
        forked = [torch.cuda.current_device()] if where.type == "cuda" else []
        with torch.random.fork_rng(devices=forked):
            torch.manual_seed(seed)
            dims = {i: tables[t].shape[1] for t, i in node_types.items()}
            network = OfficialNetwork(len(node_types), len(relation_types), dims, hidden, layers, heads)
            _set_dropout(network, dropout)
            data = TrainingSet(graph, tables, held, watched, node_types, relation_types, where)
            bf16 = (precision or ("bf16" if where.type == "cuda" else "fp32")) == "bf16"
            objective = Objective(network.to(where), data, negatives, bf16)
            training = _Training(objective, run, rank, world, progress, checkpoints)
            rows = training.go(save_every, log_dir)
    if history is not None:
        history[:] = rows
    bridge = OfficialBridge(network, node_types, relation_types, heads)
    left_out = {}
    for r in todo:
        rest = np.setdiff1d(held[r.head_type], watched[r.head_type])
        kept = np.intersect1d(np.unique(graph.edges(r)[0]), rest)
        left_out[r] = LeftOut(kept, bridge.transform(np.asarray(tables[r.head_type][kept], np.float32), r))
    return bridge, left_out


def _check(graph: KnowledgeGraph, options: Mapping[str, Any], save_every: int | None) -> None:
    """Raises InputError for what cannot be trained."""
    if not graph.n_edges:
        raise InputError("The graph has no edges, so no bridge can be trained.", "Check the counts of skipped rows.")
    hidden, heads, layers = options["hidden"], options["heads"], options["layers"]
    if heads < 1 or hidden % heads or layers < 1:
        raise InputError(f"A hidden width of {hidden} with {heads} heads and {layers} layers makes no network.")
    for name in ("held_out", "validation", "dropout"):
        if not 0 <= options[name] < 1:
            raise InputError(f"{name} must lie in [0, 1), and {options[name]} does not.")
    if not 0 <= options["balance"] <= 1:
        raise InputError(f"balance must lie in [0, 1], and {options['balance']} does not.")
    for name, value in {**{k: options[k] for k in ("batch", "negatives", "patience")}, "save_every": save_every}.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be 1 or more, not {value}.")
    if options["precision"] not in (None, *PRECISIONS):
        raise InputError(f"There is no precision {options['precision']!r}.", f"Valid names: {', '.join(PRECISIONS)}.")


def _sha256(tables: Mapping[str, Vectors]) -> str:
    h = hashlib.sha256()
    for node_type in sorted(tables):
        x = tables[node_type]
        h.update(f"{node_type} {x.shape} {x.dtype}".encode())
        for start in range(0, len(x), 4096):
            h.update(np.ascontiguousarray(x[start : start + 4096]).tobytes())
    return h.hexdigest()


def _set_dropout(network: nn.Module, share: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = share


@contextmanager
def _processes(device: str) -> Iterator[tuple[torch.device, int, int]]:
    """The device, rank and number of the processes that torchrun started together; one without it."""
    where = torch.device(device)
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield where, 0, 1
        return
    if where.type == "cuda":
        where = torch.device("cuda", distributed.get_node_local_rank())
        torch.cuda.set_device(where)
    mine = not distributed.is_initialized()
    if mine:
        distributed.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield where, distributed.get_rank(), distributed.get_world_size()
    finally:
        if mine:
            distributed.destroy_process_group()


class _Training:
    """One run: AdamW with a linear warm-up over a tenth of the steps, then linear decay; gradients are clipped to length 1."""

    def __init__(
        self, objective: Objective, run: Mapping[str, Any], rank: int, world: int, progress: Progress, folder: Path | None
    ) -> None:
        self.objective, self.run, self.rank, self.world = objective, run, rank, world
        self.progress: Progress = progress if rank == 0 else lambda *_: None
        self.folder, self.network, self.data = folder, objective.network, objective.data
        self.size = run["batch"] or int(np.clip(self.data.count.sum() // 20, 32, BATCH))
        lengths = [len(self.batches(e)) for e in range(run["epochs"])]
        self.before = np.concatenate([[0], np.cumsum(lengths)])
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        self.epoch, self.step, self.seconds, self.finished = 0, 0, 0.0, False
        self.loss = torch.zeros((), dtype=torch.float64, device=self.data.device)  # summed over this process's triples of the epoch
        self.rows: list[EpochRow] = []
        self.best: dict[str, Any] = {"mrr": -1.0, "epoch": None, "network": None}

    def batches(self, epoch: int) -> list[Indices]:
        return self.data.batches(self.size, self.run["balance"], np.random.default_rng([self.run["seed"], 1, epoch]))

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over the whole run."""
        steps = max(int(self.before[-1]), 1)
        warm = max(int(_WARM_UP * steps), 1)
        full = LEARNING_RATE * min(self.size / BATCH, 1.0) ** 0.5
        return float(full * min((step + 1) / warm, max(steps - step, 1) / max(steps - warm, 1)))

    def go(self, save_every: int | None, log_dir: Path | None) -> list[EpochRow]:
        """Trains from where the checkpoint stands to the end, or to where patience runs out, and sets the weights to return."""
        epochs, patience = self.run["epochs"], self.run["patience"]
        if patience and not self.data.watched:
            raise InputError("Early stopping needs validation heads, and none were held out.", "Raise held_out or validation.")
        self._restore()
        board = open_board(log_dir, len(self.rows)) if log_dir and self.rank == 0 else None
        model = self._shared()
        self.progress(self._stage(), self.epoch, epochs)
        while self.epoch < epochs and not self.finished:
            self._run_epoch(model, save_every)
            if patience:
                self.finished = self.epoch - self.best["epoch"] >= patience
            self._save()
            if board:
                self._log(board, self.rows[-1])
            self.progress(self._stage(), epochs if self.finished else self.epoch, epochs)
        if board:
            board.close()
        if patience and self.best["network"] is not None:
            self.network.load_state_dict(self.best["network"])
        return self.rows

    def _shared(self) -> nn.Module:
        if self.world == 1:
            return self.objective
        devices = [self.data.device] if self.data.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(self.objective, device_ids=devices, find_unused_parameters=True)

    def _run_epoch(self, model: nn.Module, save_every: int | None) -> None:
        start, batches = time.perf_counter() - self.seconds, self.batches(self.epoch)
        rate, triples = 0.0, float(sum(self.data.count[b].sum() for b in batches))
        self.network.train()
        while self.step < len(batches):
            at = int(self.before[self.epoch]) + self.step
            rate = self.rate(at)
            self._step(model, batches[self.step], rate)
            self.step += 1
            if save_every and (at + 1) % save_every == 0 and self.step < len(batches):
                self.seconds = time.perf_counter() - start
                self._save()
        if self.world > 1:
            distributed.all_reduce(self.loss)
        mrr = filtered_mrr(self.objective, self.rank, self.world)
        self.epoch, self.step = self.epoch + 1, 0
        row = EpochRow(
            self.epoch, int(self.before[self.epoch]), float(self.loss) / max(triples, 1.0), mrr, time.perf_counter() - start, rate
        )
        self.rows.append(row)
        self.seconds = 0.0
        self.loss.zero_()
        if mrr is not None and mrr > self.best["mrr"]:
            weights = {k: v.detach().clone() for k, v in self.network.state_dict().items()} if self.run["patience"] else None
            self.best = {"mrr": mrr, "epoch": self.epoch, "network": weights}

    def _step(self, model: nn.Module, batch: Indices, rate: float) -> None:
        """One step on the whole batch, of which this process takes every world-th query."""
        seeds = np.random.SeedSequence([self.run["seed"], 2, self.epoch, self.step, self.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint32)[0]))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss = model(batch[self.rank :: self.world], np.random.default_rng(seeds))
        (loss * (self.world / float(self.data.count[batch].sum()))).backward()  # gradients are averaged over the processes
        nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimiser.step()
        self.loss += loss.detach().double()

    def _stage(self) -> str:
        if not self.rows:
            return f"{_STAGE}, epochs"
        row = self.rows[-1]
        mrr = "" if row.validation_mrr is None else f", validation MRR {row.validation_mrr:.4f}"
        return f"{_STAGE} (loss {row.loss:.4f}{mrr}), epochs"

    def _log(self, board: Any, row: EpochRow) -> None:
        board.add_scalar("loss", row.loss, row.epoch)
        board.add_scalar("learning rate", row.learning_rate, row.epoch)
        if row.validation_mrr is not None:
            board.add_scalar("validation MRR", row.validation_mrr, row.epoch)
        board.flush()

    def _save(self) -> None:
        """Writes all that going on needs; all processes call it, the first writes."""
        if not self.folder:
            return
        loss = self.loss.clone()
        if self.world > 1:
            distributed.all_reduce(loss)
        if self.rank:
            return
        state = {
            "epoch": self.epoch, "step": self.step, "seconds": self.seconds, "finished": self.finished, "loss": loss,
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "best": self.best,
            "rows": [asdict(row) for row in self.rows],
        }  # fmt: skip
        write_checkpoint(self.folder, self.run, state)
        write_record(self.folder, self.run, self.rows, self.best["epoch"])

    def _restore(self) -> None:
        state = read_checkpoint(self.folder, self.run) if self.folder else None
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step, self.seconds, self.finished = (state[k] for k in ("epoch", "step", "seconds", "finished"))
        self.best, self.rows = state["best"], [EpochRow(**row) for row in state["rows"]]
        if self.rank == 0:
            self.loss.copy_(state["loss"])
