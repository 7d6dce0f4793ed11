"""The prompt book: what a model that takes text is asked, by task label.

In: a YAML file, or the one that comes with the evaluator. Out: one text for a row.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evaluator.config.yaml import YamlError, read_document
from evaluator.errors import ConfigError, Problem

OWN_BOOK = Path(__file__).resolve().parents[1] / "data" / "prompts.yaml"
QUESTION = "{question}"


@dataclass(frozen=True, slots=True)
class PromptBook:
    """What is asked.

    Attributes:
        texts: task label -> text; "{question}" in it stands for the row's question.
        own: whether the user wrote it.
    """

    texts: dict[str, str]
    own: bool

    def ask(self, task: str, question: str) -> str:
        """What a row is asked: ("QA", "Who speaks?") -> "Who speaks?"."""
        return self.texts[task].replace(QUESTION, question)

    def tasks(self) -> dict[str, bool]:
        """The labels -> whether a row needs a question."""
        return {label: QUESTION in text for label, text in self.texts.items()}

    def fingerprint(self) -> str:
        """Tells this book's texts from others."""
        return hashlib.sha256(json.dumps(self.texts, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=4)
def read_prompts(path: Path | None) -> PromptBook:
    """Read a prompt book; None: the evaluator's own.

    Raises:
        ConfigError: with every problem, each with its line.
    """
    try:
        document = read_document(path or OWN_BOOK)
    except YamlError as error:
        raise ConfigError("The prompt book cannot be read.", [Problem(*error.problem)]) from error
    problems = [Problem(*problem) for problem in document.problems]
    for label, text in document.tree.items():
        if not isinstance(text, str) or not text.strip():
            problems.append(Problem(document.label(str(label)), "expected the text that is asked"))
    if not document.tree and not problems:
        problems.append(Problem(str(path), "it has no prompt: write lines such as  asr: Transcribe the speech."))
    if problems:
        raise ConfigError("The prompt book is wrong.", problems)
    return PromptBook({str(label): text for label, text in document.tree.items()}, own=path is not None)
