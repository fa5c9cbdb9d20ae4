"""Weights of foundation models: fair-esm's files, and models of the Hugging Face hub, into the caches where encoders look for them.

Knows: fair-esm's addresses, huggingface_hub, the licences of models in use here. Does not know: how weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from biobridge_rag.encoders.chemical import MOLECULE_NAMES, UniMolEncoder
from biobridge_rag.encoders.esm import ESM_NAMES
from biobridge_rag.encoders.language import TEXT_NAMES
from biobridge_rag.encoders.weights import WEIGHT_FILES, checkpoint_folder, esm_urls
from biobridge_rag.errors import BiobridgeError, FetchError, InputError
from biobridge_rag.fetching.downloads import download, saying_disk_full
from biobridge_rag.fetching.http import CONNECT_SECONDS, Http
from biobridge_rag.fetching.model_code import code_files
from biobridge_rag.fetching.records import Entry, Licence, Outcome, current, describe, fetching_into, read_record, write_record
from biobridge_rag.types import Progress

MIT = "MIT"
ESM_LICENCE = Licence(MIT, "https://github.com/facebookresearch/esm/blob/main/LICENSE")
LICENCES = {
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": MIT,
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": MIT,
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext": MIT,
    "michiyasunaga/BioLinkBERT-base": "Apache-2.0",
    "ibm-research/MoLFormer-XL-both-10pct": "Apache-2.0",
    "ibm/MoLFormer-XL-both-10pct": "Apache-2.0",
    "facebook/esm2_t33_650M_UR50D": MIT,
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
}
CODE = "code that comes with the model: it runs only with --remote-code; read it first"
HUB = "https://huggingface.co"
_BESIDE = re.compile(r"([\w.-]+\.(json|txt|model)|README\.md|LICENSE[\w.-]*|[\w.-]+_Pooling/config\.json)")
_SAFE = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
_OLD = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json")
_NO_HUB = "Check the network, HTTPS_PROXY and HF_HUB_OFFLINE; or fetch the files elsewhere and name their folder with --weights."


def fetch_weights(
    name: str, folder: Path | None = None, progress: Progress | None = None, *, http: Http | None = None, endpoint: str | None = None
) -> Outcome:
    """Fetches the weights `name`, as an encoder is named: an ESM model of fair-esm, the short name of a text or molecule model, or
    ORGANISATION/MODEL of the hub, into `folder` or the library's own cache. Python code that a model needs comes with it, as files only.

    Raises InputError for any other name, and for Uni-Mol without a folder; FetchError in one line where it cannot be fetched.
    """
    if name in ESM_NAMES:
        return _fetch_esm(name, folder or checkpoint_folder(), progress, http)
    short = TEXT_NAMES | MOLECULE_NAMES
    if name == "unimol":
        if folder is None:
            raise InputError("Uni-Mol's weights need a folder of their own.", "Name one with --out, then name it with --weights.")
        return _fetch_hub(short[name].hubs[0], folder, progress, endpoint, (UniMolEncoder.weights, UniMolEncoder.dictionary))
    if name in short or re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _fetch_hub(short[name].hubs[0] if name in short else name, folder, progress, endpoint)
    raise InputError(f"There are no weights called {name!r}.", f"Names: {', '.join([*ESM_NAMES, *short])}, or ORGANISATION/MODEL of {HUB}.")


def _fetch_esm(name: str, folder: Path, progress: Progress | None, http: Http | None) -> Outcome:
    with fetching_into(folder):
        kept, fetched = dict[str, Entry](), dict[str, Entry]()
        with http or Http() as client:
            for url, file in esm_urls(name):
                if (entry := current(folder, file)) is not None:
                    kept[file] = entry
                    continue
                if file not in read_record(folder) and (folder / file).is_file():  # by fair-esm's own download
                    kept[file] = describe(folder / file, "fair-esm", url, ESM_LICENCE, note="was there before")
                    continue
                saved = download(client, url, folder / file, progress=progress)
                fetched[file] = describe(saved.path, "fair-esm", url, ESM_LICENCE)
                write_record(folder, {file: fetched[file]})
    return Outcome(folder, fetched, kept)


def _fetch_hub(name: str, folder: Path | None, progress: Progress | None, endpoint: str | None, only: Sequence[str] = ()) -> Outcome:
    """only: the files that are wanted, if not those of a model folder."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    api = HfApi(endpoint=endpoint)
    with _saying_hub(name):
        info = api.model_info(name, timeout=CONNECT_SECONDS)
    revision = info.sha or "main"
    listed = [s.rfilename for s in info.siblings or []]
    files = [file for file in only if file in listed] if only else wanted_files(listed)
    if len(files) < len(only):
        raise FetchError(f"{name} on the hub has no {' or no '.join(set(only) - set(files))} any more.", f"Look on {HUB}/{name}.")
    if not only and not any(file in WEIGHT_FILES for file in files):
        raise FetchError(f"{name} on the hub has neither {WEIGHT_FILES[0]} nor {WEIGHT_FILES[2]}.", "Choose another model.")
    card = info.card_data.get("license") if info.card_data is not None else None
    url = f"{endpoint or HUB}/{name}"
    licence = Licence(LICENCES.get(name) or str(card or "not stated: see the model's page"), url)
    if folder is not None:
        there = sorted({*files, *(() if only else code_files(folder, name, listed)[0])})
        if all(current(folder, file, revision) is not None for file in there):
            return Outcome(folder, kept={file: e for file in there if (e := current(folder, file, revision)) is not None})
    if progress is not None:
        progress(f"fetching {name}", 0, len(files))
    pending, files, absent = files, [], list[str]()
    while pending:
        with _saying_hub(name), saying_disk_full(folder or Path(name)):
            place = Path(
                snapshot_download(
                    name, revision=revision, local_dir=folder, allow_patterns=[_literal(f) for f in pending],
                    etag_timeout=CONNECT_SECONDS, endpoint=endpoint,
                )
            )  # fmt: skip
        if lacking := [file for file in pending if not (place / file).is_file()]:
            raise FetchError(f"The hub did not give all of {name}: {lacking[0]} is missing.", _NO_HUB)
        files += pending
        code, absent = ([], []) if only else code_files(place, name, listed)
        pending = sorted(set(code) - set(files))
    if progress is not None:
        progress(f"fetching {name}", len(files), len(files))
    notes = dict.fromkeys((file for file in files if file.endswith(".py")), CODE)
    if absent:
        notes["config.json"] = f"it asks for code that is not fetched: {', '.join(absent)}"
    entries = {
        file: describe(place / file, name, f"{url}/resolve/{revision}/{file}", licence, options=revision, note=notes.get(file, ""))
        for file in sorted(files)
    }
    if folder is not None:
        with fetching_into(folder):
            write_record(folder, entries)
    return Outcome(place, entries)


def wanted_files(listed: Sequence[str]) -> list[str]:
    """What loading needs of a model's files: configuration, tokenizer, pooling, and the weights once, as safetensors where there are."""
    weights = [f for f in listed if _SAFE.fullmatch(f)] or [f for f in listed if _OLD.fullmatch(f)]
    index = {"model.safetensors.index.json", "pytorch_model.bin.index.json"}
    return sorted({*weights, *(f for f in listed if _BESIDE.fullmatch(f) and f not in index)})


def _literal(file: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", file)


class _saying_hub:
    """Turns whatever the hub's client raises about the network or the model into FetchError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from huggingface_hub import errors

        if error is None or not isinstance(error, Exception) or isinstance(error, BiobridgeError):
            return
        why = " ".join(str(error).split())[:160].rstrip(".")
        if isinstance(error, errors.HFValidationError):
            raise InputError(f"There are no weights called {self.name!r}.", "A name of the hub looks like ORGANISATION/MODEL.") from error
        if isinstance(error, errors.GatedRepoError):
            raise FetchError(f"{self.name} is given only to those who asked for it.", f"Ask on {HUB}/{self.name}, then log in.") from error
        if isinstance(error, errors.RepositoryNotFoundError):
            raise FetchError(f"{self.name} is not on the hub, or not open to everyone.", f"Look on {HUB}.") from error
        if isinstance(error, errors.HfHubHTTPError):
            raise FetchError(f"The hub does not give {self.name}: {why}.", "Try again later.") from error
        if isinstance(error, (OSError, errors.OfflineModeIsEnabled)) or _is_http(error):
            if getattr(error, "errno", None) in (28, 122):
                return
            raise FetchError(f"The hub cannot be reached for {self.name}: {why}.", _NO_HUB) from error


def _is_http(error: BaseException) -> bool:
    """Whether it comes from the HTTP library under the hub's client, whichever that is in this version."""
    return any(c.__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests") for c in type(error).__mro__)
