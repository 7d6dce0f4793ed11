"""The dry run: what a training run will need, computed and rehearsed before it starts."""
