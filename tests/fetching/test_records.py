"""fetched.json, files that take another's place whole, journals, locks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.errors import DiskFullError, FileError, HomeLockedError
from biobridge_rag.fetching.records import (
    Journal,
    Licence,
    current,
    describe,
    fetching_into,
    read_record,
    replacing,
    write_csv,
    write_record,
)

LICENCE = Licence("CC BY 4.0", "https://example.org/licence")


def test_a_record_keeps_what_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("some text")
    entry = describe(
        tmp_path / "a", "Somewhere", "https://example.org/a", LICENCE, skipped={"bad": 2}, left_out={"bad": ["x", "y"]}, options="o"
    )
    write_record(tmp_path, {"a": entry})
    write_record(tmp_path, {"b": entry})
    assert read_record(tmp_path) == {"a": entry, "b": entry} and entry.size == 9 and entry.date.endswith("+00:00")
    assert current(tmp_path, "a", "o") == entry
    assert current(tmp_path, "a") is None and current(tmp_path, "b", "o") is None and current(tmp_path, "c") is None
    (tmp_path / "a").write_text("some tex!")
    assert current(tmp_path, "a", "o") is None
    write_record(tmp_path, {}, without=["a"])
    assert set(read_record(tmp_path)) == {"b"}


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "files": {}}', '{"format": 1}', '{"format": 1, "files": {"a": {"size": 1}}}'])
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "fetched.json").write_text(text)
    with pytest.raises(FileError, match=r"fetched\.json is damaged"):
        read_record(tmp_path)


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, ["a", "b"], [{"a": "1", "b": 'x, "y"\n', "c": "no"}, {"a": "2"}])
    assert path.read_text() == 'a,b\n1,"x, ""y""\n"\n2,\n'
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(str(1 / 0))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFullError, match="No space left"):
        write_csv(path, ["a"], [])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["t.csv"]


lines = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3), max_size=6)


@settings(max_examples=25, deadline=None)
@given(first=lines, second=lines, cut=st.integers(0, 400))
def test_a_journal_loses_at_most_the_line_in_flight(
    tmp_path_factory: pytest.TempPathFactory, first: list[dict[str, str]], second: list[dict[str, str]], cut: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("j") / "x.journal")
    assert journal.read() == []
    journal.add(first)
    whole = journal.path.read_bytes()
    os.truncate(journal.path, min(cut, len(whole)))
    kept = journal.read()
    assert kept == first[: len(kept)] and len(kept) == whole[:cut].count(b"\n")
    journal.add(second)
    assert journal.read() == kept + second
    journal.remove()
    assert journal.read() == []


def test_a_journal_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not json\n")
    with pytest.raises(FileError, match="damaged"):
        Journal(tmp_path / "x").read()


def test_a_folder_is_written_by_one_process(tmp_path: Path) -> None:
    with fetching_into(tmp_path / "a"):
        with pytest.raises(HomeLockedError), fetching_into(tmp_path / "a"):
            pass
        with fetching_into(tmp_path / "b"):
            pass
    with fetching_into(tmp_path / "a"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFullError, match="Cannot write"), fetching_into(tmp_path / "file"):
        pass
