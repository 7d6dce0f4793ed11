"""Which of transformers' auto classes loads a model, by its configuration.

In: a configuration. Out: the class, and how such a model is asked: by chat, as speech encoder and decoder, or by CTC.
"""

from typing import Any, Literal, NamedTuple

from evaluator.errors import ConfigError, Problem

Way = Literal["chat", "speech", "ctc"]
# transformers' name of the class -> how it is asked. In this order: a class in several is asked by the first.
_WAYS: dict[str, Way] = {
    "AutoModelForMultimodalLM": "chat",
    "AutoModelForSeq2SeqLM": "chat",
    "AutoModelForSpeechSeq2Seq": "speech",
    "AutoModelForCTC": "ctc",
    "AutoModelForCausalLM": "chat",
}


class AutoClass(NamedTuple):
    """The name of the auto class, and the way of asking."""

    name: str
    way: Way


def auto_class(config: Any, name: str) -> AutoClass:
    """Choose by the class that the configuration says the weights were saved from, else by the kind of model.

    Args:
        config: transformers' configuration.
        name: the model's, for messages.

    Raises:
        ConfigError: none of the classes has it, or its weights were saved without what answers.
    """
    import transformers

    remote: dict[str, Any] = getattr(config, "auto_map", None) or {}
    saved = set(getattr(config, "architectures", None) or ())
    fitting = []
    for auto, way in _WAYS.items():
        found = getattr(transformers, auto)._model_mapping._model_mapping.get(config.model_type)
        classes = set(found if isinstance(found, (tuple, list)) else [found]) - {None}
        # Causal language models hear nothing, but for those whose own code does.
        if auto in remote or (auto != "AutoModelForCausalLM" and classes and (not saved or classes & saved)):
            fitting.append(AutoClass(auto, way))
    if fitting:
        return fitting[0]
    kinds = ", ".join(_WAYS)
    told = f"{', '.join(sorted(saved)) or config.model_type} is in none of transformers' {kinds}"
    raise ConfigError("The model cannot be loaded.", [Problem(f"--model {name}", f"{told}: it does not answer audio")])
