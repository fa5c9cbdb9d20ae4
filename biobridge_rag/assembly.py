"""The one place that turns settings into live objects: the `Engine`, which answers as the command line does.

Knows: settings and all parts below. Does not know: the page, how results are printed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from biobridge_rag.building import DEFAULT_ENCODERS, DEFAULT_EPOCHS, BuildOptions, OfficialTraining, build_home, check_device
from biobridge_rag.config import Settings
from biobridge_rag.embedding import fill_cache, readable, rows_of, usable
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import HomeMismatchError, InputError
from biobridge_rag.homes import STAGES, Home, open_home
from biobridge_rag.qa.answering import Answerer, AnswerEvent
from biobridge_rag.qa.arms import ARMS
from biobridge_rag.qa.chat import Chat
from biobridge_rag.qa.gathering import Retrieve
from biobridge_rag.qa.llm import LanguageModel, make_llm
from biobridge_rag.qa.referring import History
from biobridge_rag.qa.shuffling import shuffle
from biobridge_rag.qa.texts import Texts
from biobridge_rag.retrieval.gene_names import match_gene
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.retrieval.reading import QueryReader
from biobridge_rag.retrieval.retriever import SIMILAR, Retriever
from biobridge_rag.retrieval.texts import TextSearch, nearest_in
from biobridge_rag.store.manifest import Manifest, read_manifest
from biobridge_rag.types import Answer, Encoder, KnowledgeGraph, Modality, Node, NodeType, Progress, Query, Relation, Retrieval, Vectors

# Which relation is meant when only the type of the answer is named, best first.
_PREFERRED = ("target", "indication", "associated with", "interacts with", "enzyme", "transporter", "carrier")
KINDS = ("open", "choice", "true_false")
DRY_RUN = "dry-run"
NO_MODEL = "No language model is set, so nothing would be sent."
_ALIASES = {
    "protein": NodeType.PROTEIN, "gene": NodeType.PROTEIN, "molecule": NodeType.DRUG, "process": NodeType.BIOLOGICAL_PROCESS,
    "function": NodeType.MOLECULAR_FUNCTION, "component": NodeType.CELLULAR_COMPONENT,
}  # fmt: skip


@dataclass(frozen=True)
class EngineStatus:
    """What is in use, for display. encoders: names by modality; leaves_machine: whether questions go to a language model on another
    host; index_host: the other host that searches by vector are sent to, if the index is not on this one."""

    graph_name: str
    n_nodes: int
    n_edges: int
    encoders: dict[str, str]
    bridge: str
    llm: str | None
    llm_host: str | None
    leaves_machine: bool
    index_host: str | None = None


class Engine:
    """Answers on one opened home. Safe to use from several threads."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self.home, self.settings, self.graph = home, settings, home.graph
        self.retriever = Retriever(
            home.graph, home.index, home.bridge, home.tables, home.projections, home.likeness, home.fusions, self.encode
        )

    @cached_property
    def linker(self) -> NodeLinker:
        return NodeLinker(self.graph)

    @cached_property
    def reader(self) -> QueryReader:
        return QueryReader(self.graph, self.linker)

    def encode(self, node_type: NodeType, value: str) -> Vectors:
        """(1, dim) unit vector of one value by the home's encoder of that type."""
        return self.encode_values(node_type, [value])

    def encode_values(self, node_type: NodeType, values: Sequence[str]) -> Vectors:
        """(n, dim) unit vectors of values by the home's encoder of that type."""
        return self.home.encode(node_type, [(value,) for value in values])

    def encode_nodes(self, node_type: NodeType, nodes: Sequence[Node]) -> Vectors:
        """(n, dim) unit vectors of nodes that the graph does not hold."""
        return self.home.encode(node_type, [node.values for node in nodes])

    def status(self) -> EngineStatus:
        manifest = self.home.manifest
        llm = self.llm_of(self.settings)
        host = llm.host if llm else None
        return EngineStatus(
            manifest.graph_name, len(self.graph.nodes), self.graph.n_edges, {m: Path(n).name for m, n in manifest.encoder_names.items()},
            manifest.bridge_kind, llm.model if llm else None, host, llm is not None and not _is_local(host or ""),
            None if _is_local(self.home.index.host) else self.home.index.host,
        )  # fmt: skip

    def read(self, text: str) -> Query | None:
        return self.reader.text(text)

    def read_file(self, path: str | Path) -> tuple[list[Query], list[str]]:
        return self.reader.file(Path(path))

    def candidates(
        self, *, query: Query | None = None, sequence: str | None = None, smiles: str | None = None, fasta: str | Path | None = None,
        node: str | None = None, to: str = "drug", relation: str | None = None, top: int = 20,
    ) -> Retrieval:  # fmt: skip
        """Ranked nodes of type `to` for one query, given in exactly one way. Raises InputError in one line."""
        given = [
            name
            for name, value in (("query", query), ("sequence", sequence), ("smiles", smiles), ("fasta", fasta), ("node", node))
            if value is not None
        ]
        if len(given) != 1:
            raise InputError(
                "Give exactly one of a FASTA file, a sequence, a SMILES or a node.", f"Given: {', '.join(given)}." if given else ""
            )
        notes: list[str] = []
        if sequence is not None:
            query = self.reader.sequence(sequence)
        elif smiles is not None:
            query = self.reader.molecule(smiles)
        elif node is not None:
            query = self.reader.node(node)
        elif fasta is not None:
            queries, notes = self.read_file(fasta)
            query = queries[0]
            if len(queries) > 1:
                notes.append(f"The first of {len(queries)} records that were read is used: {query.name}.")
        assert query is not None
        found = self.retriever.retrieve(query, self.relation(query.type, to, relation), top)
        return replace(found, notes=(*notes, *found.notes))

    def relation(self, head_type: NodeType, to: str, name: str | None) -> Relation:
        """The relation from a head type to `to`, by name or the preferred one. Raises InputError naming what there is."""
        try:
            tail_type = _ALIASES.get(to) or NodeType(to)
        except ValueError:
            raise InputError(f"There is no node type {to!r}.", f"Types: {', '.join(t.value for t in NodeType)}.") from None
        fitting = [r for r in self.retriever.relations(head_type) if r.tail_type == tail_type]
        if name is not None:
            wanted = [r for r in fitting if r.name == name]
            if not wanted:
                have = ", ".join(f"{r.name} ({r.tail_type})" for r in self.retriever.relations(head_type))
                raise InputError(f"The graph has no relation {name!r} from {head_type.label} to {tail_type.label}.", f"It has: {have}.")
            return wanted[0]
        ordered = sorted(fitting, key=lambda r: _PREFERRED.index(r.name) if r.name in _PREFERRED else len(_PREFERRED) + (r.name != SIMILAR))
        if head_type is tail_type and len(ordered) > 1:
            return next(r for r in ordered if r.name == SIMILAR)
        if not ordered:
            raise InputError(f"The graph has no relation from {head_type.label} to {tail_type.label}.")
        return ordered[0]

    @staticmethod
    def llm_of(settings: Settings, choice: str | None = None) -> LanguageModel | None:
        """The language model that `choice` names ("none" for none), or the one of the settings."""
        model = settings.llm_model if choice is None else choice
        if not model or model == "none":
            return None
        return make_llm(
            model, settings.llm_base_url, settings.llm_api_key, timeout_s=settings.llm_timeout, limit_s=settings.llm_limit,
            max_retries=settings.llm_max_retries, max_tokens=settings.llm_max_tokens, seed=settings.llm_seed,
            price_in=settings.llm_price_in, price_out=settings.llm_price_out, cache=settings.llm_cache, device=settings.device,
        )  # fmt: skip

    def ask(
        self, question: str, queries: Sequence[Query] = (), llm: str | None = None, *, options: Sequence[str] = (), kind: str = "",
        arm: str = "full", history: History = (), chat: Chat | None = None, passages: Sequence[tuple[str, str]] = (),
        plan: bool | None = None,
    ) -> Answer:  # fmt: skip
        """The answer to a question; see ask_stream."""
        how: dict[str, Any] = {"options": options, "kind": kind, "arm": arm, "chat": chat, "passages": passages, "plan": plan}
        events = self.ask_stream(question, queries, llm, history, **how)
        return [event.answer for event in events if event.answer is not None][-1]

    def ask_stream(
        self, question: str, queries: Sequence[Query] = (), llm: str | None = None, history: History = (), *, options: Sequence[str] = (),
        kind: str = "", arm: str = "full", chat: Chat | None = None, passages: Sequence[tuple[str, str]] = (), plan: bool | None = None,
    ) -> Iterator[AnswerEvent]:  # fmt: skip
        """Events up to the answer. queries: what is attached; llm: a model's name, "none", "dry-run" (all is made ready for the model of
        the settings and nothing is sent), or None for that of the settings; options: those of a choice; kind: open | choice | true_false,
        or "" to be read from the question; arm: what the answer may rest on (qa.arms); chat: a model in place of the one of the settings;
        passages: (name, text) of texts that come with the question; plan: whether the model says what is looked up, None for as the
        settings say. Raises InputError for a kind or an arm that there is not."""
        check_asked(kind, arm)
        missing = ""
        if llm == DRY_RUN and chat is None:
            model = self.llm_of(self.settings)
            chat, llm = (model.dry_run() if model is not None else None), "none"
            missing = "" if model is not None else NO_MODEL
        plans = self.settings.llm_plan if plan is None else plan
        events = self._answerer(llm, arm, chat, plans).ask_stream(question, queries, history, options, kind, passages)
        return _noticed(events, missing) if missing else events

    @cached_property
    def texts(self) -> Texts:
        """Search in the texts of the graph's nodes."""
        search = TextSearch(self.graph, nearest_in(self.home.index, self.home.encode))

        def found(text: str, k: int, types: Collection[NodeType] | None = None) -> list[tuple[Node, str]]:
            return [(hit.node, hit.snippet) for hit in search.search(text, k, types)]

        return Texts(found, lambda about, node: match_gene(about.description, node).score)

    @cached_property
    def _shuffled(self) -> tuple[KnowledgeGraph, Retrieve]:
        return shuffle(self.graph, self.retriever.retrieve, self.settings.seed)

    def _answerer(self, llm: str | None, arm: str, chat: Chat | None, plans: bool) -> Answerer:
        graph, retrieve = self._shuffled if ARMS[arm].shuffled else (self.graph, self.retriever.retrieve)
        chat = chat if chat is not None else self.llm_of(self.settings, llm)
        return Answerer(graph, self.linker, retrieve, chat, self.texts, ARMS[arm], plans)

    def close(self) -> None:
        self.home.index.close()


def check_asked(kind: str = "", arm: str = "full") -> None:
    """Raises InputError that lists what there is."""
    if arm not in ARMS:
        raise InputError(f"There is no arm {arm!r}.", f"Arms: {', '.join(ARMS)}.")
    if kind and kind not in KINDS:
        raise InputError(f"There is no kind of question {kind!r}.", f"Kinds: {', '.join(KINDS)}.")


def _noticed(events: Iterator[AnswerEvent], notice: str) -> Iterator[AnswerEvent]:
    for event in events:
        found = event.answer
        yield event if found is None else replace(event, answer=replace(found, notice=" ".join(filter(None, [notice, found.notice]))))


def _is_local(host: str) -> bool:
    return host.rsplit(":", 1)[0].strip("[]") in ("localhost", "127.0.0.1", "::1", "")


def load_graph_of(settings: Settings, progress: Progress | None = None) -> KnowledgeGraph:
    """The graph that the settings name: the one that ships, or a directory in PrimeKG's layout."""
    if settings.graph == "starter":
        from biobridge_rag.graph.starter import load_starter

        return load_starter()
    from biobridge_rag.graph.primekg import load_graph

    return load_graph(Path(settings.graph), settings.graph_name)


def chosen_encoders(settings: Settings) -> dict[Modality, str | None]:
    return {Modality.PROTEIN: settings.protein_encoder, Modality.MOLECULE: settings.molecule_encoder, Modality.TEXT: settings.text_encoder}


def source_of(settings: Settings) -> Source:
    """Where the settings say that the weights of foundation models lie, and how these are run."""
    return Source(settings.weights, settings.device, settings.precision, settings.remote_code)


def build(
    settings: Settings, progress: Progress, *, train: bool = False, official: OfficialTraining | None = None
) -> tuple[Manifest, KnowledgeGraph]:
    """Builds the home that the settings describe, or goes on with it. official: options of the official bridge's training."""
    graph, options = _readable_graph(settings), _options(settings, train, official)
    return build_home(graph, settings.home_path, options, progress), graph


def embed(settings: Settings, progress: Progress, *, only_missing: bool) -> dict[str, dict[str, int]]:
    """Encodes the settings' graph into the settings' cache, without building a home. See embedding.fill_cache; by node type."""
    if settings.cache is None:
        raise InputError("There is no folder to keep the embeddings in.", "Name one with --cache.")
    graph, names = _readable_graph(settings), _encoder_names(settings)
    with rows_of(names, source_of(settings), settings.engine, settings.ray_address) as rows:
        found = fill_cache(graph, settings.cache, _encoders(settings), progress, rows, only_missing)
    return {t.value: counts for t, counts in found.items()}


def _readable_graph(settings: Settings) -> KnowledgeGraph:
    """Without what the encoders cannot read; what the cache, or a build of this home that was broken off, holds is not tried again."""
    stores = [folder for folder in (settings.cache, settings.home_path / "embeddings" / "store") if folder is not None and folder.is_dir()]
    return usable(load_graph_of(settings), _encoders(settings), stores)


def _encoders(settings: Settings) -> dict[Modality, Encoder]:
    return {m: make_encoder(m, name, source_of(settings)) for m, name in _encoder_names(settings).items()}


def _encoder_names(settings: Settings) -> dict[Modality, str]:
    """By modality; a name that is a path is made absolute, for the home keeps it."""
    return {m: _kept_name(name or DEFAULT_ENCODERS[m]) for m, name in chosen_encoders(settings).items()}


def _kept_name(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name


def _options(settings: Settings, train: bool, official: OfficialTraining | None) -> BuildOptions:
    kind, official = settings.bridge or "default", official or OfficialTraining()
    return BuildOptions(
        _encoder_names(settings), kind, settings.epochs, settings.device, settings.seed, train, official,
        source=source_of(settings), cache=settings.cache, chroma_url=settings.chroma_url, engine=settings.engine,
        ray_address=settings.ray_address,
    )  # fmt: skip


def follow_build(settings: Settings, progress: Progress, *, train: bool, official: OfficialTraining) -> bool:
    """Under torchrun, in every process but the first: helps to train the bridge of the home that the first one builds. Returns
    whether this is such a process."""
    from biobridge_rag.following import follow, rank

    if not rank():
        return False
    follow(_readable_graph(settings), settings.home_path, _options(settings, train, official), progress)
    return True


def import_official(directory: Path, settings: Settings, progress: Progress) -> tuple[Manifest, KnowledgeGraph]:
    """Makes the settings' home of the BioBridge authors' release in `directory`, over the settings' graph, which must be a directory
    in PrimeKG's layout. Returns the manifest and the part of the graph that the release covers."""
    if settings.graph == "starter":
        raise InputError("The release is of PrimeKG's nodes.", "Give the graph's directory, in PrimeKG's layout: --graph DIR.")
    from biobridge_rag.bridge.release import node_indices, read_release
    from biobridge_rag.importing import import_release

    release, graph = read_release(directory), load_graph_of(settings)
    return import_release(release, graph, release.listed or node_indices(settings.graph), settings.home_path, progress, settings.chroma_url)


def export_official(settings: Settings, out: Path, *, overwrite: bool = False) -> tuple[Manifest, KnowledgeGraph, list[Path]]:
    """Writes the settings' home, whose bridge must be an official one, to `out` in the authors' layout. Where the settings name a
    graph's directory, nodes keep the node_index of its nodes.csv. Returns the home's manifest and graph, and the files."""
    from biobridge_rag.bridge.release import export_release, node_indices

    home = open_home(settings.home_path, chroma_url=settings.chroma_url)
    home.index.close()
    _check_fits(home.manifest, settings)
    index = None if settings.graph == "starter" else {key: i for i, key in node_indices(settings.graph).items()}
    return home.manifest, home.graph, export_release(home.bridge, home.tables, home.graph, out, node_index=index, overwrite=overwrite)


def open_engine(settings: Settings | None = None, progress: Progress | None = None) -> Engine:
    """The engine of a built home. The starter home is built on first use (seconds); any other must have been built.

    Raises InputError, HomeError or HomeMismatchError, each with one line on what to do.
    """
    settings = settings or Settings()
    path = settings.home_path
    manifest = read_manifest(path)
    if manifest is not None:
        _check_fits(manifest, settings)
    if settings.graph == "starter" and (manifest is None or (manifest.stages != STAGES and manifest.graph_name == "starter")):
        build(settings, progress or (lambda _stage, _done, _total: None))
    return Engine(open_home(path, source_of(settings), settings.chroma_url), settings)


def _check_fits(manifest: Manifest, settings: Settings) -> None:
    """Raises HomeMismatchError where a setting that was given is not what the home was built with."""
    encoders = chosen_encoders(settings)
    pairs: dict[str, tuple[object, object]] = {
        "graph": (manifest.graph_name, settings.graph_name),
        **{f"{m.value}_encoder": (manifest.encoder_names.get(m.value), name and _kept_name(name)) for m, name in encoders.items()},
        "bridge": (manifest.bridge_kind, settings.bridge),
        "epochs": (manifest.epochs, settings.epochs),
        "seed": (manifest.seed, settings.seed),
    }
    for what, (have, want) in pairs.items():
        if what in settings.model_fields_set and want is not None and have != want:
            raise HomeMismatchError(
                f"The home {settings.home_path} was built with the {what.replace('_', ' ')} {have!r}, not {want!r}.",
                "Leave the option out, or build another home.",
            )


def evaluate_retrieval(
    settings: Settings,
    unseen: Path | None,
    split: str,
    baselines: list[str],
    fraction: float,
    progress: Progress,
    what: str | None = None,
    saved: Path | None = None,
) -> dict[str, Any]:
    """The report of `evaluate retrieval`: on nodes of `unseen`, ranked by the graph's home (built where it is missing), or on
    heads held out of the graph, ranked by a bridge that is trained without them; "encoders" holds the encoders' ids by modality.
    Raises InputError in one line."""
    from biobridge_rag.assessing import BASELINES, Trained, Training, assess, assess_split, history_of
    from biobridge_rag.evaluation.baselines import check_baselines
    from biobridge_rag.graph.splits import SPLITS
    from biobridge_rag.retrieval.scoring import TailScorer

    check_baselines(baselines, BASELINES)
    check_device(settings.device)
    kind = settings.bridge or "default"
    training = Training(kind, settings.epochs or DEFAULT_EPOCHS[kind], settings.seed, settings.device)
    if unseen is None:
        if split not in SPLITS:
            raise InputError(f"There is no split {split!r}.", f"Valid names: {', '.join(SPLITS)}.")
        graph, names = _readable_graph(settings), _encoder_names(settings)
        with rows_of(names, source_of(settings), settings.engine, settings.ray_address) as rows:
            report = assess_split(
                graph, _encoders(settings), split, what, fraction, baselines, training, progress, saved, settings.cache, rows
            )
        return report | {"skipped": {**graph.skipped, **report["skipped"]}}
    from biobridge_rag.graph.primekg import load_unseen

    manifest = read_manifest(settings.home_path)
    if manifest is None:
        build(settings, progress)
    else:
        _check_fits(manifest, settings)
    home = open_home(settings.home_path, source_of(settings), settings.chroma_url)
    try:
        held, engine = readable(load_unseen(unseen, home.graph), home.encoders), Engine(home, settings)
        scorer = TailScorer(home.graph, home.tables, home.projections, home.bridge, home.likeness)
        trained = Trained(home.graph, home.tables, home.likeness, scorer, home.fusions)

        def encode(node_type: NodeType, positions: list[int]) -> Vectors:
            return engine.encode_nodes(node_type, [held.nodes[i] for i in positions])

        report = assess(trained, held, encode, baselines, training, progress, split="unseen")
        return report | {"encoders": home.manifest.encoders, "history": history_of(home.path / "bridge")}
    finally:
        home.index.close()


def evaluate_questions(engine: Engine, questions: Path, out: Path, arms: Sequence[str] = tuple(ARMS), **how: Any) -> dict[str, Any]:
    """The summary of `evaluate qa` on an opened engine, with the language model of its settings where there is one; how: concurrency,
    budget, limit, seed, progress, note of evaluation.qa.evaluate_qa. Raises InputError and FileError in one line."""
    from biobridge_rag.evaluation.qa import asking, evaluate_qa, home_sha256

    model = engine.llm_of(engine.settings)
    name, home = model.model if model is not None else "none", home_sha256(engine.home.manifest)
    return evaluate_qa(asking(engine, model), questions, arms, out, llm=name, home=home, graph=engine.graph, **how)


def evaluate_pairs(settings: Settings, path: Path, relation: str, seed: int, progress: Progress) -> dict[str, Any]:
    """The report of `evaluate pairs` on the graph of the home (built where it is missing). Raises InputError in one line."""
    from biobridge_rag.evaluation.pairs import evaluate_pairs as run
    from biobridge_rag.evaluation.pairs import pair_relation, read_pairs

    pairs = read_pairs(path)
    engine = open_engine(settings, progress)
    try:
        between = pair_relation(engine.graph, relation)
        return run(engine.graph, engine.home.likeness, engine.encode_values, pairs, between, seed, progress)
    finally:
        engine.close()
