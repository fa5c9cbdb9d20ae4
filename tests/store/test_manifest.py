"""The manifest: what differs between two homes is named, a damaged one is one line, and one writer at a time holds the lock."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from biobridge_rag.errors import DiskFullError, HomeError, HomeLockedError, HomeMismatchError
from biobridge_rag.store.manifest import Manifest, read_manifest, write_manifest, write_text, writing

MANIFEST = Manifest(
    graph_name="tiny",
    graph_sha256="a" * 64,
    encoders={"protein": "kmer-v1", "text": "minilm-v1"},
    encoder_names={"protein": "kmer", "text": "minilm"},
    dims={"protein": 8, "text": 4},
    bridge_kind="default",
    seed=0,
    epochs=4,
    bridge_sha256="b" * 64,
    versions={"torch": "2"},
    skipped={"duplicate edge": 3},
    stages=("graph", "embeddings"),
)
ALONE = "import sys; from pathlib import Path; from biobridge_rag.store.manifest import writing\nwith writing(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"  # noqa: E501


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("change", ["", "{", "[]", "null", "{}", '{"format": 3}', "\xff\xfe", '{"format": 3, "stages": 3}'])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, change: str) -> None:
    (tmp_path / "manifest.json").write_bytes(change.encode("latin-1"))
    with pytest.raises((HomeError, HomeMismatchError)) as caught:
        read_manifest(tmp_path)
    assert len(str(caught.value).splitlines()) == 1 and ("damaged" in str(caught.value) or "format None" in str(caught.value))


def test_an_unknown_field_is_damage_and_another_format_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    data = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**data, "colour": "red"}))
    with pytest.raises(HomeError, match="damaged"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**data, "format": 9}))
    with pytest.raises(HomeMismatchError, match="format 9; this version reads format 3"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"graph_sha256": "c" * 64}, "graph 'tiny' in another version"),
        ({"graph_sha256": "c" * 64, "graph_name": "big"}, "graph 'tiny', not 'big'"),
        ({"encoders": {"protein": "esm-v1"}}, "protein encoder is 'kmer-v1', not 'esm-v1'"),
        ({"bridge_kind": "official"}, "bridge kind is 'default', not 'official'"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"epochs": 9}, "epochs is 4, not 9"),
    ],
)
def test_what_differs_is_named(change: dict[str, object], says: str) -> None:
    assert says in MANIFEST.difference(replace(MANIFEST, **change))  # type: ignore[arg-type]


def test_progress_counts_and_versions_are_no_difference() -> None:
    other = replace(MANIFEST, stages=(), bridge_sha256="", versions={}, skipped={}, graph_name="renamed")
    assert MANIFEST.difference(other) == ""


def test_no_room_is_one_line_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.json", "old")

    def full(self: Path, _text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFullError, match="No space left on device") as caught:
        write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old" and caught.value.exit_code == 1


def test_no_room_for_any_other_file_of_a_build_is_the_same_line(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="No space left on device"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "nowhere").read_text()


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(DiskFullError, match="Cannot write to"), writing(home):
            pass


def test_a_second_writer_is_refused_until_the_first_has_ended_even_by_a_kill(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", ALONE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        with pytest.raises(HomeLockedError, match="Another process is building") as caught, writing(tmp_path):
            pass
        assert caught.value.exit_code == 1
    finally:
        first.kill()
        first.communicate()
    with writing(tmp_path):
        pass


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError
    with writing(tmp_path):
        pass


def test_additions_are_kept_and_are_no_difference(tmp_path: Path) -> None:
    grown = replace(MANIFEST, graph_sha256="c" * 64, additions=2, built_sha256=MANIFEST.graph_sha256)
    write_manifest(tmp_path, grown)
    assert read_manifest(tmp_path) == grown and not grown.difference(MANIFEST) and not MANIFEST.difference(grown)
    assert "another version" in grown.difference(replace(MANIFEST, graph_sha256="d" * 64))


def test_a_manifest_without_additions_is_written_as_before_there_were_any(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert not {"additions", "built_sha256"} & json.loads((tmp_path / "manifest.json").read_text()).keys()
