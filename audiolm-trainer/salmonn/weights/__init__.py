"""Weights files: reading, comparing and writing them, names on the hub, digests."""
