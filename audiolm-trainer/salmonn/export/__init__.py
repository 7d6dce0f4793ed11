"""Handing a model on: files in several forms, each with its model card."""
