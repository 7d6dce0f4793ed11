"""Checkouts in the layout of the original SALMONN trainer, run as they are."""
