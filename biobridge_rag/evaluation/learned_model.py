"""The small networks behind the trained baselines, and one training of them: inputs, parameters, loss and validation.

Knows: torch (inside functions), edges as sparse matrices. Does not know: graphs, which setting is chosen, how a score is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from biobridge_rag.bridge.loss import info_nce
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation.metrics import filtered_ranks
from biobridge_rag.types import Indices, NodeType, Relation, Vectors

if TYPE_CHECKING:
    import torch

Edges = Mapping[Relation, sparse.csr_matrix]
STARTS = ("pca", "whitened", "random")
JOINT = ("clip", "imagebind")
_LEAST_STEPS, _WARM_UP, _CLIP = 30, 0.1, 1.0
_MOST_HEADS, _LEAST_HEADS = 200, 5  # validation heads of a relation: no more are ranked; with fewer it has no say in the mean


@dataclass(frozen=True)
class Setting:
    """One point of the search. start: projections begin at the principal components as they are (pca), scaled to equal variance
    (whitened), or at random; dropout in [0, 1) on head inputs and hidden units; temperature divides the cosines."""

    learning_rate: float = 3e-3
    temperature: float = 0.05
    weight_decay: float = 1e-2
    dropout: float = 0.2
    start: str = "pca"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise InputError(f"There is no start {self.start!r}.", f"Valid starts: {', '.join(STARTS)}.")
        if min(self.learning_rate, self.temperature) <= 0.0 or self.weight_decay < 0.0 or not 0.0 <= self.dropout < 1.0:
            raise InputError("Rate and temperature must be above 0, weight decay 0 or more, and dropout from 0 to below 1.")


@dataclass(frozen=True)
class Basis:
    """Principal coordinates of a type: (x - mean) axes, (n, k), scaled to a mean square of 1; share of the variance they keep."""

    mean: Vectors
    axes: Vectors
    share: float

    def __call__(self, x: Vectors) -> Vectors:
        return np.asarray((np.asarray(x, dtype=np.float32) - self.mean) @ self.axes, dtype=np.float32)


def basis(x: Vectors, most: int, seed: int) -> Basis:
    """By randomised SVD (Halko et al. 2011), which is exact where `most` is no less than the table's width or length."""
    import torch

    table = np.asarray(x, dtype=np.float32)
    mean = table.mean(axis=0)
    centred = torch.from_numpy(table - mean)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, values, axes = torch.svd_lowrank(centred, q=min(most, *table.shape), niter=2)
    keep = int((values > 1e-4 * values[0]).sum()) or 1
    whole = max(float((centred**2).sum()), 1e-12)
    kept = float((values[:keep] ** 2).sum())
    scale = np.sqrt(len(table) * keep / max(kept, 1e-12))
    return Basis(mean, np.asarray(axes[:, :keep].numpy() * scale, dtype=np.float32), round(min(kept / whole, 1.0), 4))


@dataclass(frozen=True)
class Lesson:
    """Heads (h,) as rows of their type's table, and their edges to the open tails, (h, n_open)."""

    rows: Indices
    edges: sparse.csr_matrix


@dataclass(frozen=True)
class NodeSplit:
    """lessons: to train on, without any held-out node; tests: held-out heads; open: rows of each type that are not held out."""

    lessons: dict[Relation, Lesson]
    tests: dict[Relation, Lesson]
    open: dict[NodeType, Indices]


def split_nodes(edges: Edges, share: float, seed: int) -> NodeSplit:
    """Holds out a share of each type's nodes that have an edge, as heads and as tails, so that no inverse edge tells of them."""
    linked: dict[NodeType, Indices] = {}
    size: dict[NodeType, int] = {}
    for relation, matrix in edges.items():
        for t, n, rows in (
            (relation.head_type, matrix.shape[0], matrix.tocoo().row),
            (relation.tail_type, matrix.shape[1], matrix.indices),
        ):
            size[NodeType(t)] = n
            linked[NodeType(t)] = np.union1d(linked.get(NodeType(t), np.zeros(0, np.int64)), rows)
    rng = np.random.default_rng([seed, 0])
    held = {t: np.sort(rng.choice(linked[t], int(share * len(linked[t])), replace=False)) for t in sorted(linked)}
    opened = {t: np.setdiff1d(np.arange(size[t]), held[t]) for t in held}
    lessons, tests = {}, {}
    for relation, matrix in edges.items():
        tails = matrix[:, opened[NodeType(relation.tail_type)]]
        count = np.diff(tails.indptr)
        head = NodeType(relation.head_type)
        train, test = (rows[count[rows] > 0] for rows in (opened[head], held[head]))
        test = np.sort(rng.choice(test, min(len(test), _MOST_HEADS), replace=False))
        if len(train):
            lessons[relation] = Lesson(train, tails[train])
            if len(test):
                tests[relation] = Lesson(test, tails[test])
    return NodeSplit(lessons, tests, opened)


class Run:
    """One training: parameters, optimiser and random streams of one setting. It keeps the parameters of its best epoch."""

    def __init__(
        self, kind: str, *, split: NodeSplit, inputs: Mapping[NodeType, torch.Tensor], setting: Setting, width: int, batch: int,
        most: int, seed: int, device: str,
    ) -> None:  # fmt: skip
        import torch

        self.kind, self.split, self.inputs, self.setting = kind, split, inputs, setting
        self.relations = list(split.lessons)
        self.candidates = {t: inputs[t][tensor(rows, device)] for t, rows in split.open.items()}
        self.parameters = _start(kind, self.relations, inputs, width, setting.start, seed, device)
        self.optimiser = torch.optim.AdamW(self.parameters.values(), lr=setting.learning_rate, weight_decay=setting.weight_decay)
        self.rng = np.random.default_rng([seed, 1])
        self.noise = torch.Generator(device).manual_seed(seed)
        size = np.sqrt([split.lessons[r].edges.nnz for r in self.relations])
        self.weight, self.batch = size / size.sum(), batch
        self.order = {r: np.zeros(0, np.int64) for r in self.relations}
        queries = sum(len(lesson.rows) for lesson in split.lessons.values())
        self.per_epoch = max(-(-queries // batch), _LEAST_STEPS)
        self.steps = self.per_epoch * most
        self.step = self.epochs = self.best_epoch = 0
        self.best = float("-inf")
        self.kept = self.parameters

    def advance(self) -> None:
        """One epoch: as many steps as it takes to see as many heads as there are, relations drawn by the root of their edges.
        The learning rate rises over the first tenth of all steps and then falls in a line."""
        import torch

        finite = True
        for _ in range(self.per_epoch):
            warm = max(int(_WARM_UP * self.steps), 1)
            factor = min((self.step + 1) / warm, (self.steps - self.step) / max(self.steps - warm, 1))
            self.optimiser.param_groups[0]["lr"] = self.setting.learning_rate * factor
            relation = self.relations[self.rng.choice(len(self.relations), p=self.weight)]
            if not len(self.order[relation]):
                self.order[relation] = self.rng.permutation(len(self.split.lessons[relation].rows))
            at, self.order[relation] = self.order[relation][: self.batch], self.order[relation][self.batch :]
            loss = self._loss(relation, np.sort(at))
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), _CLIP)
            self.optimiser.step()
            finite = finite and bool(torch.isfinite(loss))
            self.step += 1
        self.epochs += 1
        reached = self._validate() if finite else float("-inf")
        if reached > self.best or not self.best_epoch:
            self.best, self.best_epoch = reached, self.epochs
            self.kept = {name: value.detach().clone() for name, value in self.parameters.items()}

    def _loss(self, relation: Relation, at: Indices) -> torch.Tensor:
        lesson = self.split.lessons[relation]
        head, tail = NodeType(relation.head_type), NodeType(relation.tail_type)
        rows = lesson.rows[at]
        device = self.inputs[head].device
        z = query(self.kind, self.parameters, self.inputs[head][tensor(rows, device)], relation, self._drop)
        logits = z @ project(self.parameters, self.candidates[tail], tail).T / self.setting.temperature
        if head == tail:  # a node is no candidate for itself: at test it is not there
            own = tensor(np.searchsorted(self.split.open[tail], rows), device)
            logits = logits.scatter(1, own[:, None], -1e9)
        truth = lesson.edges[at].tocoo()
        return info_nce(logits, tensor(truth.row, device), tensor(truth.col, device))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        share = self.setting.dropout
        return x * (torch.rand(x.shape, generator=self.noise, device=x.device) >= share) / (1.0 - share) if share else x

    def _validate(self) -> float:
        """Filtered MRR of the held-out heads over the open tails, the mean over relations; 0 where none was held out."""
        import torch

        found: list[tuple[int, float]] = []
        for relation, test in self.split.tests.items():
            head, tail = NodeType(relation.head_type), NodeType(relation.tail_type)
            with torch.no_grad():
                z = query(self.kind, self.parameters, self.inputs[head][tensor(test.rows, self.inputs[head].device)], relation)
                scores = (z @ project(self.parameters, self.candidates[tail], tail).T).cpu().numpy()
            truth = np.split(test.edges.indices, test.edges.indptr[1:-1])
            ranks = np.concatenate([filtered_ranks(row, true) for row, true in zip(scores, truth, strict=True)])
            found.append((len(test.rows), float((1.0 / ranks).mean())))
        large = [mrr for n, mrr in found if n >= _LEAST_HEADS] or [mrr for _, mrr in found]
        return float(np.mean(large)) if large else 0.0


def _start(
    kind: str, relations: list[Relation], inputs: Mapping[NodeType, torch.Tensor], width: int, start: str, seed: int, device: str
) -> dict[str, torch.Tensor]:
    """The parameters by name. Matrices act from the right; those on inputs begin as `start` says, the others at random."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def matrix(n: int, m: int) -> torch.Tensor:
        return (torch.rand(n, m, generator=generator) * 2.0 - 1.0) / n**0.5

    def projection(node_type: NodeType, m: int) -> torch.Tensor:
        """Principal components get 0.3 of the length of a random start, or they turn too slowly; 0.1 of noise leaves no column empty."""
        x = inputs[node_type].cpu()
        out = matrix(x.shape[1], m)
        if start == "random":
            return out
        size = 1.0 / x[:, :m].std(dim=0, correction=0).clamp_min(1e-6) if start == "whitened" else torch.ones(min(x.shape[1], m))
        axes = torch.zeros_like(out)
        axes.fill_diagonal_(1.0)
        axes[: len(size)] *= size[:, None]
        return 0.3 * axes / axes.norm() * out.norm() + 0.1 * out

    out: dict[str, torch.Tensor] = {}
    for t in sorted({NodeType(t) for r in relations for t in (r.head_type, r.tail_type)}):
        out[f"tail {t}"], out[f"tail shift {t}"] = projection(t, width), torch.zeros(width)
    for r in relations if kind not in JOINT else ():
        head = NodeType(r.head_type)
        if kind == "linear":
            out[f"map {r.key}"] = projection(head, width)
        else:
            if f"first {head}" not in out:
                out[f"first {head}"] = projection(head, 2 * width)
            out[f"relation {r.key}"] = matrix(1, 2 * width)[0] * 0.1
            out[f"map {r.key}"] = matrix(2 * width, width)
        out[f"shift {r.key}"] = torch.zeros(width)
    return {name: value.to(device).requires_grad_() for name, value in out.items()}


def query(
    kind: str,
    parameters: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    relation: Relation,
    drop: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> torch.Tensor:
    """Head coordinates (n, k) -> unit (n, width)."""
    from torch.nn import functional

    if kind in JOINT:
        return project(parameters, drop(x), NodeType(relation.head_type))
    hidden = drop(x)
    if kind == "mlp":
        hidden = hidden @ parameters[f"first {relation.head_type}"] + parameters[f"relation {relation.key}"]
        hidden = drop(functional.gelu(functional.layer_norm(hidden, hidden.shape[1:])))
    return functional.normalize(hidden @ parameters[f"map {relation.key}"] + parameters[f"shift {relation.key}"], dim=1)


def project(parameters: Mapping[str, torch.Tensor], x: torch.Tensor, node_type: NodeType) -> torch.Tensor:
    """Tail coordinates (n, k) -> unit (n, width)."""
    from torch.nn import functional

    return functional.normalize(x @ parameters[f"tail {node_type}"] + parameters[f"tail shift {node_type}"], dim=1)


def tensor(values: Any, device: Any) -> torch.Tensor:
    import torch

    array = np.asarray(values)
    return torch.from_numpy(array if array.dtype == np.float32 else array.astype(np.int64)).to(device)
