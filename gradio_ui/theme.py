"""Colours and fonts: contrast of WCAG AA in light and dark, and no downloads from other sites."""

from __future__ import annotations

from typing import Any

import gradio as gr

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Liberation Mono", "monospace")

_TEAL = ("#f0f8f7", "#dceeed", "#bfe0de", "#93cac7", "#5fabaa", "#3b8d8e", "#1f7478", "#0f5c63",
         "#0d4a50", "#0b3b41", "#072a2f")  # fmt: skip
_STONE = ("#faf9f7", "#f3f1ed", "#e6e3dc", "#d2cec5", "#a8a399", "#7d786e", "#5d594f", "#47443c",
          "#2f2d28", "#211f1c", "#161513")  # fmt: skip


def _hue(name: str, shades: tuple[str, ...]) -> Any:
    steps = ("c50", *(f"c{n}00" for n in range(1, 10)), "c950")
    return gr.themes.Color(name=name, **dict(zip(steps, shades, strict=True)))


def theme() -> Any:
    """Return the theme of the interface."""
    teal, stone = _hue("teal", _TEAL), _hue("stone", _STONE)
    base = gr.themes.Base(
        primary_hue=teal,
        secondary_hue=teal,
        neutral_hue=stone,
        radius_size=gr.themes.sizes.radius_md,
        font=FONT,
        font_mono=MONO,
    )
    light_dark: dict[str, tuple[str, str]] = {
        "body_background_fill": ("#f6f4f0", "#15191b"),
        "body_text_color": ("#22272a", "#e8ebea"),
        "body_text_color_subdued": ("#545b5e", "#aeb7b8"),
        "background_fill_primary": ("#ffffff", "#1e2427"),
        "background_fill_secondary": ("#faf9f7", "#1a2022"),
        "block_background_fill": ("#ffffff", "#1e2427"),
        "block_label_background_fill": ("#ffffff", "#1e2427"),
        "block_label_text_color": ("#33393c", "#d7dddd"),
        "block_title_text_color": ("#22272a", "#e8ebea"),
        "block_info_text_color": ("#545b5e", "#aeb7b8"),
        "block_border_color": ("#dedad2", "#333c40"),
        "border_color_primary": ("#dedad2", "#333c40"),
        "border_color_accent": ("#0f5c63", "#5fabaa"),
        "color_accent_soft": ("#dceeed", "#0b3b41"),
        "input_background_fill": ("#ffffff", "#171c1e"),
        "input_border_color": ("#8a8f8c", "#6b787c"),
        "input_border_color_focus": ("#0f5c63", "#7cc4c2"),
        "input_placeholder_color": ("#63696b", "#9aa5a7"),
        "button_primary_background_fill": ("#0f5c63", "#7cc4c2"),
        "button_primary_background_fill_hover": ("#0b474d", "#97d3d1"),
        "button_primary_text_color": ("#ffffff", "#0b2426"),
        "button_secondary_background_fill": ("#eae6de", "#2b3337"),
        "button_secondary_background_fill_hover": ("#ded9ce", "#38434a"),
        "button_secondary_text_color": ("#22272a", "#e8ebea"),
        "button_secondary_border_color": ("#c9c3b6", "#46545a"),
        "button_cancel_background_fill": ("#fbeae5", "#4a2018"),
        "button_cancel_background_fill_hover": ("#f6d8cf", "#612a20"),
        "button_cancel_text_color": ("#8a2c14", "#ffd2c6"),
        "button_cancel_border_color": ("#d9a595", "#8a4a3a"),
        "checkbox_background_color": ("#ffffff", "#171c1e"),
        "checkbox_background_color_selected": ("#0f5c63", "#3b8d8e"),
        "checkbox_border_color": ("#7d8380", "#7c898d"),
        "checkbox_border_color_selected": ("#0f5c63", "#7cc4c2"),
        "checkbox_label_background_fill": ("#ffffff", "#1e2427"),
        "checkbox_label_background_fill_hover": ("#f0f8f7", "#26302f"),
        "checkbox_label_background_fill_selected": ("#dceeed", "#0d4a50"),
        "checkbox_label_border_color": ("#b9b5ab", "#4b585d"),
        "checkbox_label_border_color_selected": ("#0f5c63", "#7cc4c2"),
        "checkbox_label_text_color": ("#22272a", "#e8ebea"),
        "checkbox_label_text_color_selected": ("#0b3b41", "#ffffff"),
        "link_text_color": ("#0f5c63", "#8fd0ce"),
        "slider_color": ("#0f5c63", "#5fabaa"),
    }
    values: dict[str, str] = {
        "block_shadow": "none",
        "block_border_width": "0px",
        "block_padding": "0px",
        "block_title_text_weight": "600",
        "block_title_text_size": "15px",
        "block_info_text_size": "13px",
        "block_label_text_size": "14px",
        "input_border_width": "1px",
        "input_text_size": "16px",
        "input_shadow_focus": "0 0 0 3px rgba(59, 141, 142, 0.35)",
        "button_large_text_size": "17px",
        "button_small_text_size": "15px",
        "checkbox_label_text_size": "15px",
        "layout_gap": "18px",
    }
    for name, (light, dark) in light_dark.items():
        values[name], values[f"{name}_dark"] = light, dark
    return base.set(**values)
