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
#spectrogram { margin-block: -.5rem; }
#spectrogram img { display: block; width: 100%; height: 112px; border-radius: 4px; }
/* Gradio's own grey is too pale to read well. */
#clip time, #clip .playback { color: var(--body-text-color-subdued) !important; }
#spectrogram .played { position: relative; overflow: hidden; }
#spectrogram .cursor { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 0 1px rgba(0, 0, 0, .55); }
#spectrogram .cursor[hidden] { display: none; }
/* Tasks as chips: the circle is there for the keyboard and for screen readers. */
.chips .wrap { gap: .375rem; max-height: 10.5rem; overflow-y: auto; }
.chips label { position: relative; border-radius: 999px !important; padding: .35rem .8rem !important;
  box-shadow: none; }
.chips label input { position: absolute; opacity: 0; width: 100%; height: 100%; left: 0; top: 0; margin: 0; }
.chips label span { margin: 0 !important; }
.chips label:has(:checked) { background: #0f766e !important; border-color: #0f766e !important; }
.chips label:has(:checked) span { color: #fff !important; }
.chips label:has(:focus-visible) { outline: 2px solid var(--body-text-color); outline-offset: 2px; }
#history { overflow-x: auto; }
#history table { width: 100%; border-collapse: collapse; font-size: .875rem; }
#history th, #history td { text-align: left; vertical-align: top; padding: .35rem .5rem; overflow-wrap: anywhere;
  border-width: 0 0 1px !important; border-color: var(--border-color-primary) !important; }
#history th { overflow-wrap: normal; }
#save { align-self: flex-start; flex: 0 0 auto; }
#chat { height: 420px; }
@media (max-width: 700px) {
  /* A finger's width; and the question before the conversation, which is empty at first. */
  button, input[type=text], .chips label { min-height: 44px; min-width: 44px; }
  .chips label { display: flex; align-items: center; }
  button svg { max-width: 24px; max-height: 24px; margin: auto; }
  .gradio-container { padding-top: .5rem !important; }
  /* An empty place for a clip needs no more than its words. */
  #clip .audio-container, #clip .upload-container { min-height: 0; height: auto; }
  #clip .upload-container > button, #clip > button, #clip .wrap { min-height: 96px; height: auto; padding: 0; }
  #clip .source-selection { height: auto; }
  #settings > button, #all-answers > button { padding-block: 0; align-items: center; }
  #buttons button { padding-inline: .5rem; white-space: nowrap; }
  #talk { display: flex; flex-direction: column; }
  /* The first message lies below the button that clears. */
  #chat .message-wrap { padding-top: 2.75rem; }
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
