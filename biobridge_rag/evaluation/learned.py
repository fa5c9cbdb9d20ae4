"""Trained baselines on the frozen embeddings that the bridge reads, each a scorer for the ranking protocol.

Knows: the graph's edges, embedding tables, torch (inside functions). Does not know: the protocol, the store, the fused retriever.

    linear     z = W_r x + b_r                                              one affine map a relation
    mlp        z = V_r gelu(norm(W_t x + e_r)) + b_r                        first layer one a head type, the rest one a relation
    clip       z = P_t x + c_t, for heads and tails alike                   one space without relations (Radford et al. 2021, 2103.00020)
    imagebind  as clip, from edges at one central type alone                (Girdhar et al. 2023, arXiv 2305.05665)
    biobridge  the authors' network with their objective: temperature 0.1, five sampled negatives (Wang et al., 2310.03320)

Scores are cosines between z and the tails' projections P_t y + c_t. The first four are trained by InfoNCE over all tails of the
type, several positives a head. In clip and imagebind all edges between two types are one relation, learned in both directions,
which is CLIP's symmetric loss. The mlp shares its first layer, so that small relations borrow from large ones, and keeps the
rest apart, so that large ones are not held back.

What makes the comparison fair. Inputs are principal coordinates, at most 1,024; the report says what share of
the variance they keep. A tenth of the nodes of each type is held out with all their edges, in both directions; learning rate, temperature,
weight decay, dropout, start of the projections and number of epochs are chosen by the filtered MRR of those nodes as heads,
and the chosen setting is then trained anew on all edges for the chosen number of epochs (Goodfellow et al. 2016, section 7.8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation.learned_model import JOINT, Basis, Run, Setting, basis, project, query, split_nodes, tensor
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.types import KnowledgeGraph, NodeType, Progress, Relation, Vectors

if TYPE_CHECKING:
    from biobridge_rag.retrieval.likeness import Heads


SEARCH = (
    Setting(),
    Setting(learning_rate=1e-3),
    Setting(start="whitened"),
    Setting(start="random"),
    Setting(start="random", temperature=0.1),
    Setting(start="random", weight_decay=0.1, dropout=0.5),
)


@dataclass(frozen=True)
class Options:
    """width: of the joint space (None: 256; 768 for biobridge); epochs: at most (None: 10; biobridge: exactly 10, the authors'
    number); inputs: principal coordinates kept of a wider encoder; batch: heads a step; trial: epochs that every setting gets
    before the best goes on; patience: epochs without a better validation MRR before it stops; validation: share of nodes held
    out, in [0, 0.5] (0: no search, the first setting for all epochs); refit: train anew on all edges, else the best epoch is
    restored; central: the type that imagebind aligns to; layers: of biobridge, which beside it reads width and epochs alone."""

    width: int | None = None
    epochs: int | None = None
    inputs: int = 1024
    batch: int = 256
    trial: int = 3
    patience: int = 2
    validation: float = 0.1
    settings: tuple[Setting, ...] = SEARCH
    refit: bool = True
    central: NodeType = NodeType.PROTEIN
    layers: int = 6

    def __post_init__(self) -> None:
        sizes = (self.width, self.epochs, self.inputs, self.batch, self.trial, self.patience, self.layers)
        if min(s for s in sizes if s is not None) < 1 or not 0.0 <= self.validation <= 0.5 or not self.settings:
            raise InputError("A baseline needs sizes of 1 or more, one setting at least, and a validation share from 0 to 0.5.")


@dataclass(frozen=True)
class LearnedScorer:
    """A trained baseline. carry: head embeddings (n, d) -> (n, width), None for a relation it cannot score; tails: type ->
    (n_t, width) unit rows; report: settings tried with their validation MRR, the one chosen, epochs, input widths."""

    methods: tuple[str, ...]
    carry: Callable[[Vectors, Relation], Vectors | None]
    tails: Mapping[NodeType, Vectors]
    report: Mapping[str, Any]

    def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
        """Cosines (n, n_tails) in [-1, 1] under the method's name; empty where training saw no such relation (clip, imagebind: no
        such type)."""
        z = self.carry(np.asarray(heads.x, dtype=np.float32), relation)
        if z is None:
            return {}
        return {self.methods[0]: unit(z) @ self.tails[NodeType(relation.tail_type)].T}


def train_learned(
    name: str,
    graph: KnowledgeGraph,
    tables: Mapping[NodeType, Vectors],
    *,
    epochs: int | None = None,
    seed: int,
    device: str,
    progress: Progress,
    options: Options | None = None,
) -> LearnedScorer:
    """Trains the baseline `name` of LEARNED on the graph. tables: type -> (n_t, d_t) unit rows in the order of graph.by_type;
    `epochs` goes before that of the options. The same seed gives the same bits on a CPU with as many threads.

    Raises InputError for an unknown name, a table missing or of another length, and a graph with no edge to learn from.
    """
    if name not in LEARNED:
        raise InputError(f"There is no trained baseline {name!r}.", f"Valid names: {', '.join(LEARNED)}.")
    for node_type, positions in graph.by_type.items():
        if len(tables.get(node_type, ())) != len(positions):
            raise InputError(f"The table of {node_type.value} embeddings does not have one row for each of {len(positions)} nodes.")
    chosen = options or Options()
    return LEARNED[name](graph, tables, replace(chosen, epochs=chosen.epochs if epochs is None else epochs), seed, device, progress)


def _biobridge(
    graph: KnowledgeGraph, tables: Mapping[NodeType, Vectors], options: Options, seed: int, device: str, progress: Progress
) -> LearnedScorer:
    """The authors' recipe as it stands: nothing is held out and nothing searched, for one training is all a user would pay for."""
    from biobridge_rag.bridge.official_training import train_official

    by_name = {t.value: np.asarray(x, dtype=np.float32) for t, x in tables.items()}
    epochs, width = options.epochs or 10, options.width or 768
    bridge, _ = train_official(
        graph, by_name, epochs=epochs, seed=seed, device=device, progress=progress,
        hidden=width, layers=options.layers, negatives=5, held_out=0.0,
    )  # fmt: skip
    known = {r for r in graph.relations if len(graph.edges(r)[0])}
    return LearnedScorer(
        ("biobridge",),
        lambda x, relation: bridge.transform(x, relation) if relation in known else None,
        {t: unit(bridge.project(by_name[t.value], t.value)) for t in tables},
        {"method": "biobridge", "epochs": epochs, "width": width, "layers": options.layers, "negatives": 5},
    )


def _frozen(
    kind: str, graph: KnowledgeGraph, tables: Mapping[NodeType, Vectors], options: Options, seed: int, device: str, progress: Progress
) -> LearnedScorer:
    """Any of the other four: search on the validation heads, then train anew on all edges."""
    edges = _edges_of(kind, graph, options.central)
    types = sorted({NodeType(t) for r in edges for t in (r.head_type, r.tail_type)})
    bases = {t: basis(tables[t], options.inputs, seed) for t in types}
    most = options.epochs or 10
    total = len(options.settings) * min(options.trial, most) + 2 * most
    done = 0

    def tell(n: int) -> None:
        nonlocal done
        done += n
        progress(f"training the baseline {kind}, epochs", min(done, total), total)

    inputs = {t: tensor(bases[t](tables[t]), device) for t in types}
    split = split_nodes(edges, options.validation, seed)
    make = partial(
        Run, kind, inputs=inputs, width=options.width or 256, batch=options.batch, most=most, seed=seed, device=device
    )  # fmt: skip
    tell(0)
    tried: list[dict[str, Any]] = []
    if split.tests:
        run, tried = _search(partial(make, split=split), options, most, tell)
        best, epochs = run.best, run.best_epoch
        if not np.isfinite(best):
            raise _diverged(kind)
    else:
        run, best, epochs = make(split=split, setting=options.settings[0]), None, most
    if split.tests and not options.refit:
        run.parameters = run.kept
    else:
        run = make(split=split_nodes(edges, 0.0, seed), setting=run.setting)
        for _ in range(epochs):
            run.advance()
            tell(1)
    tell(total)
    report = {
        "method": kind, "search": tried, "setting": asdict(run.setting), "epochs": epochs, "refit": options.refit,
        "validation_mrr": best, "validation_heads": {r.key: len(t.rows) for r, t in split.tests.items()},
        "inputs": {t.value: {"dimensions": b.axes.shape[1], "variance": b.share} for t, b in bases.items()},
    }  # fmt: skip
    return _scorer(run, bases, report)


def _scorer(run: Run, bases: Mapping[NodeType, Basis], report: Mapping[str, Any]) -> LearnedScorer:
    import torch

    parameters = {name: value.detach().cpu() for name, value in run.parameters.items()}
    if not all(bool(torch.isfinite(value).all()) for value in parameters.values()):
        raise _diverged(run.kind)
    kind, known, joint = run.kind, frozenset(run.relations), run.kind in JOINT
    types = {t for r in known for t in (r.head_type, r.tail_type)}
    with torch.no_grad():
        tails = {t: project(parameters, run.inputs[t].cpu(), t).numpy() for t in sorted(bases)}

    def carry(x: Vectors, relation: Relation) -> Vectors | None:
        if not ({relation.head_type, relation.tail_type} <= types if joint else relation in known):
            return None
        with torch.no_grad():
            return query(kind, parameters, torch.from_numpy(bases[NodeType(relation.head_type)](x)), relation).numpy()

    return LearnedScorer((kind,), carry, tails, report)


def _diverged(kind: str) -> InputError:
    return InputError(f"The training of the baseline {kind} diverged.", "Try a smaller learning rate.")


def _search(make: Callable[..., Run], options: Options, most: int, tell: Callable[[int], None]) -> tuple[Run, list[dict[str, Any]]]:
    """Every setting gets a trial; the best goes on until its validation MRR has stood still for `patience` epochs."""
    tried: list[dict[str, Any]] = []
    leader: Run | None = None
    for setting in options.settings:
        run = make(setting=setting)
        for _ in range(min(options.trial, most)):
            run.advance()
            tell(1)
        tried.append({**asdict(setting), "epochs": run.epochs, "validation_mrr": run.best if np.isfinite(run.best) else None})
        if leader is None or run.best > leader.best:
            leader = run
    assert leader is not None
    while leader.epochs < most and leader.epochs - leader.best_epoch < options.patience:
        leader.advance()
        tell(1)
    return leader, tried


def _edges_of(kind: str, graph: KnowledgeGraph, central: NodeType) -> dict[Relation, sparse.csr_matrix]:
    """What a method learns from, without a node's edges to itself: the relations, or for a joint space their sum by node types."""
    out: dict[Relation, sparse.csr_matrix] = {}
    for relation in graph.relations:
        if kind == "imagebind" and central.value not in (relation.head_type, relation.tail_type):
            continue
        edges = incidence(graph, relation)
        both = [(relation, edges)]
        if kind in JOINT:
            both = [(replace(r, name=""), m) for r, m in ((relation, edges), (relation.inverse, edges.T.tocsr()))]
        for key, matrix in both:
            out[key] = sparse.csr_matrix(out[key] + matrix) if key in out else matrix.copy()
    for key, matrix in out.items():
        if key.head_type == key.tail_type:
            matrix.setdiag(0)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        matrix.data[:] = 1.0
    out = {key: out[key] for key in sorted(out) if out[key].nnz}
    if not out:
        what = f"no edge at a {central.label}" if kind == "imagebind" else "no edges"
        raise InputError(f"The graph has {what}, so the baseline {kind} cannot be trained.")
    return out


Trainer = Callable[[KnowledgeGraph, Mapping[NodeType, Vectors], Options, int, str, Progress], LearnedScorer]
LEARNED: dict[str, Trainer] = {
    "linear": partial(_frozen, "linear"),
    "mlp": partial(_frozen, "mlp"),
    "clip": partial(_frozen, "clip"),
    "imagebind": partial(_frozen, "imagebind"),
    "biobridge": _biobridge,
}
