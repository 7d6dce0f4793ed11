"""How the web page looks: local fonts and colours, nothing that a browser would have to fetch from elsewhere."""

from typing import Any

import gradio as gr

CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; padding-top: 1.5rem !important; }
#heading h1 { font-size: 1.5rem; font-weight: 600; margin: 0; }
#heading p { color: var(--body-text-color-subdued); margin: .25rem 0 0; }
#examples-label p, #heard p, #mode-effect p, #about p { color: var(--body-text-color-subdued); font-size: .875rem; }
.notice p { background: #fef3e7; color: #7a3e06; border-left: 3px solid #d97706; padding: .5rem .75rem; margin: 0;
  border-radius: 4px; }
.dark .notice p { background: #3b2a16; color: #fcd9a8; }
#heard, #examples-label { margin-bottom: -.5rem; }
#examples { gap: .375rem; flex-wrap: wrap; }
#examples button { flex: 0 0 auto; min-width: 0; font-weight: 400; }
#chat { height: 420px; }
@media (max-width: 700px) {
  /* A finger's width; and the question before the conversation, which is empty at first. */
  button, input[type=text], #task input { min-height: 44px; min-width: 44px; }
  button svg { max-width: 24px; max-height: 24px; margin: auto; }
  .gradio-container { padding-top: .5rem !important; }
  /* An empty place for a clip needs no more than its words. */
  #clip .audio-container, #clip .upload-container { min-height: 0; height: auto; }
  #clip .upload-container > button, #clip > button, #clip .wrap { min-height: 96px; height: auto; padding: 0; }
  #clip .source-selection { height: auto; }
  #settings > button { padding-block: 0; }
  #buttons button { padding-inline: .5rem; white-space: nowrap; }
  #talk { display: flex; flex-direction: column; }
  #chat { order: 1; height: auto; min-height: 160px; max-height: 60vh; }
}
"""


def theme() -> Any:
    """Build the theme; its fonts are the system's own."""
    look = gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK KR", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    )
    # Gradio's own subdued text and primary button are too pale to read well.
    return look.set(
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )
