"""A process that counts errors; counting/processes.py starts it, nobody else should.

Pickled requests (names of comparisons, references, hypotheses) come in on standard input; the ErrorRates, or the
exception that there was, go out on standard output. It ends when its input does.
"""

import os
import pickle
import signal
import sys

from evaluator.scoring.counting.batches import count_batch
from evaluator.scoring.normalize import cer_text, wer_words
from evaluator.scoring.protocols.basic_text import basic_text


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    # Standard output is for answers: what else is printed there goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: object = count_batch(*request)
        except Exception as error:  # noqa: BLE001 - raised where the request came from
            answer = error
        pickle.dump(answer, answers)
        answers.flush()
        # Within a batch the ways of comparing share these; over a large set they would only grow.
        for cache in (wer_words, cer_text, basic_text):
            cache.cache_clear()


if __name__ == "__main__":
    main()
