"""CIDEr-D of a large set, beside aac-metrics' own loop: `python benchmarks/cider.py [--clips 20000] [--references 5]`.

Made-up captions of 12 words on average from 4,000 words as frequent as in text. Both run once, on one thread; the ratio
of their CPU seconds is the figure, and the largest difference of a clip's score says that they compute the same.
"""

import argparse
import time
from random import Random

from aac_metrics.functional.cider_d import cider_d as loop

from evaluator.scoring.cider import cider_d

VOCABULARY = 4000


def main() -> None:
    """Draw a set, score it in both ways, print seconds and the difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--references", type=int, default=5)
    options = parser.parse_args()
    rng = Random(0)
    words, weights = [f"w{rank}" for rank in range(VOCABULARY)], [1 / (rank + 1) for rank in range(VOCABULARY)]

    def caption() -> str:
        return " ".join(rng.choices(words, weights, k=rng.randint(8, 16)))

    references = [[caption() for _ in range(options.references)] for _ in range(options.clips)]
    # A third of the answers are a reference; of others almost nothing longer than a word is shared.
    hypotheses = [row[0] if rng.random() < 1 / 3 else caption() for row in references]
    begin = time.process_time()
    ours = cider_d(hypotheses, references)
    middle = time.process_time()
    theirs = loop(hypotheses, references)[1]["cider_d"].numpy()
    end = time.process_time()
    print(f"{options.clips} clips x {options.references} references, largest difference {abs(ours - theirs).max():.1e}")
    print(f"aac-metrics {end - middle:.2f} CPU s, here {middle - begin:.2f}: {(end - middle) / (middle - begin):.1f} x")


if __name__ == "__main__":
    main()
