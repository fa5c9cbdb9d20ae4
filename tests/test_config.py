"""Settings: given values before the environment before defaults; every wrong name or value is one line; the key stays hidden."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from biobridge_rag.config import Settings
from biobridge_rag.errors import InputError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [k for k in os.environ if k.startswith("BIOBRIDGE_") or k == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)


def test_given_before_environment_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().seed == 0
    monkeypatch.setenv("BIOBRIDGE_SEED", "5")
    assert Settings().seed == 5
    assert Settings(seed=7).seed == 7


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("graph", " /data/primekg ", "/data/primekg"),
        ("home", "/data/home", Path("/data/home")),
        ("protein_encoder", "kmer", "kmer"),
        ("molecule_encoder", "fingerprint", "fingerprint"),
        ("text_encoder", "minilm", "minilm"),
        ("bridge", "official", "official"),
        ("epochs", "3", 3),
        ("device", "cuda", "cuda"),
        ("precision", "bf16", "bf16"),
        ("weights", "/data/weights", Path("/data/weights")),
        ("remote_code", "true", True),
        ("cache", "/data/cache", Path("/data/cache")),
        ("engine", "ray", "ray"),
        ("ray_address", " auto ", "auto"),
        ("chroma_url", " http://localhost:8000 ", "http://localhost:8000"),
        ("seed", "9", 9),
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "8000", 8000),
        ("llm_model", "m", "m"),
        ("llm_base_url", "http://localhost:1/v1", "http://localhost:1/v1"),
        ("llm_timeout", "2.5", 2.5),
        ("llm_limit", "90", 90.0),
        ("llm_max_retries", "0", 0),
        ("llm_max_tokens", "500", 500),
        ("llm_seed", "7", 7),
        ("llm_plan", "true", True),
        ("llm_price_in", "0.15", 0.15),
        ("llm_price_out", "0.6", 0.6),
        ("llm_cache", "/data/answers", Path("/data/answers")),
        ("llm_plan", "true", True),
        ("llm_api_key", "k", "k"),
    ],
)
def test_every_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object) -> None:
    monkeypatch.setenv(f"BIOBRIDGE_{name.upper()}", value)
    assert getattr(Settings(), name) == read
    assert set(Settings.model_fields) >= {name}


def test_no_setting_is_without_a_test() -> None:
    tested = {mark.args[1][i][0] for mark in test_every_setting_is_read_from_the_environment.pytestmark for i in range(len(mark.args[1]))}
    assert tested == set(Settings.model_fields)


@pytest.mark.parametrize("name", ["BIOBRIDGE_GRAF", "BIOBRIDGE_HOMES", "BIOBRIDGE_"])
def test_an_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(InputError, match=rf"sets {name}, which is no setting. Settings: .*BIOBRIDGE_GRAPH, BIOBRIDGE_HOME") as caught:
        Settings()
    assert len(str(caught.value).splitlines()) == 1 and caught.value.exit_code == 2


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"'colour' is not valid.*Settings: bridge, cache, chroma_url, device"):
        Settings(colour="red")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1001),
        ("epochs", "many"),
        ("seed", -1),
        ("seed", 2**31),
        ("seed", "x"),
        ("bridge", "golden"),
        ("bridge", ""),
        ("device", "tpu"),
        ("port", 0),
        ("port", 65536),
        ("llm_timeout", 0),
        ("llm_timeout", 4000),
        ("llm_timeout", "nan"),
        ("llm_limit", 0),
        ("llm_max_retries", -1),
        ("llm_max_retries", 21),
        ("llm_max_tokens", 0),
        ("llm_seed", -1),
        ("llm_price_in", -0.1),
        ("llm_price_out", "nan"),
        ("llm_price_out", "free"),
    ],
)
def test_a_bad_value_names_the_setting_given_or_set(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"'{name}' is not valid"):
        Settings(**{name: value})
    monkeypatch.setenv(f"BIOBRIDGE_{name.upper()}", str(value))
    with pytest.raises(InputError, match=f"'{name}' is not valid"):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().seed = 3  # type: ignore[misc]


def test_the_key_comes_from_either_variable_and_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret \n")
    assert Settings().llm_api_key == "sk-secret"
    assert "secret" not in repr(Settings()) and "secret" not in str(Settings())
    monkeypatch.setenv("BIOBRIDGE_LLM_API_KEY", "own-secret")
    assert Settings().llm_api_key == "own-secret"
    assert Settings(llm_api_key="given").llm_api_key == "given"


def test_the_home_follows_the_graph_unless_it_is_named() -> None:
    assert Settings().home_path == Path("vectorstore/starter")
    assert Settings(graph="/data/primekg/").home_path == Path("vectorstore/primekg")
    assert Settings(graph="/data/primekg", home=Path("/x")).home_path == Path("/x")
    assert Settings(graph=".").graph_name == Path.cwd().name
