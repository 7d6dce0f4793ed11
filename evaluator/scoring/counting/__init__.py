"""Counting the errors of large sets: in batches, and beside each other on all CPUs."""
