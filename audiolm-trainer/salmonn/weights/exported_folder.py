"""The files of an exported folder: a LoRA adapter as peft names it, and everything else that is trained."""

ADAPTER_FILE, ADAPTER_CONFIG, BRIDGE_FILE = "adapter_model.safetensors", "adapter_config.json", "bridge.safetensors"
