"""Settings: everything a user can choose, validated once. The only reader of the environment (BIOBRIDGE_..., OPENAI_API_KEY).

Knows: pydantic-settings. Does not know: what the settings are used for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from biobridge_rag.errors import InputError

PREFIX = "BIOBRIDGE_"


class Settings(BaseSettings):
    """Values given in code or on the command line come first, then the environment, then these defaults.

    llm_model: what a server calls it, or the folder of a transformers model, which then runs in this process unless llm_base_url is
    set. llm_timeout: seconds to wait for each piece of an answer; llm_limit: for the whole of it; llm_max_retries: tries after the first
    where a server is busy or fails; llm_max_tokens: of an answer, None for what the server does of itself; llm_seed: sent along, for
    servers that know it; llm_plan: whether the model is asked first what is to be looked up; llm_price_in, llm_price_out: US dollars
    for a million tokens, to count costs; llm_cache: a folder where whole answers are kept, so that a run can be repeated without asking
    again.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True)

    graph: str = "starter"
    home: Path | None = None
    protein_encoder: str | None = None
    molecule_encoder: str | None = None
    text_encoder: str | None = None
    bridge: Literal["default", "official"] | None = None
    epochs: int | None = Field(default=None, ge=1, le=1000)
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    weights: Path | None = None
    remote_code: bool = False
    cache: Path | None = None
    chroma_url: str = ""
    engine: Literal["local", "ray"] = "local"
    ray_address: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    host: str = "127.0.0.1"
    port: int = Field(default=7860, ge=1, le=65535)
    llm_model: str = ""
    llm_base_url: str = ""
    llm_timeout: float = Field(default=60.0, gt=0, le=3600)
    llm_limit: float = Field(default=600.0, gt=0, le=86_400)
    llm_max_retries: int = Field(default=3, ge=0, le=20)
    llm_max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    llm_seed: int | None = Field(default=None, ge=0, lt=2**31)
    llm_plan: bool = False
    llm_price_in: float | None = Field(default=None, ge=0, le=1_000_000)
    llm_price_out: float | None = Field(default=None, ge=0, le=1_000_000)
    llm_cache: Path | None = None
    llm_api_key: str = Field(
        default="", repr=False, validation_alias=AliasChoices("llm_api_key", "BIOBRIDGE_LLM_API_KEY", "OPENAI_API_KEY")
    )

    def __init__(self, **given: Any) -> None:
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        unknown = sorted(k for k in os.environ if k.startswith(PREFIX) and k not in known)
        if unknown:
            raise InputError(f"The environment sets {unknown[0]}, which is no setting.", f"Settings: {', '.join(sorted(known))}.")
        try:
            super().__init__(**given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            names = ", ".join(sorted(type(self).model_fields))
            raise InputError(
                f"The setting {where!r} is not valid: {first['msg']}.", f"Settings: {names}." if first["type"] == "extra_forbidden" else ""
            ) from None

    @field_validator("graph", "chroma_url", "ray_address", "llm_model", "llm_base_url", "llm_api_key", mode="after")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()

    @property
    def graph_name(self) -> str:
        return "starter" if self.graph == "starter" else Path(self.graph).resolve().name

    @property
    def home_path(self) -> Path:
        """The artefacts' folder: `home`, or vectorstore/<graph name> below the working directory."""
        return self.home if self.home is not None else Path("vectorstore") / self.graph_name
