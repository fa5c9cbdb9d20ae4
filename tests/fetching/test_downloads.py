"""Downloads: resumed where they can be, begun again where they must be, checked always, and never half-written."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.errors import DiskFullError, FetchError
from biobridge_rag.fetching import downloads
from biobridge_rag.fetching.downloads import download, file_digests
from biobridge_rag.fetching.http import TRIES, Http
from tests.fetching.conftest import Reply, Server, ranged

DATA = bytes(range(256)) * 1000
MD5 = "md5:" + hashlib.md5(DATA).hexdigest()


def quiet() -> Http:
    return Http(sleep=lambda _: None)


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def stop_halfway(server: Server, target: Path, n: int = 100_000) -> str:
    """Leaves target.part with the first `n` bytes, as a process that was killed does."""
    url = server.on("/f", Reply(DATA, headers={"ETag": '"one"'}, cut=n), Reply(status=410))
    with pytest.raises(FetchError, match="has gone"):
        download(quiet(), url, target)
    assert left(target.parent) == ["f.part", "f.part.json"] and (target.parent / "f.part").read_bytes() == DATA[:n]
    server.asked.clear()
    return url


def test_a_file_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    saved = download(quiet(), server.on("/f", ranged(DATA)), tmp_path / "new" / "f", checksum=MD5, progress=lambda *what: told.append(what))
    assert saved.path.read_bytes() == DATA and saved.matched and saved.size == len(DATA)
    assert saved.sha256 == hashlib.sha256(DATA).hexdigest() == file_digests(saved.path)["sha256"]
    assert left(tmp_path / "new") == ["f"] and told[-1] == ("fetching f", len(DATA), len(DATA)) and len(told) > 2


def test_a_truncated_body_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    url = server.on("/f", ranged(DATA, cut=100_000), ranged(DATA, cut=50_000), ranged(DATA))
    assert download(quiet(), url, tmp_path / "f").path.read_bytes() == DATA
    assert [a.headers.get("range") for a in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert server.asked[1].headers["if-range"] == '"one"' and server.asked[1].headers["accept-encoding"] == "identity"


def test_a_later_run_goes_on(server: Server, tmp_path: Path) -> None:
    url = stop_halfway(server, tmp_path / "f")
    server.on("/f", ranged(DATA))
    download(quiet(), url, tmp_path / "f", size=len(DATA))
    assert (tmp_path / "f").read_bytes() == DATA and left(tmp_path) == ["f"]
    assert [a.headers.get("range") for a in server.asked] == ["bytes=100000-"]


OTHER = bytes(reversed(DATA))


@pytest.mark.parametrize(
    "scripts",
    [
        (ranged(OTHER, '"two"'),),
        (Reply(OTHER),),
        (Reply(OTHER[100_000:], 206, {"ETag": '"two"', "Content-Range": f"bytes 100000-255999/{len(DATA)}"}), ranged(OTHER, '"two"')),
        (Reply(OTHER[5:], 206, {"ETag": '"one"', "Content-Range": f"bytes 5-255999/{len(DATA)}"}), ranged(OTHER)),
        (Reply(OTHER[100_000:], 206, {"ETag": '"one"', "Content-Range": "bytes 100000-255999/999999"}), ranged(OTHER)),
        (Reply(OTHER[100_000:], 206, {"ETag": '"one"'}), ranged(OTHER)),
        (Reply(b"", 416, {"Content-Range": "bytes */50"}), ranged(OTHER, '"two"')),
        (Reply(b"", 416), ranged(OTHER, '"two"')),
    ],
    ids=["changed", "no Range", "206 of another", "other place", "other total", "no Content-Range", "416 shorter", "416 bare"],
)
def test_what_cannot_be_gone_on_with_begins_again(server: Server, tmp_path: Path, scripts: tuple[Reply, ...]) -> None:
    url = stop_halfway(server, tmp_path / "f")
    server.on("/f", *scripts)
    assert download(quiet(), url, tmp_path / "f").path.read_bytes() == OTHER and left(tmp_path) == ["f"]
    assert len(server.asked) == len(scripts) and server.asked[0].headers["range"] == "bytes=100000-"


def test_a_part_that_was_whole_is_only_renamed(server: Server, tmp_path: Path) -> None:
    url = stop_halfway(server, tmp_path / "f")
    (tmp_path / "f.part").write_bytes(DATA)
    server.on("/f", ranged(DATA))
    assert download(quiet(), url, tmp_path / "f").path.read_bytes() == DATA
    assert [a.headers["range"] for a in server.asked] == [f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("change", ["url", "checksum", "damaged note", "no validator"])
def test_a_part_of_something_else_is_not_used(server: Server, tmp_path: Path, change: str) -> None:
    url, checksum = stop_halfway(server, tmp_path / "f"), None
    if change == "url":
        url = server.on("/g", ranged(OTHER))
    elif change == "checksum":
        checksum = "sha256:" + hashlib.sha256(OTHER).hexdigest()
    else:
        text = (tmp_path / "f.part.json").read_text()
        (tmp_path / "f.part.json").write_text(text[:5] if change == "damaged note" else text.replace(r"\"one\"", ""))
    server.on("/f", ranged(OTHER))
    assert download(quiet(), url, tmp_path / "f", checksum=checksum).path.read_bytes() == OTHER
    assert "range" not in server.asked[0].headers


def test_a_wrong_checksum_is_fetched_once_more_then_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"of an earlier day")
    with pytest.raises(FetchError, match=r"fetched twice .* its md5 is [0-9a-f]{32}, not [0-9a-f]{32}"):
        download(quiet(), server.on("/f", ranged(OTHER)), tmp_path / "f", checksum=MD5)
    assert len(server.asked) == 2 and left(tmp_path) == ["f"] and (tmp_path / "f").read_bytes() == b"of an earlier day"
    with pytest.raises(FetchError, match="it has 256,000 bytes, not 3"):
        download(quiet(), server.url + "/f", tmp_path / "f", size=3)
    server.on("/f", ranged(OTHER), ranged(DATA))
    assert download(quiet(), server.url + "/f", tmp_path / "f", checksum=MD5).path.read_bytes() == DATA
    assert all("range" not in asked.headers for asked in server.asked)


def test_a_checksum_may_only_be_told(server: Server, tmp_path: Path) -> None:
    saved = download(quiet(), server.on("/f", ranged(OTHER)), tmp_path / "f", checksum=MD5, checksum_decides=False, size=len(OTHER))
    assert not saved.matched and saved.path.read_bytes() == OTHER


def test_a_server_that_breaks_off_at_once_is_given_up(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="broke off"):
        download(quiet(), server.on("/f", ranged(DATA, cut=0)), tmp_path / "f")
    assert len(server.asked) == TRIES


def test_a_slow_but_growing_file_gets_more_rounds(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "GROWTH", 1000)
    url = server.on("/f", ranged(DATA, cut=20_000))
    assert download(quiet(), url, tmp_path / "f").path.read_bytes() == DATA
    assert len(server.asked) == 13 > TRIES


def test_an_encoded_answer_is_decoded(server: Server, tmp_path: Path) -> None:
    url = server.on("/f", Reply(gzip.compress(DATA), headers={"Content-Encoding": "gzip", "ETag": '"one"'}))
    assert download(quiet(), url, tmp_path / "f", checksum=MD5).path.read_bytes() == DATA


def test_a_file_over_the_limit_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="at most 1,000"):
        download(quiet(), server.on("/f", ranged(DATA)), tmp_path / "f", max_bytes=1000)
    with pytest.raises(FetchError, match="no checksum of the kind 'crc'"):
        download(quiet(), server.url + "/f", tmp_path / "f", checksum="crc:1")


def test_a_full_disk_is_told_before_and_during(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.on("/f", ranged(DATA))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(DiskFullError, match="No space left"):
            download(quiet(), url, tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert download(quiet(), url, tmp_path / "f").path.read_bytes() == DATA
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    server.asked.clear()
    with pytest.raises(DiskFullError, match=r"g needs 256,000 bytes; .* has room for 100"):
        download(quiet(), url, tmp_path / "g", size=len(DATA))
    assert server.asked == [] and left(tmp_path) == ["f"]


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 9_999), max_size=4), checked=st.booleans())
def test_wherever_it_breaks_off_the_bytes_are_right(tmp_path_factory: pytest.TempPathFactory, cuts: list[int], checked: bool) -> None:
    server, folder = Server(), tmp_path_factory.mktemp("cut")
    try:
        url = server.on("/f", *(ranged(DATA[:10_000], cut=c) for c in cuts), ranged(DATA[:10_000]))
        checksum = "sha256:" + hashlib.sha256(DATA[:10_000]).hexdigest() if checked else None
        assert download(quiet(), url, folder / "f", checksum=checksum).path.read_bytes() == DATA[:10_000]
        assert left(folder) == ["f"]
    finally:
        server.close()
