"""The protocols: what each does to texts, what it counts, and how it signs. One value for each; the table is PROTOCOLS.

A protocol is chosen by its name (`scoring.protocol`). It decides the number more than the program does, so that every
score carries its signature. docs/protocols.md has a section for each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import TYPE_CHECKING

from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, Problem
from evaluator.scoring.protocols.signature import Signature, sign
from evaluator.tasks import TASKS, Task, TaskName
from evaluator.wording import did_you_mean

# jiwer is imported where something is compared: a command's --help imports this file.
if TYPE_CHECKING:
    from evaluator.scoring.wer import ErrorRate

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """One error rate of a protocol.

    Attributes:
        metric: its name among the metrics: "wer", "cer", "swer".
        compare: function of comparison.py that counts its errors: raw references, raw hypotheses -> counts.
        words: the protocol in one line.
        fields: what its signature says besides protocol, references, rows and versions.
        packages: distributions whose versions decide it.
        one_to_one: whether a hypothesis's words are counted as they stand; False where some are merged.
    """

    metric: str
    compare: str
    words: str
    fields: Fields
    packages: tuple[str, ...]
    one_to_one: bool = True

    def counts(self, references: Sequence[str], hypotheses: Sequence[str]) -> "ErrorRate":
        """Count the errors of a set of raw texts."""
        from evaluator.scoring.protocols import comparison

        compare: Callable[[Sequence[str], Sequence[str]], ErrorRate] = getattr(comparison, self.compare)
        return compare(references, hypotheses)

    def described(self) -> str:
        """The protocol in one line, with the versions of what it is made of."""
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in self.packages)
        return f"{self.words} ({versions})"


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How a protocol scores captions.

    Attributes:
        usual: metrics that are computed unless others are named.
        alone: whether each caption is tokenised for itself, so that its tokens do not depend on its neighbours.
        lowered: whether candidates are lower-cased before anything else.
    """

    usual: tuple[str, ...]
    alone: bool
    lowered: bool


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol.

    Attributes:
        name: as settings and signatures have it.
        title: what it is for, in one line.
        steps: what is done, in order, for each task that it scores.
        rates: its error rates; empty if it scores no transcripts.
        captions: how it scores captions; None if it does not.
        dual: whether it reads KsponSpeech's dual transcripts.
        english: whether its normaliser is made for English and destroys letters of other scripts.
    """

    name: str
    title: str
    steps: Mapping[TaskName, tuple[str, ...]]
    rates: tuple[Rate, ...] = ()
    captions: CaptionRules | None = None
    dual: bool = False
    english: bool = False

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """What it scores."""
        return tuple(self.steps)

    def sign_rate(self, rate: Rate, *, rows: int, dual: str) -> Signature:
        """The signature of one of its error rates.

        Args:
            rate: which.
            rows: of the set.
            dual: side of dual transcripts that is read, "none" for plain text.
        """
        option: Fields = (("dual", dual),) if self.dual else ()
        fields = (("protocol", self.name), *rate.fields, *option, ("refs", "1"), ("rows", str(rows)))
        return sign(fields, rate.packages)

    def sign_captions(self, own: Fields, *, references: Sequence[Sequence[str]]) -> Signature:
        """The signature of a caption metric.

        Args:
            own: what the metric says besides.
            references: of the set, one tuple a row.
        """
        counts = [len(row) for row in references]
        fewest, most = min(counts, default=0), max(counts, default=0)
        common = (
            ("protocol", self.name),
            ("tok", "ptb" if self.captions is not None and self.captions.alone else "ptb-whole-set"),
            ("case", "lower"),
            ("punct", "no"),
            ("unit", "caption"),
            ("refs", str(most) if fewest == most else f"{fewest}-{most}"),
            ("rows", str(len(counts))),
        )
        return sign((*common, *own), ("aac-metrics",))


_ENGLISH = "Whisper's English normaliser (transformers' class, OpenAI's spelling map), once, on raw text of both sides."
_COMPOSED = "Both sides are composed (NFC): composed and decomposed input score the same."
_BASIC = (
    "Basic normaliser: lower case; what stands in <>, [] or () is dropped; compatibility forms are replaced (NFKC); "
    "symbols and punctuation become spaces."
)
_MARKS = "Marks stay with their letter: voicing marks, vowel signs and accents make other letters."
_CORPUS = "The rate of the set is all edits over all reference {0}s, not a mean over rows."
_DUAL = (
    "Where scoring.dual_transcripts says so, of (spelling)/(pronunciation) in a reference one side is taken, and marks "
    "of noise and hesitation are dropped; pairs without that setting are an error."
)

_WORDS: Fields = (("norm", "whisper-en+13a"), ("case", "lower"), ("punct", "no"), ("unit", "word"))
_CHALLENGE_CER: Fields = (
    ("norm", "whisper-en+13a+other-scripts-nfkc"),
    ("case", "lower"),
    ("punct", "no"),
    ("spaces", "where-written"),
    ("unit", "char"),
)
_CHALLENGE_PACKAGES = ("transformers", "sacrebleu", "jiwer")


def _basic(unit: str, *further: tuple[str, str]) -> Fields:
    return (("norm", "nfc+basic+marks"), ("case", "lower"), ("punct", "no"), *further, ("unit", unit))


_UNSPACED_CER = Rate(
    "cer",
    "unspaced_characters",
    "NFC + basic normaliser with marks; characters without spaces",
    _basic("char", ("spaces", "no")),
    ("jiwer",),
)
_SPACED_CER = Rate(
    "cer",
    "basic_characters",
    "NFC + basic normaliser with marks; characters, spaces count",
    _basic("char", ("spaces", "yes")),
    ("jiwer",),
)
_BASIC_WER = Rate(
    "wer", "basic_word_errors", "NFC + basic normaliser with marks; words at spaces", _basic("word"), ("jiwer",)
)

_CAPTION_STEPS = (
    "Each run of white space, line separators among them, is one space.",
    "CoreNLP 3.4.1's PTB tokeniser on both sides, lower case, without punctuation tokens; {0}.",
    "All references of a clip count; rows of one testset_id and file are one clip.",
    "CIDEr-D (0 to 10), BLEU, ROUGE-L and METEOR by aac-metrics; SPICE 1.0 from the jar's own classes, captions cut to "
    "scoring.spice_max_words words for SPICE only; SPIDEr is (CIDEr-D + SPICE) / 2.",
)
_BLEU = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")

_CHALLENGE = Protocol(
    name="challenge",
    title="the challenge's own scores: the original evaluator's WER to the digit, CER, and captions",
    steps={
        "asr": (
            "Hypotheses are lower-cased, as the original does.",
            _ENGLISH,
            "sacreBLEU's 13a tokeniser; tokens that are punctuation throughout are dropped; lower case; words at "
            "spaces.",
            "For CER the same words joined by one space; letters of other scripts than Latin pass the normaliser "
            "untouched, NFKC, with their marks, and spaces beside scripts that write none do not count.",
            _CORPUS.format("word or character"),
        ),
        "aac": (
            "Candidates are lower-cased, as the original does.",
            _CAPTION_STEPS[0],
            _CAPTION_STEPS[1].format("each caption for itself, so that its tokens do not depend on its neighbours"),
            *_CAPTION_STEPS[2:],
        ),
    },
    rates=(
        Rate("wer", "challenge_words", "whisper-en + 13a", _WORDS, _CHALLENGE_PACKAGES),
        Rate(
            "cer",
            "challenge_characters",
            "whisper-en + 13a; other scripts than Latin NFKC with their marks; spaces count, but not beside scripts "
            "that write none",
            _CHALLENGE_CER,
            _CHALLENGE_PACKAGES,
        ),
    ),
    captions=CaptionRules(usual=("spider", "cider_d", "spice", *_BLEU, "rouge_l"), alone=True, lowered=True),
    english=True,
)

_OPEN_ASR = Protocol(
    name="open-asr",
    title="English WER as the Open ASR Leaderboard counts it",
    steps={
        "asr": (
            _ENGLISH,
            "Words at spaces; no tokeniser, nothing else is dropped.",
            "kaldialign counts, with merged compounds: neighbouring words of one side that make a word of the other "
            "side are no error (white paper, whitepaper).",
            _CORPUS.format("word"),
        )
    },
    rates=(
        Rate(
            "wer",
            "open_asr_words",
            "whisper-en, words at spaces, compounds merged",
            (("norm", "whisper-en"), ("case", "lower"), ("punct", "no"), ("compounds", "merged"), ("unit", "word")),
            ("transformers", "kaldialign"),
            one_to_one=False,
        ),
    ),
    english=True,
)

_DCASE = Protocol(
    name="dcase",
    title="captions as DCASE's tasks score them with aac-metrics' evaluate",
    steps={
        "aac": (
            _CAPTION_STEPS[0],
            _CAPTION_STEPS[1].format("all captions of a side in one text, as aac-metrics' evaluate gives them"),
            *_CAPTION_STEPS[2:],
        )
    },
    captions=CaptionRules(usual=("spider", "cider_d", "spice", "meteor"), alone=False, lowered=False),
)


def _korean(name: str, title: str, rate: Rate, *counted: str) -> Protocol:
    steps = (
        _DUAL,
        _COMPOSED,
        _BASIC,
        _MARKS,
        *counted,
        _CORPUS.format("word" if "wer" in rate.metric else "character"),
    )
    return Protocol(name, title, {"asr": steps}, rates=(rate,), dual=True)


_KOREAN = (
    _korean("ko-cer", "Korean CER without spaces", _UNSPACED_CER, "Spaces are left out; a syllable is one character."),
    _korean(
        "ko-cer-spaced",
        "Korean CER with spaces",
        _SPACED_CER,
        "The space between two words is a character; so is a syllable.",
    ),
    _korean(
        "ko-swer",
        "Korean WER that does not count spacing (sWER)",
        Rate(
            "swer",
            "respaced_words",
            "NFC + basic normaliser with marks; words, spaced as the reference where characters align",
            _basic("word", ("spacing", "reference")),
            ("jiwer",),
        ),
        "The characters of both sides are aligned without spaces. Between two neighbours of the hypothesis "
        "that both align there is a space if the reference has one between their partners; beside a character that is "
        "too many the hypothesis keeps its own spacing.",
        "Words at spaces.",
    ),
    _korean("ko-wer", "Korean WER", _BASIC_WER, "Words at spaces, each side's own."),
)

_CJK = Protocol(
    name="cjk-cer",
    title="Chinese and Japanese CER",
    steps={"asr": (_COMPOSED, _BASIC, _MARKS, "Spaces are left out.", _CORPUS.format("character"))},
    rates=(_UNSPACED_CER,),
)

_BASIC_PROTOCOL = Protocol(
    name="basic",
    title="WER and CER of any language whose words stand between spaces",
    steps={
        "asr": (
            _COMPOSED,
            _BASIC,
            _MARKS,
            "WER: words at spaces. CER: code points, the space between two words among them.",
            _CORPUS.format("word or character"),
        )
    },
    rates=(_BASIC_WER, _SPACED_CER),
)

_ANSWERS = Protocol(
    name="answers",
    title="answers to questions, free or of given choices",
    steps={
        "qa": (
            "With choices an answer is a letter, the text of a choice, or both where they agree; one that names none, "
            "or several, is wrong and counted.",
            "Texts are compared in lower case, with white space as one space, without quotes and full stops around "
            "them.",
            "accuracy: right answers by all questions. MMAU match, for questions with choices: the answer holds every "
            "word of the right choice and no word that only the others have.",
        )
    },
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {protocol.name: protocol for protocol in (_CHALLENGE, _OPEN_ASR, _DCASE, *_KOREAN, _CJK, _BASIC_PROTOCOL, _ANSWERS)}
)
"""Every protocol by its name."""


def protocol_of(task: Task, config: ScoringConfig) -> Protocol:
    """The protocol that a configuration names.

    Raises:
        ConfigError: there is none of that name, it does not score the task, or it reads no dual transcripts although
            the configuration names a side of them.
    """
    found = PROTOCOLS.get(config.protocol)
    if found is None:
        raise _wrong("protocol", f'"{config.protocol}" is no protocol; {did_you_mean(config.protocol, PROTOCOLS)}')
    if task.name not in found.steps:
        titles = " and ".join(each.title for each in TASKS if each.name in found.steps)
        fitting = ", ".join(name for name, each in PROTOCOLS.items() if task.name in each.steps)
        raise _wrong("protocol", f"{found.name} scores {titles}; {task.title} has {fitting}")
    if config.dual_transcripts != "none" and not found.dual:
        names = ", ".join(name for name, each in PROTOCOLS.items() if each.dual)
        raise _wrong("dual_transcripts", f"{found.name} reads no dual transcripts; {names} do")
    return found


def _wrong(key: str, message: str) -> ConfigError:
    return ConfigError("The protocol of the scores cannot be used.", [Problem(f"scoring.{key}", message)])
