"""PrimeKG from its record at Harvard Dataverse: the graph, its feature tables, and disease.csv made of them.

Knows: Dataverse's JSON on a dataset and its addresses of files. Does not know: HTTP, licences of the sources, how graphs are read.

https://guides.dataverse.org/en/latest/api/native-api.html and …/dataaccess.html. A tabular file that Dataverse has taken in is given as
uploaded by format=original. Its md5 is mostly that of the uploaded file, but on records such as this server's that of the archival
form without its header (https://github.com/IQSS/dataverse/issues/9501); so for these files the size of the original decides, and the
record says whether the md5 fitted too.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biobridge_rag.errors import FetchError
from biobridge_rag.fetching.downloads import Saved, download
from biobridge_rag.fetching.http import Http
from biobridge_rag.fetching.licences import (
    check_licensed,
    keep_commercial_edges,
    keep_commercial_features,
    keep_commercial_nodes,
)
from biobridge_rag.fetching.records import Entry, Licence, Outcome, check_ours, current, describe, fetching_into, write_csv, write_record
from biobridge_rag.graph.tables import Files, Row
from biobridge_rag.types import Progress

DATAVERSE = "https://dataverse.harvard.edu"
DOI = "doi:10.7910/DVN/IXA7BM"
CC0 = Licence("CC0 1.0 for the record; its sources have their own", "https://creativecommons.org/publicdomain/zero/1.0/")
# Each file, and the columns by which it is known to be the right one.
NEEDED = {
    "nodes": ("node_index", "node_id", "node_type", "node_name", "node_source"),
    "kg": ("relation", "display_relation", "x_id", "x_type", "y_id", "y_type"),
}
FEATURES = {"drug_features": ("node_index",), "disease_features": ("node_index", "mondo_id", "mondo_name")}
_DEFINITIONS = ("mondo_definition", "umls_description", "orphanet_definition")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a record. original: Dataverse took it in, so it is asked for as uploaded. md5: as the record gives it, or empty."""

    stem: str
    url: str
    size: int | None
    md5: str
    original: bool


def fetch_primekg(
    folder: Path,
    progress: Progress | None = None,
    *,
    commercial_only: bool = False,
    licensed: Collection[str] = (),
    overwrite: bool = False,
    base: str = DATAVERSE,
    http: Http | None = None,
) -> Outcome:
    """Fetches PrimeKG into `folder`: kg.csv, nodes.csv, drug_features.csv, disease_features.csv and, made of the last, disease.csv.

    commercial_only: without what comes from sources whose terms forbid commercial use, but for those that `licensed` names.
    overwrite: also files that are there without having been fetched. Files that are there as recorded, with the same choice, are
    kept. Raises FetchError, DiskFullError, InputError in one line.
    """
    check_licensed(licensed)
    options = f"commercial-only, licensed: {', '.join(sorted(licensed)) or 'none'}" if commercial_only else ""
    names = {f"{stem}.csv": stem for stem in (*NEEDED, *FEATURES)}
    with fetching_into(folder):
        check_ours(folder, (*names, "disease.csv"), overwrite)
        kept = {name: entry for name in (*names, "disease.csv") if (entry := current(folder, name, options)) is not None}
        lacking = [stem for name, stem in names.items() if name not in kept]
        if not lacking and "disease.csv" in kept:
            return Outcome(folder, kept=kept)
        fetched: dict[str, Entry] = {}
        raw = folder / ".fetching"
        if lacking:
            with http or Http() as client:
                files, licence = read_dataset(client.get_json(f"{base}/api/datasets/:persistentId/", {"persistentId": DOI}).content, base)
                for stem in lacking:
                    if (remote := files.get(stem)) is None:
                        raise FetchError(f"The record {DOI} holds no {stem}.csv.", f"It holds: {', '.join(sorted(files))}.")
                    saved = _download(client, remote, raw / f"{stem}.csv", progress)
                    entry = _finish(saved, remote, folder, licence, commercial_only, licensed)
                    fetched[f"{stem}.csv"] = replace(entry, options=options)
                    write_record(folder, {f"{stem}.csv": fetched[f"{stem}.csv"]})
        if "disease.csv" not in kept or "disease_features.csv" in fetched:
            write_csv(folder / "disease.csv", ("node_index", "mondo_id", "mondo_name", "definition"), _diseases(folder))
            made = describe(folder / "disease.csv", "PrimeKG", f"{base}/dataset.xhtml?persistentId={DOI}", CC0, options=options)
            fetched["disease.csv"] = replace(made, note="made of disease_features.csv")
            write_record(folder, {"disease.csv": fetched["disease.csv"]})
        shutil.rmtree(raw, ignore_errors=True)
        return Outcome(folder, fetched, {name: entry for name, entry in kept.items() if name not in fetched})


def read_dataset(content: Any, base: str) -> tuple[dict[str, RemoteFile], Licence]:
    """The files of a dataset's newest version by their stem, and its licence. Raises FetchError for JSON of another form."""
    try:
        version = content["data"]["latestVersion"]
        files = [_remote(entry["dataFile"], base) for entry in version["files"] if not entry.get("restricted")]
        stated = version.get("license")
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError("Dataverse's answer has another form than is known.", "A newer version of this program may read it.") from error
    licence = CC0
    if isinstance(stated, Mapping) and stated.get("name") and "CC0" not in str(stated["name"]):
        licence = Licence(f"{stated['name']} for the record; its sources have their own", str(stated.get("uri", "")))
    return {file.stem: file for file in files}, licence


def _remote(file: Mapping[str, Any], base: str) -> RemoteFile:
    original = bool(file.get("originalFileFormat") or file.get("tabularData"))
    name = str(file.get("originalFileName") or file["filename"])
    checksum = file.get("checksum") or {}
    md5 = str(file.get("md5") or (checksum.get("value", "") if checksum.get("type") == "MD5" else ""))
    size = file.get("originalFileSize") if original else file.get("filesize")
    url = f"{base}/api/access/datafile/{int(file['id'])}{'?format=original' if original else ''}"
    return RemoteFile(re.sub(r"\.(csv|tab|tsv)$", "", name), url, int(size) if size else None, md5, original)


def _download(client: Http, remote: RemoteFile, target: Path, progress: Progress | None) -> Saved:
    checksum = f"md5:{remote.md5}" if remote.md5 else None
    saved = download(
        client,
        remote.url,
        target,
        size=remote.size,
        checksum=checksum,
        checksum_decides=not remote.original,
        progress=progress,
        max_bytes=1 << 36,
    )
    Files(target.parent).columns(target, {**NEEDED, **FEATURES}[remote.stem])
    return saved


def _finish(saved: Saved, remote: RemoteFile, folder: Path, licence: Licence, commercial_only: bool, licensed: Collection[str]) -> Entry:
    """The entry of a downloaded file, which is filtered on its way into the folder where that is asked for."""
    target = folder / saved.path.name
    skipped: dict[str, int] = {}
    notes = [] if not remote.original else [f"as uploaded; md5 of the record {'fits' if saved.matched else 'is of the archival form'}"]
    if commercial_only:
        if remote.stem in FEATURES:
            notes.append(f"columns left out: {', '.join(keep_commercial_features(saved.path, target)) or 'none'}")
        else:
            keep = keep_commercial_edges if remote.stem == "kg" else keep_commercial_nodes
            what = "edge" if remote.stem == "kg" else "node"
            skipped = {f"{what} of {source}": n for source, n in keep(saved.path, target, licensed).items()}
        notes.append(f"sha256 of the whole file: {saved.sha256}")
        saved.path.unlink()
    else:
        saved.path.replace(target)
    checksum = f"md5:{remote.md5}" if saved.matched else f"sha256:{saved.sha256}"
    return describe(target, f"PrimeKG, {DOI}", remote.url, licence, checksum=checksum, skipped=skipped, note="; ".join(notes))


def _diseases(folder: Path) -> Iterable[Row]:
    """Rows of disease.csv: each text of a disease once, by the first source that defines it."""
    files = Files(folder)
    path = files.path("disease_features")
    seen: set[tuple[str, str, str]] = set()

    def rows() -> Iterator[Row]:
        for row in files.rows(path, FEATURES["disease_features"], _DEFINITIONS):
            definition = next((text for c in _DEFINITIONS if (text := row.get(c, ""))), "")
            key = (row["node_index"], row["mondo_id"], definition)
            if key not in seen:
                seen.add(key)
                yield {
                    "node_index": row["node_index"],
                    "mondo_id": row["mondo_id"],
                    "mondo_name": row["mondo_name"],
                    "definition": definition,
                }

    return rows()
