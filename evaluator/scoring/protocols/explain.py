"""A signature in words, and what it needs that is installed otherwise here.

In: a signature, or the name of a protocol. Out: sentences; settings that replay it; versions that differ.
"""

import re
from collections.abc import Iterator
from importlib import metadata

from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, Problem
from evaluator.scoring.protocols.protocol import Protocol
from evaluator.scoring.protocols.signature import VERSION, Signature, evaluator_version
from evaluator.scoring.protocols.table import PROTOCOLS
from evaluator.tasks import TASKS
from evaluator.wording import did_you_mean

# What a field says. A value that is told in words of its own has them; "{}" is the value elsewhere.
_FIELDS: dict[str, dict[str, str]] = {
    "norm": {
        "whisper-en+13a": "Whisper's English normaliser, then sacreBLEU's 13a tokeniser",
        "whisper-en+13a+other-scripts-nfkc": "the same as for words; other scripts than Latin NFKC, with their marks",
        "whisper-en": "Whisper's English normaliser",
        "nfc+basic+marks": "NFC, basic normaliser, marks stay with their letters",
    },
    "tok": {
        "ptb": "CoreNLP 3.4.1's PTB tokens on both sides, each caption for itself",
        "ptb-whole-set": "CoreNLP 3.4.1's PTB tokens on both sides, each side as one text",
        **{name: f"sacreBLEU's tokens {name}" for name in ("13a", "zh", "char", "intl")},
    },
    "parse": {
        "strict": "an answer that names no choice, or several, is wrong",
        "mmau": "an answer has to hold every word of the right choice and none that only the others have",
    },
    "case": {"lower": "case does not count", "mixed": "case counts"},
    "punct": {"no": "punctuation does not count"},
    "spaces": {
        "yes": "spaces count as characters",
        "no": "spaces do not count",
        "where-written": "spaces count, but not beside letters of scripts that write none",
    },
    "spacing": {"reference": "the hypothesis is spaced as the reference where their characters align"},
    "compounds": {"merged": "neighbouring words that make one word of the other side are no error"},
    "unit": {
        "word": "words are counted",
        "char": "characters are counted",
        "caption": "captions are compared whole",
        "question": "questions are right or wrong",
        "clip": "clips are right or wrong",
        "set": "the set is scored as a whole",
    },
    "dual": {
        "none": "references are plain text",
        "spelling": "of (spelling)/(pronunciation) in references the spelling counts",
        "phonetic": "of (spelling)/(pronunciation) in references the pronunciation counts",
    },
    "refs": {"*": "references a row: {}"},
    "rows": {"*": "rows scored: {}"},
    **{key: {"*": f"sacreBLEU's field {key}: {{}}"} for key in ("nrefs", "eff", "smooth", "nc", "nw", "space")},
    "spice": {"*": "SPICE and CoreNLP: {}"},
    "spice-words": {"*": "captions are cut to {} words, for SPICE only"},
    "ci": {"*": "95 % interval by bootstrap; level, what is drawn, resamples, seed: {}"},
    "cider-d": {"set-wide": "CIDEr-D of the whole set at once: the numbers of aac-metrics' loop to 1e-9"},
    "sbert": {"*": "sentences are compared by the encoder {}"},
    "fer": {"*": "errors of fluency are found by {}, and take 90 % of a row's score"},
    "meteor": {"1.5-en-norm": "METEOR 1.5 with -l en -norm"},
}
_CAPTION_LIBRARY = "pycocoevalcap"
_NORMALIZER = "whisper-normalizer"
# What captions and English were scored by before; the numbers were the same, CIDEr-D's to 1e-9.
_FORMER = "aac-metrics"
_FORMER_NORMALIZER = "transformers"
_INTERVAL = re.compile(r"95,[^,]+,n([0-9]{1,5}|100000),seed([0-9]{1,18})")
_PACKAGES = frozenset(
    {_NORMALIZER, "sacrebleu", "jiwer", "kaldialign", "sentence-transformers", _CAPTION_LIBRARY, _FORMER}
    | {_FORMER_NORMALIZER}
)


def explain_protocol(name: str) -> list[str]:
    """A protocol in words: its title, and its steps for each task.

    Raises:
        ConfigError: there is none of that name.
    """
    return _steps(_named(name))


def explain(signature: Signature) -> list[str]:
    """A signature in words: the steps of its protocol, each of its fields, and which versions are here.

    Raises:
        ConfigError: its protocol is none.
    """
    protocol = _named(signature.get("protocol") or "")
    fields = [(f"{key}:{value}", _meaning(key, value)) for key, value in signature.fields if key != "protocol"]
    width = max((len(field) for field, _ in fields), default=0)
    lines = [f"{field:{width}}  {meaning}" for field, meaning in fields]
    differing = differences(signature)
    verdict = "Every version is the one installed here." if not differing else "Installed here otherwise:"
    return [*_steps(protocol, signature), "", *lines, "", verdict, *(f"  {problem}" for problem in differing)]


def differences(signature: Signature) -> list[Problem]:
    """The versions of a signature that are not those installed here, with what to do."""
    return list(_differences(signature))


def settings_of(signature: Signature) -> ScoringConfig:
    """The settings that replay a signature.

    Raises:
        ConfigError: it has a field or a value that this version does not know.
    """
    _named(signature.get("protocol") or "")
    problems = [
        Problem(key, f"this version knows no {key}:{value}")
        for key, value in signature.fields
        if key not in {"protocol", VERSION, *_PACKAGES} and not _known(key, value)
    ]
    words = signature.get("spice-words") or "80"
    if not problems and not (words.isdecimal() and 1 <= int(words) <= 1000):
        problems.append(Problem("spice-words", f"expected 1 to 1000, found {words}"))
    interval = _INTERVAL.fullmatch(signature.get("ci") or "95,clip,n0,seed0")
    if interval is None:
        problems.append(Problem("ci", f"this version knows no ci:{signature.get('ci')}"))
    if problems or interval is None:
        raise ConfigError("The signature cannot be replayed.", problems)
    dual = signature.get("dual") or "none"
    tokens = {"bleu_tokenizer": signature.get("tok")} if "smooth" in dict(signature.fields) else {}
    return ScoringConfig.model_validate(
        {
            "protocol": signature.get("protocol"),
            "dual_transcripts": dual,
            "spice_max_words": int(words),
            "meteor": signature.get("meteor") is not None,
            # Computed by name alone.
            **({"metrics": _by_models(signature)} if _by_models(signature) else {}),
            **tokens,
            "bootstrap_resamples": int(interval[1]),
            "bootstrap_seed": int(interval[2]),
        }
    )


def _named(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise ConfigError(f'"{name}" is no protocol; {did_you_mean(name, PROTOCOLS)}')
    return PROTOCOLS[name]


def _steps(protocol: Protocol, signature: Signature | None = None) -> list[str]:
    """Title and steps; of a protocol for several tasks those of the signature's."""
    lines = [f"{protocol.name}: {protocol.title}"]
    captions = signature is not None and signature.get("unit") == "caption"
    for task in TASKS:
        steps = protocol.steps.get(task.name, ())
        if not steps or (signature is not None and captions != (task.name == "aac")):
            continue
        lines += ["", task.title, *(f"  {number}. {step}" for number, step in enumerate(steps, start=1))]
    return lines


def _known(key: str, value: str) -> bool:
    meanings = _FIELDS.get(key, {})
    return value in meanings or "*" in meanings


def _meaning(key: str, value: str) -> str:
    if key == VERSION:
        return f"audiolm-evaluator {value}"
    if key in _PACKAGES:
        return f"{key} {value}"
    meanings = _FIELDS.get(key, {})
    return meanings.get(value) or meanings.get("*", "not known to this version").format(value)


def _differences(signature: Signature) -> Iterator[Problem]:
    for key, value in signature.fields:
        if key == VERSION and value != evaluator_version():
            yield Problem("audiolm-evaluator", f"the signature has {value}, installed is {evaluator_version()}")
        elif key == _FORMER and not _by_models(signature):
            yield Problem(
                key,
                f"the signature has {value}; this version scores captions without it, to the same numbers (CIDEr-D: to "
                "1e-9): score anew, without --signature, for a line that compares",
            )
        elif key == _FORMER_NORMALIZER and not _by_models(signature):
            yield Problem(
                key,
                f"the signature has {value}; this version normalises English by {_NORMALIZER}, to the same words: "
                "score anew, without --signature, for a line that compares",
            )
        elif key in _PACKAGES and (found := _installed(key)) != value:
            yield Problem(key, f"the signature has {value}, {_as_installed(found)}; pip install {key}=={value}")


def _by_models(signature: Signature) -> list[str]:
    """The metric of FENSE's models that a signature is of; none for other metrics."""
    has = {key for key, _ in signature.fields}
    if "fer" in has:
        return ["spider_fl" if "spice" in has else "fense" if "sbert" in has else "fer"]
    return ["sbert_sim"] if "sbert" in has else []


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _as_installed(version: str | None) -> str:
    return "it is not installed" if version is None else f"installed is {version}"
