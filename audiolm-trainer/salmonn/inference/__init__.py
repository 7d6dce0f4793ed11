"""Answering: the object that meets the contract of the evaluator, and conversations about one clip."""
