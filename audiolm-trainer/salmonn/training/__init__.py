"""Training: the loop, its processes, checkpoints, validation and trackers."""
