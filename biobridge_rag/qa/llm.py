"""The language model: any server that speaks the OpenAI chat protocol, or a local transformers model, through LangChain.

Knows: LangChain's ChatOpenAI, of which it is the only user, and the cache of answers. Does not know: prompts, evidence, the environment.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from functools import lru_cache
from pathlib import Path
from typing import Any

from biobridge_rag.encoders.weights import is_model_folder
from biobridge_rag.errors import BiobridgeError, InputError
from biobridge_rag.qa.chat import CallError, Chat, DryRun, Messages, NotSent, ToolCall, Tools, as_text, checked_calls, without_thoughts
from biobridge_rag.qa.llm_cache import LLMCache, key_of
from biobridge_rag.qa.llm_calls import OPENAI_URL, Caller, LLMConfig, Tally, is_folder, untraced
from biobridge_rag.types import Usage

__all__ = ["CallError", "Chat", "DryRun", "LLMConfig", "LanguageModel", "NotSent", "ToolCall", "make_llm"]


class LanguageModel:
    """A chat model; building it connects to nothing and loads nothing. Safe to use from several threads, which share its connections
    or its weights. cache: where whole answers are kept and looked up. sleep: waits before another try."""

    def __init__(self, config: LLMConfig, cache: LLMCache | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self.config, self._cache = config, cache
        self._caller = Caller(config, self._chat, sleep)
        self._lock = threading.Lock()
        self._made: Any = None

    def __repr__(self) -> str:
        return f"LanguageModel({self.model!r} at {self.host or 'this machine'!r})"

    @property
    def model(self) -> str:
        """Its name; of a model on this machine, that of its folder."""
        return self.config.name

    @property
    def host(self) -> str:
        """Host and port, for display; never a user name or key that stands in the address. Empty for a model on this machine."""
        return self.config.host

    @property
    def local(self) -> bool:
        """Whether the model runs in this process, so that nothing is sent anywhere."""
        return self.config.local

    def stream(self, messages: Messages) -> Generator[str, None, Usage]:
        """The answer to (role, text) messages, piece by piece; the generator's return value is what it took.

        Raises CallError, of one line, for whatever goes wrong: refused, not authorised, too many requests, an error of the server,
        time-out, an answer that is garbage, empty, endless, or broken off before its end. What may pass is tried again, but not after
        the first piece. An answer that is cut at max_tokens ends there; it is not kept in the cache. What a model thinks aloud first is
        left out."""
        messages, started = _clean(messages), time.perf_counter()
        key = self._key(messages, ())
        kept = self._kept(key, "text", str)
        if kept is not None:
            yield kept["text"]
            return _replayed(kept, started)
        tally, pieces = Tally(), list[str]()
        chunks = self._caller.chunks(messages, (), tally)
        with contextlib.closing(chunks):
            for piece in without_thoughts(chunk.content for chunk in chunks if chunk.content):
                pieces.append(piece)
                yield piece
        if not pieces:
            raise self._caller.error("sent an empty answer", tally)
        self._keep(key, {"text": "".join(pieces)}, tally)
        return tally.usage(self.config)

    def call_tools(self, messages: Messages, tools: Tools) -> tuple[list[ToolCall], Usage]:
        """The tools that the model asks for, with arguments that their classes accepted, and what it took. Raises CallError as stream
        does, and where the model answers with text, with tools that were not offered or with arguments that do not fit."""
        messages, started = _clean(messages), time.perf_counter()
        key = self._key(messages, tools)
        kept = self._kept(key, "calls", list)
        if kept is not None:
            with contextlib.suppress(ValueError, TypeError):
                return checked_calls([(name, arguments) for name, arguments in kept["calls"]], tools), _replayed(kept, started)
        tally, whole = Tally(), None
        for chunk in self._caller.chunks(messages, tools, tally):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        try:
            asked = [(call["name"], _arguments(call["args"])) for call in whole.tool_call_chunks]
            calls = checked_calls(asked, tools)
        except ValueError as error:
            raise self._caller.error(str(error), tally) from None
        self._keep(key, {"calls": [list(pair) for pair in asked]}, tally)
        return calls, tally.usage(self.config)

    def preview(self, messages: Messages, tools: Tools = ()) -> str:
        """Exactly what would be sent, as text: the address, the parameters, the messages with their roles, the tools. Sends nothing."""
        messages = _clean(messages)
        if self.local:
            head = [f"Nothing is sent: the model in {self.config.model} runs on this machine.", *_lines(self.config.options(tools))]
            return "\n".join(head) + f"\n\n{as_text(messages)}{_offered([tool.model_json_schema() for tool in tools])}"
        from biobridge_rag.qa.llm_http import capturing_client

        sent: list[Any] = []
        try:
            with capturing_client(sent.append) as client:
                untraced().run(lambda: next(self._caller.open(self._server(client), messages, tools), None))
        except Exception as error:
            if not sent:
                raise self._caller.failed(error, Tally()) from None
        body = json.loads(sent[0].content)
        asked = as_text([(message["role"], message["content"]) for message in body.pop("messages")])
        offered = _offered(body.pop("tools", []))
        return "\n".join([f"POST {_plain(str(sent[0].url))}", *_lines(body)]) + f"\n\n{asked}{offered}"

    def dry_run(self) -> DryRun:
        """In place of this model: sends nothing and keeps what would have been sent."""
        return DryRun(self.model, self.preview)

    def _key(self, messages: Messages, tools: Tools) -> str:
        if self._cache is None:
            return ""
        where = [self.config.model, _plain(self.config.base_url or OPENAI_URL)]
        if self.local:
            from biobridge_rag.qa.local_model import identity

            try:
                where = [identity(Path(self.config.model)), self.config.device]
            except BiobridgeError as error:
                raise self._caller.failed(error, Tally()) from None
        schemas = [[tool.__name__, tool.model_json_schema()] for tool in tools]
        asked = {"messages": [list(message) for message in messages], "tools": schemas}
        return key_of({"model": where, "parameters": self.config.options(tools), **asked})

    def _kept(self, key: str, what: str, kind: type) -> dict[str, Any] | None:
        found = self._cache.get(key) if self._cache is not None else None
        whole = found is not None and isinstance(found.get(what), kind) and all(type(found.get(n)) is int for n in ("in", "out"))
        return found if whole else None

    def _keep(self, key: str, answer: dict[str, Any], tally: Tally) -> None:
        if self._cache is not None and tally.finish != "length":
            sent, written = tally.tokens or (0, 0)
            self._cache.put(key, {**answer, "model": self.model, "in": sent, "out": written})

    def _chat(self) -> Any:
        with self._lock:
            if self._made is None:
                if self.local:
                    from biobridge_rag.qa.local_model import open_model

                    self._made = open_model(Path(self.config.model), self.config.device)
                else:
                    from biobridge_rag.qa.llm_http import bounded_client

                    self._made = self._server(bounded_client(self.config.timeout_s))
            return self._made

    def _server(self, client: Any) -> Any:
        from langchain_openai import ChatOpenAI
        from pydantic import SecretStr

        return ChatOpenAI(
            model=self.config.model,
            base_url=self.config.base_url or OPENAI_URL,
            api_key=SecretStr(self.config.api_key or "none"),
            timeout=self.config.timeout_s,
            max_retries=0,
            streaming=True,
            use_responses_api=False,
            stream_usage=False,
            http_client=client,
        )


@lru_cache(maxsize=8)
def make_llm(
    model: str,
    base_url: str = "",
    api_key: str = "",
    *,
    timeout_s: float = 60.0,
    limit_s: float = 600.0,
    max_retries: int = 3,
    max_tokens: int | None = None,
    seed: int | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    cache: Path | None = None,
    device: str = "cpu",
) -> LanguageModel | None:
    """The language model of some settings (see LLMConfig), None where `model` is empty or "none". The same values give the same object,
    with its connections or loaded weights. Raises InputError for a folder that holds no model, and for a cache that cannot be written."""
    if not model or model == "none":
        return None
    if not api_key.isascii() or re.search(r"[\s\x00-\x1f\x7f]", api_key):
        raise InputError("The language model's key holds characters that no key has.", "Check BIOBRIDGE_LLM_API_KEY or OPENAI_API_KEY.")
    if not base_url and is_folder(model) and not is_model_folder(Path(model)):
        raise InputError(
            f"The folder {model} holds no language model.", "Name one with config.json and model.safetensors, or a server's model."
        )
    if not base_url and not is_folder(model) and model.startswith(("/", "./", "../", "~")):
        raise InputError(f"There is no folder {model[:200]}.", "Name the folder of a transformers model, or the name of a server's model.")
    config = LLMConfig(model, base_url, api_key, timeout_s, max_retries, limit_s, max_tokens, seed, price_in, price_out, device)
    return LanguageModel(config, LLMCache(cache) if cache is not None else None)


def _clean(messages: Messages) -> list[tuple[str, str]]:
    """Without halves of surrogate pairs, which no server reads."""
    return [(role, text.encode("utf-8", "replace").decode()) for role, text in messages]


def _arguments(text: str | None) -> Any:
    """Of a tool without any, some servers send nothing. LangChain would mend JSON that was cut; here it is refused."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ValueError("called a tool with arguments that are no JSON") from None


def _replayed(kept: dict[str, Any], started: float) -> Usage:
    return Usage(kept["in"], kept["out"], 0.0, time.perf_counter() - started, 1, 1)


def _plain(url: str) -> str:
    """An address without user name, password and query."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]


def _lines(parameters: dict[str, Any]) -> list[str]:
    return [f"{name}: {json.dumps(value)}" for name, value in parameters.items()]


def _offered(tools: list[Any]) -> str:
    return "".join(f"\n\n----- tool -----\n{json.dumps(tool, indent=1)}" for tool in tools)
