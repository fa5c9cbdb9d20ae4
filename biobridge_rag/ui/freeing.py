"""Leaves nothing of a browser session behind: its memory once the tab is closed, its uploads once they are read.

Knows: where gradio keeps what a session holds. Does not know: what that is, turns, the engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biobridge_rag.ui.session import Session


def hold(blocks: Any, session: Session, key: str, closed_seconds: int) -> None:
    """Notes whose session it is, that its tab is open, and how long after the tab is closed it ends (gradio's own: an hour)."""
    session.key = key
    held = blocks.state_holder.session_data.get(key) if key else None
    if held is not None:
        held.is_closed, held.STATE_TTL_WHEN_CLOSED = False, closed_seconds


def end(blocks: Any, session: Session) -> None:
    """Forgets the session: what it holds itself, and what gradio keeps of the components it was shown in."""
    key = session.key
    session.clear()
    if key:
        blocks.state_holder.session_data.pop(key, None)
        blocks.state_holder.time_last_used.pop(key, None)


def forget(files: Iterable[Path], uploads: Path) -> None:
    """Removes uploaded files, each with its folder; files from elsewhere (examples) stay."""
    root = uploads.resolve()
    for file in files:
        if root in file.resolve().parents:
            with contextlib.suppress(OSError):
                file.unlink()
                file.parent.rmdir()
