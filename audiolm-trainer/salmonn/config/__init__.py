"""What can be configured: the YAML file and its overrides in, one checked Config out; what checkpoints record."""
