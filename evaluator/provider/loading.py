"""Loading the model of a model package, and what the package is called.

In: a package that offers `load_model` (evaluator/model.py) and the config. Out: a loaded model of the contract's shape;
whatever the package raises becomes an error that the user is told.
"""

from evaluator.config.config import Config
from evaluator.errors import AudioLMError, ModelLoadError, ends_by_signal
from evaluator.model import AudioLM, ModelProvider
from evaluator.provider.questions import missing_package


def load_model(provider: ModelProvider, config: Config) -> AudioLM:
    """Load the model on the configured device.

    Args:
        provider: the model package.
        config: the validated config; its pass-through sections go to the model package as they are.

    Returns:
        AudioLM: the loaded model.

    Raises:
        ModelLoadError: whatever the model package raised, chained.
    """
    try:
        model = provider.load_model(config.mapping(), config.run.device)
    except AudioLMError:
        raise
    except ModuleNotFoundError as error:
        raise ModelLoadError(missing_package(error).message) from None
    # The model package is foreign code: its own error types are not known here, and it may not end a run in silence.
    except (Exception, SystemExit) as error:
        if ends_by_signal(error):
            raise
        raise ModelLoadError(f"The model could not be loaded. {type(error).__name__}: {error}") from error
    if not isinstance(model, AudioLM):
        raise ModelLoadError(
            f"{name_of(provider)}.load_model returned {type(model).__name__}, "
            "which lacks sampling_rate or generate (see evaluator/model.py)."
        )
    return model


def name_of(provider: ModelProvider) -> str:
    """What the model package is called."""
    return str(getattr(provider, "__name__", type(provider).__name__))
