"""Settings that were given as Python values, as the texts that `--options` takes."""

import json
from collections.abc import Mapping
from os import fspath

from evaluator.errors import ConfigError, Problem
from evaluator.wording import counted, shown


def option_texts(options: Mapping[str, object] | None) -> list[str]:
    """{"run.device": "cpu"} -> ['run.device="cpu"']: values are YAML there, as every JSON text is.

    Raises:
        ConfigError: values are neither numbers, texts, paths, None, nor lists or tables of them; each is named.
    """
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(f'options: expected a table such as {{"run.device": "cpu"}}, found {shown(options)}.')
    told, problems = list[str](), list[Problem]()
    for key, value in (options or {}).items():
        try:
            told.append(f"{key}={json.dumps(value, ensure_ascii=False, allow_nan=False, default=fspath)}")
        except (TypeError, ValueError):
            problems.append(Problem(f"options: {key}", f"expected a number, text, list or table, found {shown(value)}"))
    if problems:
        raise ConfigError(f"The options have {counted(problems)}:", problems)
    return told
