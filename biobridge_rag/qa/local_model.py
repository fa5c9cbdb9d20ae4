"""A transformers model in a folder of this machine as a LangChain chat model. Imports LangChain; transformers and torch when it loads.

Knows: chat templates, greedy generation, how models write tool calls. Does not know: prompts, servers. Weights are read as numbers and
templates run in transformers' sandbox: no code that comes with a model is run.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from biobridge_rag.encoders.transformer import unreadable
from biobridge_rag.encoders.weights import fingerprint, weight_files
from biobridge_rag.errors import InputError, LLMError
from biobridge_rag.qa.llm_failures import Exceeded

_ROLES = {"system": "system", "human": "user", "ai": "assistant"}


def identity(folder: Path) -> str:
    """Changes with whatever the model's output depends on: weights, configuration, tokenizer, template. Reads unchanged files once."""
    return f"local-{fingerprint([*weight_files(folder), *sorted(folder.glob('*.jinja'))])}"


def open_model(folder: Path, device: str = "cpu") -> LocalChatModel:
    """Loads nothing yet."""
    return LocalChatModel(folder=folder, device=device)


class LocalChatModel(BaseChatModel):
    """Greedy, so that the same messages give the same answer. The first answer loads the model; one is written at a time, others wait.

    Options of stream and invoke: max_tokens of an answer; limit_s, seconds, for waiting and writing; tools, see bind_tools. Raises
    InputError for a folder that cannot be loaded, LLMError for messages that do not fit the model, Exceeded after limit_s."""

    folder: Path
    device: str = "cpu"
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "transformers"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """Offers tools through the model's chat template. A JSON object with name and arguments in its answer is a call."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return _load(self.folder, self.device)

    def _generate(self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        limit = float(kwargs.get("limit_s", 600.0))
        deadline = time.monotonic() + limit
        if not self._lock.acquire(timeout=min(limit, threading.TIMEOUT_MAX)):
            raise Exceeded(f"was not done after {limit:g} seconds")
        try:
            tokenizer, model = self._loaded
            tools = kwargs.get("tools")
            ids = _prompt(tokenizer, messages, tools)
            window = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
            length = int(ids["input_ids"].shape[1])
            if length >= window:
                raise LLMError(f"the prompt has {length:,} tokens; it reads {window:,}", "Name a model with a longer window.")
            if int(ids["input_ids"].max()) >= model.get_input_embeddings().num_embeddings:
                raise LLMError("its tokenizer is that of another model", "Fetch the model's folder again, whole.")
            most = min(int(kwargs.get("max_tokens") or 1024), window - length)
            run = _Run(tokenizer, model, ids.to(model.device), most, deadline, stop)
            text = ""
            try:
                for piece in run.pieces():
                    text += piece
                    if piece and not tools:
                        yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            finally:
                run.stop()
            if run.late:
                raise Exceeded(f"was not done after {limit:g} seconds")
            yield _last(run, _calls(text) if tools else [], text if tools else "")
        finally:
            self._lock.release()


class _Run:
    """One generation in a thread of its own. late: whether the deadline stopped it; written: tokens."""

    def __init__(self, tokenizer: Any, model: Any, ids: Any, most: int, deadline: float, stop: list[str] | None) -> None:
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        self.read, self.written, self.most, self.late = int(ids["input_ids"].shape[1]), 0, most, False
        self._deadline, self._stopped = deadline, threading.Event()
        self._error: BaseException | None = None
        self._streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=0.5, skip_special_tokens=True)
        greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
        if stop:
            greedy |= {"stop_strings": stop, "tokenizer": tokenizer}
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self._given = dict(ids) | greedy | {"max_new_tokens": most, "pad_token_id": padding, "streamer": self._streamer}
        self._given["stopping_criteria"] = StoppingCriteriaList([self._criterion])
        self._thread = threading.Thread(target=self._generate, args=(model,), daemon=True)

    def pieces(self) -> Iterator[str]:
        """Text as it is written. Raises what went wrong in the thread."""
        self._thread.start()
        while True:
            try:
                yield next(self._streamer)
            except StopIteration:
                break
            except queue.Empty:
                continue
        if type(self._error).__name__ == "OutOfMemoryError":
            raise LLMError("the GPU's memory is too small for it", "Name a smaller model, or use the device cpu.") from self._error
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _criterion(self, ids: Any, _scores: Any, **_kwargs: Any) -> Any:
        import torch

        self.written = int(ids.shape[1]) - self.read
        self.late = self.late or time.monotonic() > self._deadline
        return torch.full((ids.shape[0],), self.late or self._stopped.is_set(), dtype=torch.bool, device=ids.device)

    def _generate(self, model: Any) -> None:
        import torch

        try:
            with torch.inference_mode():
                model.generate(**self._given)
        except BaseException as error:
            self._error = error
            self._streamer.on_finalized_text("", stream_end=True)


def _last(run: _Run, calls: list[tuple[str, Any]], text: str) -> ChatGenerationChunk:
    """The chunk that ends an answer: tool calls, or the text that holds none; tokens; why it ended."""
    asked = [
        {"name": name, "args": json.dumps(arguments), "id": f"call_{i}", "index": i, "type": "tool_call_chunk"}
        for i, (name, arguments) in enumerate(calls)
    ]
    finish = "tool_calls" if calls else "length" if run.written >= run.most else "stop"
    usage = {"input_tokens": run.read, "output_tokens": run.written, "total_tokens": run.read + run.written}
    content = "" if calls else text
    message = AIMessageChunk(content=content, tool_call_chunks=asked, usage_metadata=usage, response_metadata={"finish_reason": finish})
    return ChatGenerationChunk(message=message)


def _calls(text: str) -> list[tuple[str, Any]]:
    """(name, arguments) of the JSON objects in a text that have both, as Qwen, Hermes, Llama and Mistral models write them."""
    found, at, decoder = list[tuple[str, Any]](), 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        arguments = value.get("arguments", value.get("parameters"))
        if isinstance(value.get("name"), str) and isinstance(arguments, dict):
            found.append((value["name"], arguments))
    return found


def _prompt(tokenizer: Any, messages: Sequence[BaseMessage], tools: Any) -> Any:
    """Token ids by the model's chat template; where it knows no system message, that is put before the first question."""
    if not tokenizer.chat_template:
        raise LLMError("it has no chat template", "Name a model that is trained to follow instructions.")
    turns = [{"role": _ROLES.get(message.type, message.type), "content": str(message.content)} for message in messages]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    if tools:
        options["tools"] = tools
    try:
        return tokenizer.apply_chat_template(turns, **options)
    except Exception as error:
        folded = _folded(turns)
        if folded == turns:
            raise LLMError(f"its chat template fails ({type(error).__name__})", "Name another model.") from error
    try:
        return tokenizer.apply_chat_template(folded, **options)
    except Exception as error:
        raise LLMError(f"its chat template fails ({type(error).__name__})", "Name another model.") from error


def _folded(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    if len(turns) < 2 or turns[0]["role"] != "system":
        return turns
    return [{"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}, *turns[2:]]


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    """Tokenizer and model. Raises InputError where they are damaged, of another kind, or the device is not there."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device.", "Use the device cpu.")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    only: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **only)
        dtype = torch.float32 if device == "cpu" else "auto"
        model, info = AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, output_loading_info=True, **only)
    except Exception as error:  # whatever the library makes of a bad folder
        raise unreadable(folder, error, False) from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"The weights in {folder} are not those of its config.json: {len(missing)} tables are missing ({missing[0]}).",
            "Fetch the model's folder again, whole.",
        )
    return tokenizer, model.eval().to(device)
