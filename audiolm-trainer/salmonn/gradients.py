"""Computing without gradients, as cheaply as a model allows."""

import torch
from torch import nn


def without_gradients(model: nn.Module) -> type[torch.no_grad] | type[torch.inference_mode]:
    """The mode to answer in: PyTorch's inference mode, which does less for every operation, where nothing is trained.

    Its tensors can take no part in training, and parameters that several processes share move in training's own way;
    a model that is being trained answers with gradients off.

    Args:
        model: what answers.

    Returns:
        A context manager, to be made anew for each use; also a decorator.
    """
    trained = any(parameter.requires_grad for parameter in model.parameters())
    return torch.no_grad if trained else torch.inference_mode
