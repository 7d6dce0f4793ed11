"""Models of `audiolm-evaluator run --model`: the only files that import torch and transformers, to load one."""
