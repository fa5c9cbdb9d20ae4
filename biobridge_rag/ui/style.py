"""The look of the page: one accent colour, system fonts, light and dark. The rules are in assets/page.css.

Knows: gradio's theme. Does not know: what is shown.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
FAVICON = ASSETS / "favicon.svg"

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")
_ACCENT = ("#eff8fa", "#d8edf1", "#b2dae2", "#7fc0cd", "#489fb1", "#26839a", "#0f6a80", "#0f5c6e", "#134b59", "#143f4b", "#082830")
_GREY = ("#f8f9fa", "#f1f3f4", "#e3e6e8", "#cfd4d8", "#9aa3aa", "#6b757d", "#4d565d", "#384047", "#22292f", "#171c21", "#0f1317")


@lru_cache(maxsize=1)
def css() -> str:
    return (ASSETS / "page.css").read_text(encoding="utf-8")


def theme() -> Any:
    """Gradio's default theme with system fonts only, so that nothing is loaded from elsewhere."""
    import gradio as gr

    base = gr.themes.Default(
        primary_hue=gr.themes.Color(*_ACCENT, name="accent"),
        secondary_hue=gr.themes.Color(*_ACCENT, name="accent"),
        neutral_hue=gr.themes.Color(*_GREY, name="grey"),
        font=list(SANS),
        font_mono=list(MONO),
        radius_size="sm",
        text_size="md",
    )
    return base.set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#12171b",
        background_fill_primary_dark="#171d22",
        background_fill_secondary_dark="#12171b",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        input_background_fill_dark="#1b2227",
        border_color_primary_dark="#2d363d",
        button_large_text_weight="500",
    )


FOLLOW_JS = """
() => {
  const follow = () => {
    const scroller = document.querySelector('#chat .bubble-wrap');
    if (!scroller || scroller.dataset.follows) return;
    scroller.dataset.follows = 'yes';
    let turns = 0, held = false;
    for (const name of ['wheel', 'touchmove', 'mousedown', 'keydown']) {
      scroller.addEventListener(name, () => { held = false; }, { passive: true });
    }
    const hold = () => {
      const rows = scroller.querySelectorAll('.user-row');
      if (rows.length !== turns) { held = rows.length > turns; turns = rows.length; }
      if (held) scroller.scrollTop += rows[turns - 1].getBoundingClientRect().top - scroller.getBoundingClientRect().top - 8;
    };
    new MutationObserver(hold).observe(scroller, { childList: true, subtree: true, characterData: true });
    hold();
  };
  new MutationObserver(follow).observe(document.body, { childList: true, subtree: true });
  follow();
}
"""
"""Keeps the newest question at the top of the conversation while its answer grows, until the reader scrolls."""
