"""Annotations: the rows of a set, their fields and references, every problem of a file in one report."""
