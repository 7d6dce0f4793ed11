"""The text that a tokenizer's chat template puts around a prompt, for `model.prompt_template: chat`.

One user's turn and the beginning of the answer. The token for the beginning of a text is left out where the template
has it, for every sequence gets it anyway. What a template takes from the day or from a mode is held fixed (Llama 3's
own default date; no thinking), so that a model is asked as it was trained.
"""

import logging
from typing import Any

from salmonn.errors import PromptError
from salmonn.weights.hub import local_copy

logger = logging.getLogger(__name__)

CHAT = "chat"
SLOT = "{}"
_FIXED: dict[str, Any] = {"date_string": "26 Jul 2024", "enable_thinking": False}


def chat_template(path: str, token: str | None) -> str:
    """Render the chat template of a language model's folder around the prompt's place, {}.

    Args:
        path: the folder, or a name on the hub.
        token: of the hub.

    Raises:
        PromptError: the tokenizer cannot be read or has no chat template, or the template refuses one user's turn.
    """
    # Here, because only this needs transformers, and tasks are listed before it is imported.
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(local_copy(path), token=token)
    except Exception as error:  # transformers raises whatever its reading of a file comes to
        raise PromptError(f"model.prompt_template is {CHAT}, and no tokenizer can be read from {path!r}") from error
    text = rendered(tokenizer, path)
    logger.info("the chat template of %s: %r", path, text)
    return text


def rendered(tokenizer: Any, path: str) -> str:
    """The same of a tokenizer; `path` is what it is called in errors.

    Raises:
        PromptError: it has no chat template, or one that cannot be used.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError(f"the tokenizer of {path!r} has no chat template: write the text around {SLOT} instead")
    try:
        turn = [{"role": "user", "content": SLOT}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, **_FIXED)
    except Exception as error:  # a template is foreign code
        raise PromptError(f"the chat template of {path!r} cannot be used: {error}") from error
    beginning = tokenizer.bos_token
    text = str(text).removeprefix(beginning) if beginning else str(text)
    if text.count(SLOT) != 1:
        raise PromptError(f"the chat template of {path!r} has the prompt's place {text.count(SLOT)} times: {text!r}")
    return text
