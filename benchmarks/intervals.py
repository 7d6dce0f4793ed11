"""Time the interval of WER: `python benchmarks/intervals.py [--rows 10000] [--resamples 10000]`; CPU seconds."""

import argparse
import time

import numpy as np

from evaluator.statistics.bootstrap import ratio, resampled_sums
from evaluator.statistics.interval import percentiles


def main() -> None:
    """Make a set of transcripts' errors and draw from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    words = generator.integers(1, 30, size=arguments.rows)
    columns = np.stack([generator.binomial(words, 0.08), words], axis=1)
    begin = time.process_time()
    bounds = percentiles(ratio(resampled_sums(columns, resamples=arguments.resamples, seed=0)))
    taken = time.process_time() - begin
    print(f"{arguments.rows} rows, {arguments.resamples} resamples: {bounds}, {taken:.2f} s of CPU")


if __name__ == "__main__":
    main()
