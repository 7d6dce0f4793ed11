"""Clips that do not fit into memory, even alone: each is an answer without text, and the others go on."""

import logging
from collections import deque

from salmonn.errors import SalmonnError

logger = logging.getLogger(__name__)

REASON = "it does not fit into memory, even alone"
MOST_WITHOUT_ANSWER = 20
"""So many such clips before the first answer, the longest first, mean that the model itself does not fit."""


class UnfitClips:
    """Notes clips that did not fit, until they are told."""

    def __init__(self) -> None:
        self._noted = 0
        self._untold: deque[int] = deque()
        self.is_any_answered = False

    def note(self, index: int) -> None:
        """Note a clip.

        Raises:
            SalmonnError: none has ever fitted.
        """
        self._noted += 1
        if not self.is_any_answered and self._noted >= MOST_WITHOUT_ANSWER:
            raise SalmonnError(
                f"{self._noted} clips did not fit into memory, each alone, and none did: use a smaller model, "
                "model.quantize, fewer beams or a shorter answer"
            )
        logger.warning("clip %d has no answer: %s", index, REASON)
        self._untold.append(index)

    def taken(self) -> list[int]:
        """Those that were noted since this was asked last."""
        taken = list(self._untold)
        self._untold.clear()
        return taken
