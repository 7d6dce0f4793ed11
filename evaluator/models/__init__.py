"""Models of `audiolm-evaluator run --model`: the only files that import torch, transformers or openai, to load one."""
