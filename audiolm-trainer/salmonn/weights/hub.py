"""Names on the model hub: the copy that is on this machine already, and whether another one can be had.

Loading by name asks the hub for every file, and again and again where nobody answers: on a machine without network
minutes of log lines, although all files are in the cache. So a copy that is whole is used as the folder it is, without
asking for a newer one; for what is not here the hub is asked once, and quickly.
"""

import json
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from salmonn.config.paths import HUB_NAME

PATIENCE = 10.0
"""Seconds to wait for the hub's answer."""
WEIGHTS = ("*.safetensors", "*.bin")
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def is_hub_name(value: str) -> bool:
    """Whether a value is a name on the hub and no folder here."""
    return not Path(value).is_dir() and HUB_NAME.fullmatch(value) is not None


def local_copy(value: str) -> str:
    """The folder of a hub name's whole copy in the cache; any other value as it is."""
    if not is_hub_name(value):
        return value
    try:
        folder = Path(snapshot_download(value, local_files_only=True))
    except Exception:  # noqa: BLE001 - whatever is wrong with the cache: the loader that asks the hub says more
        return value
    return str(folder) if _is_whole(folder) else value


def hub_problem(name: str, token: str | None) -> str:
    """Say why a model of the hub cannot be had, "" where it can be or is on this machine already."""
    if local_copy(name) != name:
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


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot has its sizes, and its weights with every file that an index of them names."""
    if not (folder / "config.json").is_file():
        return False
    for name in INDICES:
        if (folder / name).is_file():
            try:
                named = set(json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                return False
            return all((folder / str(file)).is_file() for file in named)
    return any(any(folder.glob(pattern)) for pattern in WEIGHTS)
