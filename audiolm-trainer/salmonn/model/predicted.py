"""What a model predicts of a batch's target tokens, and what that costs: against the texts, and against a teacher."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


class LossOutput(NamedTuple):
    """Teacher-forced result of a batch: sums, so that batches of any size can be added up.

    Attributes:
        loss_sum: scalar float32, cross-entropy summed over all target tokens.
        correct: scalar int64, target tokens whose most likely prediction is right.
        total: target tokens, end symbols included.
        truncated: targets that were cut to `max_txt_len` tokens.
    """

    loss_sum: Tensor
    correct: Tensor
    total: int
    truncated: int

    @property
    def loss(self) -> Tensor:
        """The mean cross-entropy over the target tokens."""
        return self.loss_sum / self.total


class Predicted(NamedTuple):
    """What a batch's target tokens were predicted to be.

    Attributes:
        logits: float32 [total, V].
        wanted: int64 [total], the target tokens.
        truncated: targets that were cut.
    """

    logits: Tensor
    wanted: Tensor
    truncated: int

    def score(self) -> LossOutput:
        """Compare with the targets."""
        loss_sum = functional.cross_entropy(self.logits, self.wanted, reduction="sum")
        # The count stays on the device: reading it would wait for it.
        correct = (self.logits.detach().argmax(dim=-1) == self.wanted).sum()
        return LossOutput(loss_sum, correct, self.wanted.shape[0], self.truncated)

    def divergence(self, taught: "Predicted", temperature: float) -> Tensor:
        """Kullback-Leibler divergence from a teacher's predictions, both softened by a temperature T, summed.

        Times T squared, so that its gradients keep their size whatever T is.
        """
        ours, theirs = (functional.log_softmax(x.logits / temperature, dim=-1) for x in (self, taught))
        return temperature**2 * functional.kl_div(ours, theirs, reduction="sum", log_target=True)
