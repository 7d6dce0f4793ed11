"""From prompt embeddings to token ids: our own decoder, and transformers' for comparison and exotic models.

`decoder.py` is the way in; nothing is imported here, because PyTorch is slow to import.
"""
