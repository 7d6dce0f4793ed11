"""Names on the model hub: whether one can be had, asked once and quickly.

Loading by name asks for every file, and again where nobody answers: a minute of log lines on a machine without network.
"""

from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from salmonn.config_paths import HUB_NAME

PATIENCE = 10.0
"""Seconds to wait for the hub's answer."""


def is_hub_name(value: str) -> bool:
    """Whether a value is a name on the hub and no folder here."""
    return not Path(value).is_dir() and HUB_NAME.fullmatch(value) is not None


def hub_problem(name: str, token: str | None) -> str:
    """Say why a model of the hub cannot be had, "" where it can be or is on this machine already."""
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return ""
    try:
        HfApi(token=token).model_info(name, timeout=PATIENCE)
    except GatedRepoError:
        return f"{name} is gated: ask for access on its page, and set the environment variable HF_TOKEN"
    except RepositoryNotFoundError:
        return f"{name} is no folder here, and the hub has no model of this name, or none that HF_TOKEN may see"
    except OfflineModeIsEnabled:
        return f"{name} is not on this machine, and HF_HUB_OFFLINE forbids asking the hub: name a folder that holds it"
    except Exception as error:  # noqa: BLE001 - whatever the network or its library comes to
        return (
            f"{name} is not on this machine, and the hub cannot be asked ({type(error).__name__}): "
            "connect, or name a folder that holds it"
        )
    return ""
