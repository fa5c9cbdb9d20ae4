"""A transformers model in a folder: a tiny Llama, made here in the real layout, loaded and asked as any other."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from biobridge_rag.errors import LLMError
from biobridge_rag.qa import local_model
from biobridge_rag.qa.llm import LanguageModel, LLMConfig, ToolCall
from biobridge_rag.qa.llm_cache import LLMCache
from biobridge_rag.types import Usage
from tests.qa.tiny_llama import ANSWER, QUESTION, TEMPLATE, make_tiny_llama

MESSAGES = [("system", "rules"), ("user", QUESTION)]
COUNT = [("user", "Count.")]


class Lookup(BaseModel):
    """Looks a name up."""

    name: str
    most: int = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture()
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> LanguageModel:
    return LanguageModel(LLMConfig(str(folder)))


def answer(language_model: LanguageModel, messages: Any = MESSAGES) -> tuple[str, Usage]:
    stream, pieces = language_model.stream(messages), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return "".join(pieces), end.value


def test_it_answers_in_pieces_the_same_each_time_and_counts_tokens(llm: LanguageModel, folder: Path) -> None:
    pieces = list(llm.stream(MESSAGES))
    assert "".join(pieces) == ANSWER and len(pieces) > 3
    text, usage = answer(llm)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template([{"role": r, "content": t} for r, t in MESSAGES], add_generation_prompt=True)["input_ids"]
    assert text == ANSWER and usage.prompt_tokens == len(asked)
    assert usage.completion_tokens == len(tokenizer(ANSWER)["input_ids"]) + 1 and (usage.calls, usage.cost) == (1, None)
    assert (llm.model, llm.host, llm.local) == ("tiny-llama", "", True)


def test_settings_of_the_folder_do_not_make_it_random(copy: Path) -> None:
    wild = {"do_sample": True, "temperature": 5.0, "top_k": 400, "top_p": 1.0, "num_beams": 1, "eos_token_id": 1}
    (copy / "generation_config.json").write_text(json.dumps(wild))
    assert {answer(LanguageModel(LLMConfig(str(copy))))[0] for _ in range(2)} == {ANSWER}


def test_it_calls_tools(llm: LanguageModel) -> None:
    calls, usage = llm.call_tools(MESSAGES, [Lookup])
    assert calls == [ToolCall("Lookup", {"name": "EGFR", "most": 3})] and usage.completion_tokens > 10


def test_tools_that_it_does_not_call_are_an_error(llm: LanguageModel) -> None:
    with pytest.raises(LLMError, match="The local language model 'tiny-llama' called no tool"):
        LanguageModel(LLMConfig(llm.config.model, max_tokens=4)).call_tools(MESSAGES, [Lookup])


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('<tool_call>\n{"name": "A", "arguments": {"x": 1}}\n</tool_call>', [("A", {"x": 1})]),
        ('[TOOL_CALLS] [{"name": "A", "arguments": {"x": {"y": 2}}}, {"name": "B", "arguments": {}}]', [("A", {"x": {"y": 2}}), ("B", {})]),
        ('{"name": "A", "parameters": {"x": "{"}} {"other": 1} {broken', [("A", {"x": "{"})]),
        ('{"name": 3, "arguments": {}} {"name": "A", "arguments": "x"} none', []),
        ("{" * 3000, []),
    ],
)
def test_how_models_write_calls(text: str, calls: list[tuple[str, Any]]) -> None:
    assert local_model._calls(text) == calls


def test_a_longest_answer(folder: Path) -> None:
    text, usage = answer(LanguageModel(LLMConfig(str(folder), max_tokens=10)), COUNT)
    assert usage.completion_tokens == 10 and text.startswith("ha ha ha")
    assert answer(LanguageModel(LLMConfig(str(folder))), COUNT)[1].completion_tokens < 256  # the window ends it


def test_it_is_a_langchain_model(folder: Path) -> None:
    made = local_model.open_model(folder)
    whole, cut = made.invoke(_langchain(MESSAGES)), made.invoke(_langchain(MESSAGES), stop=["targets"])
    assert whole.content == ANSWER and cut.content == "Gefitinib targets" and whole.usage_metadata["output_tokens"] > 10


def test_the_time_limit_ends_it(folder: Path) -> None:
    with pytest.raises(LLMError, match=r"was not done after 0\.0\d* seconds"):
        answer(LanguageModel(LLMConfig(str(folder), limit_s=0.05)), COUNT)


def test_left_early_it_stops_and_answers_the_next(llm: LanguageModel) -> None:
    before = threading.active_count()
    stream = llm.stream(COUNT)
    assert next(stream)
    stream.close()
    assert threading.active_count() == before
    assert answer(llm)[0] == ANSWER


def test_threads_wait_for_each_other(llm: LanguageModel) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: answer(llm)[0], range(6))) == {ANSWER}


def test_the_cache_follows_the_files_not_their_place(folder: Path, copy: Path, tmp_path: Path) -> None:
    cache = LLMCache(tmp_path / "cache")
    assert answer(LanguageModel(LLMConfig(str(folder)), cache))[1].cached == 0
    text, usage = answer(LanguageModel(LLMConfig(str(copy)), cache))
    assert text == ANSWER and usage.cached == 1 and usage.completion_tokens > 10
    (copy / "chat_template.jinja").write_text("{# changed #}" + TEMPLATE)
    assert answer(LanguageModel(LLMConfig(str(copy)), cache))[1].cached == 0


def test_a_template_without_system_messages(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    )
    prompt = local_model._prompt(LanguageModel(LLMConfig(str(copy)))._chat()._loaded[0], _langchain(MESSAGES), None)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(copy).decode(prompt["input_ids"][0]) == f"<|user|>rules\n\n{QUESTION}<|end|><|assistant|>"


def _langchain(messages: list[tuple[str, str]]) -> Any:
    from langchain_core.messages import convert_to_messages

    return convert_to_messages(messages)


def truncate(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def other_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 128}))


def more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    named = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config | named))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n")


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def broken_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'].__class__.__mro__[1].__subclasses__() }}{{ nothing.at.all }}")


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def pickled(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"x": Trap(str(folder / "ran"))}, folder / "pytorch_model.bin")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def other_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: id if id < 6 else id + 5000 for token, id in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


BAD: list[tuple[Callable[[Path], None], str]] = [
    (truncate, "cannot be used: "),
    (other_sizes, "cannot be used: The weights in .* have other sizes"),
    (more_layers, "cannot be used: The weights in .* tables are missing"),
    (remote_code, "cannot be used: "),
    (no_template, "cannot be used: it has no chat template"),
    (broken_template, "cannot be used: its chat template fails"),
    (not_json, "cannot be used: "),
    (pickled, "cannot be used: The weights in .* hold more than numbers"),
    (other_tokenizer, "cannot be used: its tokenizer is that of another model"),
]


@pytest.mark.parametrize(("spoil", "what"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_a_bad_folder_is_one_line_and_runs_nothing(copy: Path, spoil: Callable[[Path], None], what: str) -> None:
    spoil(copy)
    with pytest.raises(LLMError, match=f"The local language model 'model' {what}") as error:
        answer(LanguageModel(LLMConfig(str(copy))))
    assert "\n" not in str(error.value) and not (copy / "ran").exists()


def test_a_prompt_that_is_too_long(llm: LanguageModel) -> None:
    with pytest.raises(LLMError, match=r"the prompt has [\d,]+ tokens; it reads 256"):
        answer(llm, [("user", "many words " * 300)])


def test_no_gpu(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(LLMError, match="PyTorch finds no CUDA device"):
        answer(LanguageModel(LLMConfig(str(folder), device="cuda")))


def test_a_preview_says_that_nothing_is_sent(llm: LanguageModel) -> None:
    shown = llm.preview(MESSAGES, [Lookup])
    assert shown.startswith("Nothing is sent") and "----- user -----\n" + QUESTION in shown and '"title": "Lookup"' in shown
