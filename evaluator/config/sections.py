"""The sections of a configuration that the evaluator checks: datasets, run, scoring.

In: a section as plain values and where its keys stand. Out: a frozen pydantic model, and every problem with
its place, the value and the nearest key. Other keys of datasets and run belong to the model package, so that one file
serves training and evaluation.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evaluator.config.yaml import Document
from evaluator.errors import Problem
from evaluator.submission.invisible import is_invisible
from evaluator.wording import did_you_mean

SECTIONS = ("model", "generate", "datasets", "run", "scoring")

Section = TypeVar("Section", bound="StrictSection")


class StrictSection(BaseModel):
    """A section: values are what they are, and unknown keys are problems."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class DatasetsConfig(StrictSection):
    """Where annotations and audio are.

    Attributes:
        prefix: folder that the annotation's relative audio paths start from; "" is the working directory.
        test_ann_path_asr: annotation of the asr modes.
        test_ann_path_aac: annotation of the aac modes.
        test_ann_path_qa: annotation of the qa modes.
        test_ann_path_cls: annotation of the cls modes.
        test_ann_path_st: annotation of the st modes.
        shuffle_choices: a number that orders the choices of every question anew, always the same way; null leaves them.
        test_ann_path: deprecated: annotation of whatever mode runs.
        whisper_path: the original's; handed on and not read here, since the model makes its own features.
    """

    prefix: str = ""
    test_ann_path_asr: str = ""
    test_ann_path_aac: str = ""
    test_ann_path_qa: str = ""
    test_ann_path_cls: str = ""
    test_ann_path_st: str = ""
    shuffle_choices: int | None = None
    test_ann_path: str = ""
    whisper_path: str = ""


class RunConfig(StrictSection):
    """How to run; what is not the evaluator's alone is handed on to the model.

    Attributes:
        batch_size_eval: the most clips the model encodes together; with transformers' decoder it decodes as many. A
            server is asked about so many at once.
        decode_slots: clips that the model's own decoder decodes at a time; 0 for as many as free memory allows.
        num_workers: threads that read audio ahead; 0 reads without threads.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        output_dir: folder that gets submission_results/ and valid_results/; relative to the working
            directory.
        on_audio_error: "fail" stops before the model loads; "record" keeps a clip that cannot be read as a
            named row.
        empty_text: what the CSV says for an empty answer; may not be blank, or the file would not validate.
        latency_clips: the most clips that are asked alone when the results are written, to measure latency; 0 for
            none.
        clip_timeout_s: seconds without any answer after which a worker that has clips in hand is ended and its clips
            are asked again (--workers, --supervise); in a single process a warning. 0: never.
        max_failures: more rows without an answer than this end the run early: a number, or a share such as "5%".
        report: write report.html beside a run with scores.
        seed: for models that sample.
    """

    batch_size_eval: int = Field(default=8, ge=1, le=4096)
    decode_slots: int = Field(default=0, ge=0, le=4096)
    num_workers: int = Field(default=8, ge=0, le=128)
    device: str = "auto"
    output_dir: str = "."
    on_audio_error: Literal["fail", "record"] = "fail"
    empty_text: str = "."
    latency_clips: int = Field(default=8, ge=0, le=1000)
    clip_timeout_s: float = Field(default=600.0, ge=0)
    max_failures: int | str | None = None
    report: bool = True
    seed: int = 42

    EVALUATOR_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"on_audio_error", "empty_text", "latency_clips", "report", "clip_timeout_s", "max_failures"}
    )

    def most_failures(self, rows: int) -> int | None:
        """How many of so many rows may be without an answer; None: any number."""
        if isinstance(self.max_failures, str):
            return int(rows * float(self.max_failures.removesuffix("%")) / 100)
        return self.max_failures

    @field_validator("max_failures")
    @classmethod
    def _number_or_share(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str):
            share = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%", value)
            fits = share is not None and float(share[1]) <= 100
        else:
            fits = value is None or value >= 0
        if not fits:
            raise ValueError('expected a number of rows from 0, or a share of them such as "5%"')
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", value):
            raise ValueError('expected "auto", "cpu", "cuda" or "cuda:1"')
        return value

    @field_validator("output_dir")
    @classmethod
    def _named_folder(cls, value: str) -> str:
        if not value.strip() or "\0" in value:
            raise ValueError('expected a folder; "." is the working directory')
        return value

    @field_validator("empty_text")
    @classmethod
    def _visible_text(cls, value: str) -> str:
        if all(map(is_invisible, value)) or not value.isprintable():
            raise ValueError("expected one line with something visible in it: it stands for empty answers in the CSV")
        return value


class ScoringConfig(StrictSection):
    """What the valid modes score with.

    Attributes:
        protocol: how texts are normalised and compared: challenge, open-asr, dcase, ko-cer, ko-cer-spaced, ko-swer,
            ko-wer, cjk-cer or basic.
        dual_transcripts: side of KsponSpeech's (spelling)/(pronunciation) that the Korean protocols compare with.
        metrics: names of the metrics to compute; None: the task's usual ones.
        bleu_tokenizer: sacreBLEU's for translations: 13a for words at spaces, zh for Chinese, char for Japanese, intl.
        meteor: METEOR too (slow to start: another Java process).
        java_path: the `java` to use; "": the one that the requirements brought.
        cache_path: folder of SPICE's files; "": where `audiolm-evaluator setup-metrics` puts them.
        spice_max_words: captions longer than this are cut for SPICE, whose parser needs time that grows with
            the cube.
        threads: threads of the Java metrics.
        unit: what is drawn anew for the scores' intervals: "clip", or all clips of a "speaker" or "recording" together.
        unit_field: the annotation's field that tells speaker or recording, or "path:1" (the clip's folder), "path:2",
            "name:1" (the file's name up to its first - or _), "name:2"; "": the field "speaker" or "recording".
        bootstrap_resamples: draws for the intervals; 0 for none.
        bootstrap_seed: of the draws: the same seed, the same intervals.
    """

    protocol: str = "challenge"
    dual_transcripts: Literal["none", "spelling", "phonetic"] = "none"
    metrics: list[str] | None = None
    bleu_tokenizer: Literal["13a", "zh", "char", "intl"] = "13a"
    meteor: bool = False
    java_path: str = ""
    cache_path: str = ""
    spice_max_words: int = Field(default=80, ge=1, le=1000)
    threads: int = Field(default=2, ge=1, le=64)
    unit: Literal["clip", "speaker", "recording"] = "clip"
    unit_field: str = ""
    bootstrap_resamples: int = Field(default=1000, ge=0, le=100_000)
    bootstrap_seed: int = Field(default=0, ge=0)


_KINDS: Mapping[str, type[StrictSection]] = {"datasets": DatasetsConfig, "run": RunConfig, "scoring": ScoringConfig}


def take_foreign(kind: type[StrictSection], values: dict[str, Any]) -> dict[str, Any]:
    """Take the keys that a section does not know out of its values, and return them.

    A key that is another section's of the evaluator stays and is a problem there.
    """
    homes = {key for section in _KINDS.values() for key in section.model_fields}
    return {key: values.pop(key) for key in list(values) if key not in homes and key not in kind.model_fields}


def check_section(
    kind: type[Section],
    name: str,
    data: Mapping[str, Mapping[str, Any]],
    document: Document,
    problems: list[Problem],
) -> Section:
    """Check one section.

    Args:
        kind: the section's class.
        name: its name, for example "run".
        data: all sections as plain values; a key whose value is null has its default.
        document: knows where keys stand.
        problems: gets what is wrong.

    Returns:
        The section; keys with problems have their defaults (the caller raises after the last section).
    """
    section, found = validated(kind, name, data[name])
    problems += [Problem(document.label(dotted), message) for dotted, message in found]
    return section


def validated(kind: type[Section], name: str, given: Mapping[str, Any]) -> tuple[Section, list[tuple[str, str]]]:
    """A section of plain values, keys with problems at their defaults, and the problems as (dotted key, message)."""
    known = kind.model_fields
    # null means "not given"; a wrong key is wrong with any value
    values = {key: value for key, value in given.items() if value is not None or key not in known}
    try:
        return kind.model_validate(values), []
    except ValidationError as error:
        found: dict[str, str] = {}
        for detail in error.errors(include_url=False, include_context=True):
            key = str(detail["loc"][0])
            # A key of several kinds of value has an error for each; the first says enough.
            places = [str(place) for place in detail["loc"][1:] if isinstance(place, int)]
            found.setdefault(".".join([name, key, *places]), _message(kind, name, key, dict(detail)))
            values.pop(key, None)
    return kind.model_validate(values), list(found.items())


def _message(kind: type[StrictSection], section: str, key: str, detail: Mapping[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        homes = [name for name, kinds in _KINDS.items() if name != section and key in kinds.model_fields]
        if homes:
            return f'unknown key here; it belongs to the section "{homes[0]}"'
        return f"unknown key; {did_you_mean(key, kind.model_fields)}"
    found = json.dumps(detail["input"], default=str)
    found = found if len(found) <= 60 else found[:57] + "..."
    context = detail.get("ctx", {})
    wanted = {
        "string_type": "expected a text (in quotation marks if it looks like a number)",
        "int_type": "expected a whole number",
        "float_type": "expected a number",
        "dict_type": "expected keys with values",
        "bool_type": "expected true or false",
        "list_type": "expected a list",
        "greater_than": f"expected more than {context.get('gt')}",
        "greater_than_equal": f"expected {context.get('ge')} or more",
        "less_than_equal": f"expected {context.get('le')} or less",
        "literal_error": f"expected {context.get('expected')}",
        "value_error": str(context.get("error")),
    }.get(str(detail["type"]), str(detail["msg"]))
    return f"{wanted}, found {found}"
