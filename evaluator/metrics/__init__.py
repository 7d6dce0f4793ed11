"""The metrics, one file each; nothing is imported here because some of them are slow to import."""
