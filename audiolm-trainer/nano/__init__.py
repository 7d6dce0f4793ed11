"""The recipe of the nano model: synthetic data, pretraining of the parts, and the shipped components beside it.

Run `python -m nano.make_nano` in the folder above this one; MODEL_CARD.md says what comes out.
"""
