"""The web page: a clip at the left, the conversation about it at the right, built with Gradio.

What happens to files and questions is in `demo/session.py`; here are the parts of the page and what starts what.
Nothing of it is offered as an API, and one visitor is answered at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from salmonn.demo.cursor import FOLLOW, over
from salmonn.demo.history import SAVE, Entry, extended, table
from salmonn.demo.modes import MODES, Choices, Mode, effect_of
from salmonn.demo.session import DemoSession, Message, offered_tasks
from salmonn.demo.spectrogram import picture
from salmonn.demo.task_titles import title_of
from salmonn.errors import SalmonnError
from salmonn.inference.conversation import FREE

if TYPE_CHECKING:
    from salmonn.inference.inference import SalmonnLM

TITLE = "Ask about a recording"
LEAD = "Upload or record a clip of speech, sound or music, choose a task, and the model answers in text."
ABOUT = (
    "Answers come from {name}. They can be wrong and in any language that it has learned. {tasks} Clips stay on the "
    "machine that runs this page and are deleted within two hours."
)
TASKS_KNOWN = "The list has the tasks that it was trained with."
TASKS_UNKNOWN = "Its checkpoint does not say which tasks it was trained with: the list has all that have a prompt."
# What an example is called -> the tasks that suit it, the first that is offered.
EXAMPLE_TASKS = {"speech": ("asr",), "sound": ("audiocaption_v2", "audiocaption")}
LONGEST_TEXT = 2000
KEPT_SECONDS = 3600
MOST_BEAMS, MOST_TOKENS = 10, 400
WAITING_VISITORS = 16


class Settings(NamedTuple):
    """The page's parts that say how to decode, in the order of `Choices`."""

    mode: Any
    num_beams: Any
    temperature: Any
    top_p: Any
    max_new_tokens: Any


class ClipParts(NamedTuple):
    """The left side: the visitor's session, the clip, its picture, how much is heard, what is wrong, the examples."""

    session: Any
    clip: Any
    picture: Any
    heard: Any
    notice: Any
    examples: dict[Path, Any]


class HistoryParts(NamedTuple):
    """Below: what was asked of all clips so far."""

    entries: Any
    whole: Any
    table: Any


class TalkParts(NamedTuple):
    """The right side: the conversation, what is wrong with the last question, and the next one."""

    chat: Any
    notice: Any
    task: Any
    text: Any
    ask: Any
    new: Any


def build_page(model: "SalmonnLM", *, name: str, examples: Path, longest: float) -> Any:
    """Build the page of one model.

    Args:
        model: answers the questions.
        name: what the model is called on the page.
        examples: a folder of clips to choose from.
        longest: seconds of the longest clip that is taken.

    Returns:
        Gradio's Blocks, with its queue, not yet launched.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(f"# {TITLE}\n{LEAD}", elem_id="heading")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                clip = _lay_clip(examples)
                settings = _lay_settings(Choices.from_settings(model.defaults))
            with gr.Column(scale=7, min_width=320, elem_id="talk"):
                talk = _lay_talk(model)
        history = _lay_history()
        tasks = TASKS_KNOWN if model.trained_tasks else TASKS_UNKNOWN
        gr.Markdown(ABOUT.format(name=name, tasks=tasks), elem_id="about")
        page.load(None, None, None, js=FOLLOW, show_progress="hidden", api_visibility="private", queue=False)
        _connect_clip(clip, talk, model, longest)
        _connect_task(talk, model)
        _connect_settings(settings)
        _connect_ask(clip, talk, history, settings, model)
    return page.queue(max_size=WAITING_VISITORS, default_concurrency_limit=1, api_open=False)


def _lay_clip(examples: Path) -> ClipParts:
    """Lay out the clip: upload or microphone, how much of it is heard, what is wrong with it, and the examples."""
    session = gr.State(None, time_to_live=KEPT_SECONDS)
    clip = gr.Audio(
        sources=["upload", "microphone"], type="filepath", label="Clip", elem_id="clip", editable=False, buttons=[]
    )
    seen = gr.HTML(visible=False, elem_id="spectrogram", padding=False)
    heard = gr.Markdown(visible=False, elem_id="heard")
    notice = gr.HTML(visible=False, elem_id="clip-notice", elem_classes="notice", padding=False)
    gr.Markdown("Or try an example:", elem_id="examples-label")
    with gr.Row(elem_id="examples"):
        shown = {
            path: gr.Button(_example_title(path), size="sm") for path in sorted(examples.glob("*.flac"), reverse=True)
        }
    return ClipParts(session, clip, seen, heard, notice, shown)


def _lay_settings(start: Choices) -> Settings:
    """Lay out how answers are decoded; what has no effect in a mode is disabled."""
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        mode = gr.Radio(
            [(mode.capitalize(), mode) for mode in MODES],
            value=start.mode,
            label="How the answer is chosen",
            elem_id="mode",
        )
        effect = gr.Markdown(effect_of(start.mode), elem_id="mode-effect")
        beams = gr.Slider(
            2, max(MOST_BEAMS, start.num_beams), value=start.num_beams, step=1, label="Beams (beam search only)",
            interactive=start.mode == "beam search", elem_id="beams",
        )  # fmt: skip
        temperature = gr.Slider(
            min(0.1, start.temperature), max(2.0, start.temperature), value=start.temperature, step=0.05,
            label="Temperature (sampling only)", interactive=start.mode == "sampling", elem_id="temperature",
        )  # fmt: skip
        top_p = gr.Slider(
            min(0.05, start.top_p), 1.0, value=start.top_p, step=0.05, label="Top-p (sampling only)",
            interactive=start.mode == "sampling", elem_id="top-p",
        )  # fmt: skip
        length = gr.Slider(
            1, max(MOST_TOKENS, start.max_new_tokens), value=start.max_new_tokens, step=1,
            label="Longest answer, in tokens", elem_id="length",
        )  # fmt: skip
    mode.change(effect_of, mode, effect, show_progress="hidden", api_visibility="private", queue=False)
    return Settings(mode, beams, temperature, top_p, length)


def _lay_talk(model: "SalmonnLM") -> TalkParts:
    """Lay out the conversation, the next question below it."""
    tasks = offered_tasks(model)
    choices = [("Your own words", FREE), *((title_of(task), task) for task in tasks)]
    first = tasks[0] if tasks else FREE
    chat = gr.Chatbot(
        label="Conversation", render_markdown=False, allow_tags=False, buttons=["copy"], elem_id="chat",
        placeholder="Choose a clip, then a task.", feedback_options=None, allow_file_downloads=False,
    )  # fmt: skip
    notice = gr.HTML(visible=False, elem_id="notice", elem_classes="notice", padding=False)
    task = gr.Radio(choices, value=first, label="Task", elem_id="task", elem_classes="chips")
    text = gr.Textbox(
        value="", visible=_needs_text(model, first), label=_text_label(first), lines=1, max_lines=4,
        max_length=LONGEST_TEXT, elem_id="text",
    )  # fmt: skip
    with gr.Row(elem_id="buttons"):
        new = gr.Button("New clip", elem_id="new", scale=1, min_width=100)
        ask = gr.Button("Ask", variant="primary", elem_id="ask", scale=3, min_width=100)
    return TalkParts(chat, notice, task, text, ask, new)


def _lay_history() -> HistoryParts:
    """Lay out the history; it appears with the first answer."""
    entries = gr.State([], time_to_live=KEPT_SECONDS)
    with gr.Accordion("All answers", open=False, visible=False, elem_id="all-answers") as whole:
        shown = gr.HTML(elem_id="history", padding=False)
        save = gr.Button("Save as CSV", size="sm", elem_id="save")
    save.click(None, None, None, js=SAVE, show_progress="hidden", api_visibility="private", queue=False)
    return HistoryParts(entries, whole, shown)


def _connect_clip(clip: ClipParts, talk: TalkParts, model: "SalmonnLM", longest: float) -> None:
    """A clip begins a conversation; no clip ends it."""

    def take(path: str | None) -> tuple[Any, ...]:
        if path is None:
            return None, gr.skip(), *_hidden(2), gr.skip(), [], _notice("")
        try:
            session = DemoSession(model, Path(path), longest=longest)
        except SalmonnError as error:
            return None, None, *_hidden(2), _notice(str(error)), [], _notice("")
        seen, heard = _picture(session), gr.update(value=session.heard, visible=True)
        return session, gr.skip(), seen, heard, _notice(""), [], _notice("")

    quietly = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [clip.session, clip.clip, clip.picture, clip.heard, clip.notice, talk.chat, talk.notice]
    clip.clip.change(take, clip.clip, outputs, **quietly)
    # A clip that cannot be used is taken away, and the sentence about it stays until the visitor acts.
    clip.clip.clear(lambda: _notice(""), None, clip.notice, queue=False, **quietly)
    talk.new.click(lambda: (None, _notice("")), None, [clip.clip, clip.notice], queue=False, **quietly)
    talk.chat.clear(_start_anew, clip.session, [talk.chat, talk.notice], **quietly)
    for path, button in clip.examples.items():
        button.click(
            _give(str(path), _example_task(path, offered_tasks(model))), None, [clip.clip, talk.task], **quietly
        )


def _connect_task(talk: TalkParts, model: "SalmonnLM") -> None:
    """The text field is there for the tasks that need it, under the name that they need it by."""

    def show(task: str) -> Any:
        return gr.update(visible=_needs_text(model, task), label=_text_label(task))

    talk.task.change(show, talk.task, talk.text, show_progress="hidden", api_visibility="private", queue=False)


def _connect_settings(settings: Settings) -> None:
    def enable(mode: Mode) -> list[Any]:
        sampling = gr.update(interactive=mode == "sampling")
        return [gr.update(interactive=mode == "beam search"), sampling, sampling]

    outputs = [settings.num_beams, settings.temperature, settings.top_p]
    settings.mode.change(enable, settings.mode, outputs, show_progress="hidden", api_visibility="private", queue=False)


def _connect_ask(
    clip: ClipParts, talk: TalkParts, history: HistoryParts, settings: Settings, model: "SalmonnLM"
) -> None:
    """Ask by button or Enter; all visitors share one place at the model."""

    def ask(
        session: DemoSession | None, entries: list[Entry], task: str, text: str | None, *chosen: Any
    ) -> Iterator[tuple[Any, ...]]:
        same = (gr.skip(), gr.skip(), gr.skip())
        if session is None:
            absent = "There is no clip yet: upload or record one, or choose an example."
            yield gr.skip(), gr.skip(), _notice(absent), *same
            return
        try:
            for messages in session.ask(task, text or "", Choices(*chosen).apply(model.defaults)):
                yield _literal(messages), gr.skip(), _notice(""), *same
        except SalmonnError as error:
            yield _literal(session.messages), gr.skip(), _notice(str(error)), *same
            return
        asked, said = session.messages[-2:]
        kept = extended(entries, Entry(session.conversation.clip.name, asked["content"], said["content"]))
        yield gr.skip(), "", gr.skip(), kept, gr.update(visible=True), table(kept)

    for event in (talk.ask.click, talk.text.submit):
        event(
            ask,
            [clip.session, history.entries, talk.task, talk.text, *settings],
            [talk.chat, talk.text, talk.notice, *history],
            show_progress="hidden",
            api_visibility="private",
            concurrency_id="model",
            concurrency_limit=1,
        )


def _start_anew(session: DemoSession | None) -> tuple[Any, Any]:
    """Forget what was said; the clip stays."""
    if session is not None:
        session.forget()
    return [], _notice("")


def _literal(messages: list[Message]) -> list[dict[str, str]]:
    """Escape messages: Gradio's chat reads tags even without Markdown."""
    return [{"role": said["role"], "content": escape(said["content"], quote=False)} for said in messages]


def _notice(sentence: str) -> Any:
    """Show a sentence, or nothing; it is escaped, because it repeats file names and words of visitors."""
    ended = sentence and f"{sentence[:1].upper()}{sentence[1:]}{'' if sentence[-1:] in '.!?)' else '.'}"
    return gr.update(value=f'<p role="alert">{escape(ended)}</p>', visible=bool(sentence))


def _picture(session: DemoSession) -> Any:
    """Show the spectrogram of what is heard, with its axes in words."""
    clip, rate = session.conversation.clip, session.conversation.model.sampling_rate
    words = f"Spectrogram: 0 to {clip.heard:.1f} s from left to right, 0 to {rate / 2000:g} kHz from below"
    shown = f'<img alt="{words}" title="{words}" src="{picture(clip.audio)}">'
    return gr.update(value=over(shown, clip.heard), visible=True)


def _hidden(count: int) -> list[Any]:
    return [gr.update(visible=False) for _ in range(count)]


def _needs_text(model: "SalmonnLM", task: str) -> bool:
    return task == FREE or model.prompts.tasks().get(task, False)


def _text_label(task: str) -> str:
    return "Your words to the model" if task == FREE else "Question"


def _example_title(path: Path) -> str:
    """speech_turn_on_the_light.flac -> Speech: turn on the light."""
    kind, _, rest = path.stem.partition("_")
    return f"{kind.capitalize()}: {rest.replace('_', ' ')}"


def _example_task(path: Path, tasks: Sequence[str]) -> Any:
    """The task that suits an example, or no change where none that does is offered."""
    suiting = EXAMPLE_TASKS.get(path.stem.partition("_")[0], EXAMPLE_TASKS["sound"])
    return next((task for task in suiting if task in tasks), gr.skip())


def _give(*values: Any) -> Callable[[], tuple[Any, ...]]:
    return lambda: values
