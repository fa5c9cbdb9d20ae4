"""Knowledge-graph embeddings as baselines: seven models of PyKEEN, each searched, trained, and made a scorer for the ranking protocol.

Knows: the graph's edges, PyKEEN's models and losses, torch (inside functions). Does not know: frozen embeddings, the bridge, the store.

    transe    -|h + r - t|                                   Bordes et al., NIPS 2013
    transh    the same on a plane of the relation            Wang et al., AAAI 2014
    transd    the same, projected by entity and relation     Ji et al., ACL 2015
    transr    the same, projected by a matrix a relation     Lin et al., AAAI 2015
    distmult  <h, r, t>                                      Yang et al., ICLR 2015
    complex   Re <h, r, conj t>                              Trouillon et al., ICML 2016
    rotate    -|h r - t|, r turns complex coordinates        Sun et al., ICLR 2019

These models know a node by its edges alone, so they can score only heads that are nodes of the training graph (the `paper` split);
a head without a training edge in either direction has a vector that no edge has shaped, and `untrained` counts such heads.

One id a direction. By default (head type, name, tail type) is a relation of its own. The graph lists each edge in both directions
under one name, and the `paper` split leaves a test edge's inverse in training; with one id for both, a symmetric score such as
distmult's is the same number for the two and reads the answer off the training edge, while a translation must be its own
negative, hence zero. Two ids take away the identity, not the leak: any of the models can learn that one relation is the other's
inverse. `Options.directed=False` shares the id, which is what taking PrimeKG's display_relation as the relation amounts to.

Training. A step takes positives of one relation and ranks each against the same tails, drawn evenly from the relation's tail type
without those the head is known to have (batched negatives: Lerer et al. 2019, arXiv 1903.12287), which are the candidates of the
evaluation. Only tails are replaced: the inverse edge, also in training, stands for the heads. Models, starts, constraints and
regularisers are PyKEEN's, `dim` is its embedding_dim (complex numbers in complex and rotate). One start is not as it comes: complex
begins with uniform Xavier numbers, for standard normal ones, whose scores are large before anything is learnt, would leave it far
behind the others after few epochs.

Search. Heads are held out of the training graph as the `paper` split holds out test heads; each setting gets the same trial, the
best by filtered macro MRR goes on while it improves, and is then trained anew on all edges for its best number of epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.types import Indices, KnowledgeGraph, NodeType, Progress, Relation, Vectors

if TYPE_CHECKING:
    import torch

    from biobridge_rag.graph.splits import HeldOut
    from biobridge_rag.retrieval.likeness import Heads

KGE = {
    "transe": "TransE",
    "transd": "TransD",
    "transh": "TransH",
    "transr": "TransR",
    "complex": "ComplEx",
    "distmult": "DistMult",
    "rotate": "RotatE",
}
LOSSES: dict[str, tuple[str, dict[str, float]]] = {
    "margin": ("MarginRankingLoss", {"margin": 1.0}),
    "logistic": ("SoftplusLoss", {}),
    "nssa": ("NSSALoss", {}),
    "infonce": ("InfoNCELoss", {"margin": 0.0, "log_adversarial_temperature": log(0.1)}),
}
_PUBLISHED = {"complex": "logistic", "rotate": "nssa"}  # the loss of the model's own paper, "margin" for the others
_BOTH_DIMS = ("transd", "transr")  # models with a width of their own for relations
_MOST_HEADS = 50  # validation heads of a relation, beyond which no more are ranked
_CELLS = 4_000_000  # numbers that a block of scores may take on its way


@dataclass(frozen=True)
class Setting:
    """One point of the search. loss: of LOSSES, or "published" for that of the model's own paper; learning_rate: of Adam."""

    loss: str = "infonce"
    learning_rate: float = 1e-2


SEARCH = (Setting(), Setting("infonce", 2e-3), Setting("published", 1e-2), Setting("published", 2e-3))


@dataclass(frozen=True)
class Options:
    """The budget, the same for every model. dim: width; epochs: at most; trial: epochs that each setting gets before the best goes
    on, and between two looks at the validation heads (None: a quarter of `epochs`); patience: looks without a better MRR before it
    stops; batch: positives a step; negatives: tails a step (all, where the type has no more); validation: share of heads held out, in
    [0, 0.5] (0: the first setting for all epochs); refit: train anew on all edges, else the last state of the search stays; directed:
    see the module's head. The defaults are meant for 160,000 edges between 20,000 nodes on two cores; fewer edges need more epochs."""

    dim: int = 64
    epochs: int = 12
    trial: int | None = None
    patience: int = 2
    batch: int = 256
    negatives: int = 64
    validation: float = 0.1
    settings: tuple[Setting, ...] = SEARCH
    refit: bool = True
    directed: bool = True

    def __post_init__(self) -> None:
        sizes = (self.dim, self.epochs, self.pace, self.patience, self.batch, self.negatives, len(self.settings))
        if min(sizes) < 1 or not 0.0 <= self.validation <= 0.5 or any(s.learning_rate <= 0.0 for s in self.settings):
            raise InputError("A graph embedding needs sizes of 1 or more, one setting at least, and a validation share from 0 to 0.5.")
        for setting in self.settings:
            if setting.loss not in ("published", *LOSSES):
                raise InputError(f"There is no loss {setting.loss!r}.", f"Valid losses: published, {', '.join(LOSSES)}.")

    @property
    def pace(self) -> int:
        """Epochs of a trial, never more than `epochs`."""
        return min(self.epochs, max(1, self.epochs // 4) if self.trial is None else self.trial)


@dataclass(frozen=True)
class KGEScorer:
    """A trained model. model: PyKEEN's; entities: type -> ids of its nodes, in the order of graph.by_type; relations: relation -> id;
    linked: (n_nodes,) whether a node has a training edge; report: settings tried, their validation MRR, the one chosen, epochs."""

    methods: tuple[str, ...]
    model: Any
    entities: Mapping[NodeType, Indices]
    relations: Mapping[Relation, int]
    linked: NDArray[np.bool_]
    report: Mapping[str, Any]

    def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
        """The model's scores (n, n_tails) of all tails of the type, unbounded, higher is better. Empty where the heads are no nodes
        of the training graph, or training saw no such relation: neither has a vector."""
        if heads.rows is None or relation not in self.relations:
            return {}
        import torch

        device = next(self.model.parameters()).device
        tails = torch.from_numpy(self.entities[NodeType(relation.tail_type)]).to(device)
        rows = torch.from_numpy(self.entities[NodeType(relation.head_type)][heads.rows]).to(device)
        step = max(1, _CELLS // (len(tails) * self.report["dim"]))
        with torch.no_grad():
            parts = [_scores(self.model, part, self.relations[relation], tails, pairs=False).cpu().numpy() for part in rows.split(step)]
        return {self.methods[0]: np.concatenate(parts).astype(np.float32, copy=False)}

    def untrained(self, node_type: str, rows: Indices) -> int:
        """How many of these rows of the type's table are nodes without any training edge."""
        return int((~self.linked[self.entities[NodeType(node_type)][rows]]).sum())


def train_kge(
    name: str,
    graph: KnowledgeGraph,
    *,
    epochs: int | None = None,
    dim: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress,
    options: Options | None = None,
) -> KGEScorer:
    """Searches and trains the model `name` of KGE on all edges of the graph; epochs and dim go before those of the options. The
    same seed gives the same bits on a CPU with as many threads.

    Raises InputError for an unknown name, a graph without edges, PyKEEN missing, and a training that diverged.
    """
    if name not in KGE:
        raise InputError(f"There is no graph embedding {name!r}.", f"Valid names: {', '.join(KGE)}.")
    if not graph.n_edges:
        raise InputError("The graph has no edges, so no graph embedding can be trained.")
    _require()
    chosen = options or Options()
    chosen = replace(chosen, epochs=chosen.epochs if epochs is None else epochs, dim=chosen.dim if dim is None else dim)
    total = len(chosen.settings) * chosen.pace + 2 * chosen.epochs
    done = 0

    def tell(n: int) -> None:
        nonlocal done
        done += n
        progress(f"training the graph embedding {name}, epochs", min(done, total), total)

    def make(on: KnowledgeGraph, setting: Setting) -> _Run:
        return _Run(name, on, setting, chosen, seed, device)

    tell(0)
    held = _validation(graph, chosen.validation, seed) if chosen.validation else None
    tried: list[dict[str, Any]] = []
    if held is None:
        run = make(graph, chosen.settings[0])
        run.advance(chosen.epochs, tell)
        epochs_run = chosen.epochs
    else:
        run, tried = _search(lambda setting: make(held.graph, setting), held, chosen, tell)
        epochs_run = run.best_epoch if chosen.refit else run.epochs
    best = run.best if held is not None else None
    if held is not None and chosen.refit and epochs_run:
        run = make(graph, run.setting)
        run.advance(epochs_run, tell)
    if not run.finite:
        raise InputError(f"The training of the graph embedding {name} diverged.", "Try a smaller learning rate.")
    tell(total)
    return run.scorer({
        "method": name, "model": KGE[name], "search": tried, "setting": asdict(run.setting), "epochs": epochs_run, "dim": chosen.dim,
        "directed": chosen.directed, "validation_mrr": best, "refit": chosen.refit and held is not None,
        "isolated_nodes": int((~_linked(graph)).sum()),
    })  # fmt: skip


def _require() -> None:
    try:
        import pykeen.models  # noqa: F401
    except ImportError as error:
        raise InputError(
            "The graph embeddings need PyKEEN, which is not installed.", "Install it with: pip install 'biobridge-rag[kge]'"
        ) from error


def _validation(graph: KnowledgeGraph, share: float, seed: int) -> HeldOut | None:
    """Heads held out as the `paper` split does it, at most _MOST_HEADS of a relation with all their tails; None where nothing is
    left to train on or to rank."""
    from biobridge_rag.graph.splits import draw, hold_out

    held = hold_out(graph, draw("paper", graph, share, seed))
    rng = np.random.default_rng([seed, 1])
    edges = {}
    for relation, (heads, tails) in held.unseen.edges.items():
        if len(held.graph.edge_numbers(relation)):
            distinct = np.unique(heads)
            keep = np.isin(heads, rng.choice(distinct, min(len(distinct), _MOST_HEADS), replace=False))
            edges[relation] = (heads[keep], tails[keep])
    return replace(held, unseen=replace(held.unseen, edges=edges)) if edges else None


def _search(
    make: Callable[[Setting], _Run], held: HeldOut, options: Options, tell: Callable[[int], None]
) -> tuple[_Run, list[dict[str, Any]]]:
    """Every setting gets a trial; the best goes on until its validation MRR has stood still for `patience` looks."""
    tried: list[dict[str, Any]] = []
    leader: _Run | None = None
    for setting in options.settings:
        run = make(setting)
        run.advance(options.pace, tell)
        run.look(held)
        tried.append({**asdict(setting), "epochs": run.epochs, "validation_mrr": run.best if run.finite else None})
        if leader is None or run.best > leader.best:
            leader = run
    assert leader is not None
    while leader.finite and leader.epochs < options.epochs and leader.stale < options.patience:
        leader.advance(min(options.pace, options.epochs - leader.epochs), tell)
        leader.look(held)
    return leader, tried


class _Run:
    """One training under one setting: PyKEEN's model and loss, Adam, and what the validation heads said so far."""

    def __init__(self, name: str, graph: KnowledgeGraph, setting: Setting, options: Options, seed: int, device: str) -> None:
        import pykeen.losses
        import pykeen.models
        import torch
        from pykeen.nn.init import xavier_uniform_
        from pykeen.triples import KGInfo
        from pykeen.utils import NoRandomSeedNecessary

        self.name, self.graph, self.setting, self.options, self.device = name, graph, setting, options, device
        having = [r for r in graph.relations if len(graph.edge_numbers(r))]
        ids = {label: i for i, label in enumerate(dict.fromkeys(map(self._label, having)))}
        self.relations = {r: ids[self._label(r)] for r in graph.relations if self._label(r) in ids}
        self.known = {r: incidence(graph, r) for r in having}
        loss, values = LOSSES[_PUBLISHED.get(name, "margin") if setting.loss == "published" else setting.loss]
        extra: dict[str, Any] = {"relation_dim": options.dim} if name in _BOTH_DIMS else {}
        if name == "complex":
            extra = {"entity_initializer": xavier_uniform_, "relation_initializer": xavier_uniform_}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = getattr(pykeen.models, KGE[name])(
                triples_factory=KGInfo(num_entities=len(graph.nodes), num_relations=len(ids), create_inverse_triples=False),
                loss=getattr(pykeen.losses, loss)(**values),
                random_seed=NoRandomSeedNecessary,
                embedding_dim=options.dim,
                **extra,
            ).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=setting.learning_rate)
        self.rng = np.random.default_rng([seed, 2])
        self.epochs = self.best_epoch = self.stale = 0
        self.best = -np.inf

    def _label(self, relation: Relation) -> str:
        return relation.key if self.options.directed else relation.name

    def advance(self, epochs: int, tell: Callable[[int], None]) -> None:
        self.model.train()
        for _ in range(epochs):
            for relation, heads, tails in self._batches():
                self._step(relation, heads, tails)
            self.epochs += 1
            tell(1)
        self.model.eval()

    def _batches(self) -> Iterator[tuple[Relation, Indices, Indices]]:
        """Every edge once, in batches of one relation, all in random order: rows of heads and of tails."""
        batches = []
        for relation in self.known:
            heads, tails = self.graph.edges(relation)
            order = self.rng.permutation(len(heads))
            batches += [
                (relation, heads[part], tails[part]) for part in np.split(order, range(self.options.batch, len(order), self.options.batch))
            ]
        for i in self.rng.permutation(len(batches)):
            yield batches[i]

    def _step(self, relation: Relation, heads: Indices, tails: Indices) -> None:
        import torch

        head_ids = self.graph.by_type[NodeType(relation.head_type)][heads]
        candidates = self.graph.by_type[NodeType(relation.tail_type)]
        few = len(candidates) <= self.options.negatives
        drawn = np.arange(len(candidates)) if few else self.rng.choice(len(candidates), self.options.negatives, replace=False)
        false = self.known[relation][heads][:, drawn].toarray() == 0
        if not false.any():  # every head has every tail: nothing to tell apart
            return
        h, t, n = (torch.from_numpy(ids).to(self.device) for ids in (head_ids, candidates[tails], candidates[drawn]))
        mask = torch.from_numpy(false).to(self.device)
        number = self.relations[relation]
        self.optimizer.zero_grad()
        loss = self.model.loss.process_slcwa_scores(
            positive_scores=_scores(self.model, h, number, t, pairs=True),
            negative_scores=_scores(self.model, h, number, n, pairs=False)[mask],
            batch_filter=mask,
            num_entities=len(self.graph.nodes),
        )
        (loss + self.model.collect_regularization_term()).backward()
        self.optimizer.step()
        self.model.post_parameter_update()

    @property
    def finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def look(self, held: HeldOut) -> None:
        """Ranks the validation heads by the protocol itself. A model that diverged ranks below all others."""
        from biobridge_rag.evaluation.ranking import rank

        mrr = -np.inf
        if self.finite:
            report = rank(
                [self.scorer({"dim": self.options.dim})], held.graph, held.unseen, lambda _, at: np.zeros((len(at), 1), np.float32),
                split="paper", progress=lambda *_: None, rows=held.rows, resamples=1,
            )  # fmt: skip
            mrr = report["macro"][self.name]["mrr"]
        self.stale += 1
        if mrr > self.best:
            self.best, self.best_epoch, self.stale = mrr, self.epochs, 0

    def scorer(self, report: Mapping[str, Any]) -> KGEScorer:
        return KGEScorer((self.name,), self.model, self.graph.by_type, self.relations, _linked(self.graph), report)


def _linked(graph: KnowledgeGraph) -> NDArray[np.bool_]:
    linked = np.zeros(len(graph.nodes), dtype=bool)
    linked[graph.head] = linked[graph.tail] = True
    return linked


def _look_up(tables: Any, ids: torch.Tensor, axis: int) -> Any:
    """What an interaction of PyKEEN takes: the vectors of the ids, a tuple where the model has several tables."""
    found = tuple(table(ids).unsqueeze(axis) for table in tables)
    return found if len(found) > 1 else found[0]


def _scores(model: Any, heads: torch.Tensor, relation: int, tails: torch.Tensor, pairs: bool) -> torch.Tensor:
    """(n_heads, n_tails) scores of all pairs, or (n, 1) of heads[i] with tails[i]. The relation is looked up once and broadcast,
    so that transd and transr project a tail once and not once for each head, as PyKEEN's score_t does; the scores are the same."""
    h = _look_up(model.entity_representations, heads, 1)
    r = _look_up(model.relation_representations, heads.new_full((1,), relation), 1)
    return model.interaction(h=h, r=r, t=_look_up(model.entity_representations, tails, int(pairs)))
