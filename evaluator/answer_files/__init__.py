"""Answers that are on disk, whoever made them: read, matched with an annotation, scored without a model."""
