"""What a trained model can be exported as, and the files of an exported folder: peft's adapter, and everything else."""

from typing import Literal, get_args

Form = Literal["pth", "safetensors", "peft", "merged"]
FORMS: tuple[Form, ...] = get_args(Form)
ADAPTER_FILE, ADAPTER_CONFIG, BRIDGE_FILE = "adapter_model.safetensors", "adapter_config.json", "bridge.safetensors"
