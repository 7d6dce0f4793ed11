"""Every protocol by its name: one value for each, and the one that a configuration names.

A protocol decides the number more than the program does, so that every score carries its signature. docs/protocols.md
has a section for each.
"""

from collections.abc import Mapping
from types import MappingProxyType

from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, Problem
from evaluator.scoring.protocols.protocol import CaptionRules, Fields, Protocol, Rate
from evaluator.tasks import TASKS, Task
from evaluator.wording import did_you_mean

_ENGLISH = (
    "Whisper's English normaliser (whisper-normalizer's class, OpenAI's spelling map), once, on raw text of both sides."
)
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
_CHALLENGE_PACKAGES = ("whisper-normalizer", "sacrebleu", "jiwer")


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
    "CIDEr-D (0 to 10) of the whole set at once, by the evaluator's own code; BLEU and ROUGE-L by pycocoevalcap; "
    "METEOR 1.5; SPICE 1.0 from the jar's own classes; SPIDEr is (CIDEr-D + SPICE) / 2.",
    "SPICE's parser takes time with the cube of a caption's length: for SPICE alone every caption, of both sides, is "
    "cut to its first scoring.spice_max_words words, so that an answer that loops costs no more than a long one.",
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
            ("whisper-normalizer", "kaldialign"),
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

_CLASSES = Protocol(
    name="classes",
    title="classes of a word or two: emotion, gender and the like",
    steps={
        "cls": (
            "The classes are the texts of the set's references; an answer is a class, or it is wrong and counted.",
            "Texts are compared whole, in lower case, with white space as one space, without quotes and full stops "
            "around them.",
            "accuracy: right answers by all clips. macro-F1: the unweighted mean of the classes' F1.",
        )
    },
)

_TRANSLATION = Protocol(
    name="translation",
    title="translations by sacreBLEU",
    steps={
        "st": (
            "Raw texts, case counts; one reference a row.",
            "BLEU with scoring.bleu_tokenizer's tokens, and chrF, of the set as a whole, 0 to 100.",
        )
    },
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            _CHALLENGE,
            _OPEN_ASR,
            _DCASE,
            *_KOREAN,
            _CJK,
            _BASIC_PROTOCOL,
            _ANSWERS,
            _CLASSES,
            _TRANSLATION,
        )
    }
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
