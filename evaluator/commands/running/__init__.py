"""The evaluate command for models that are chosen by name."""
