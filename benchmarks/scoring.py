"""Time and memory of scoring transcripts: `python benchmarks/scoring.py [--rows 10000 100000 1000000]`.

Each size is scored in a fresh process as a run scores it: WER and CER by `challenge`, intervals, diagnoses and
scores.json. Beside it stands what the normaliser and jiwer alone need for as many rows, measured in the same process on
the first 20,000. MB: the most that all its processes held at one time, the made-up texts among them. Linux only.
"""

import argparse
import contextlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jiwer

from evaluator.config.sections import ScoringConfig
from evaluator.cpu_threads import available_cpus
from evaluator.diagnosis.answers import Given
from evaluator.diagnosis.diagnosis import diagnosed
from evaluator.report.summary import write_scores
from evaluator.scoring.normalize import cer_text, wer_words
from evaluator.scoring.scored_set import score_set
from evaluator.statistics.units import Units
from evaluator.tasks import ASR

SAMPLE = 20_000
TEXT = (
    "the of and to in a is that was he it with as his on be at by i this had not are but from or have an they which "
    "one you were her all she there would their we him been has when who will more no if out so said what up its about "
    "into than them can only other new some could time these two may then do first any my now such like our over man "
    "me even most made after also did many before must through back years where much your way well down should "
    "because each just those people mr how too little state good very make world still own see men work long get here "
    "between both life being under never day same another know while last might us great old year off come since "
    "against go came right used take three twenty dollars don't can't colour"
)
WORDS = TEXT.split()


def main() -> None:
    """Score made-up sets of each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int, help="one size, in this process")
    options = parser.parse_args()
    if options.one:
        measure(options.one)
        return
    print(f"{available_cpus()} CPUs; normaliser and jiwer alone: CPU seconds for as many rows, and those by CPUs")
    titles = (("rows", 9), ("alone", 9), ("by CPUs", 9), ("CPU s", 9), ("x", 7), ("seconds", 9), ("x", 7), ("MB", 7))
    print("".join(f"{title:>{width}}" for title, width in titles))
    for rows in options.rows:
        subprocess.run([sys.executable, __file__, "--one", str(rows)], check=True)


def measure(rows: int) -> None:
    """Score one set, print its line."""
    rng = random.Random(0)
    references = [" ".join(rng.choices(WORDS, k=rng.randint(4, 14))) for _ in range(rows)]
    hypotheses = [answer(text, rng) for text in references]
    alone = seconds_alone(references[:SAMPLE], hypotheses[:SAMPLE]) * rows / min(rows, SAMPLE)
    ids = [f"test{row:07}" for row in range(rows)]
    peak, done = [0.0], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, done))
    watcher.start()
    cpu, wall = cpu_seconds(), time.perf_counter()
    scores = score_set(ASR, [(text,) for text in references], hypotheses, ScoringConfig(), Units())
    scores = diagnosed(
        scores, [Given(*row) for row in zip(ids, ((text,) for text in references), hypotheses, strict=True)]
    )
    with tempfile.TemporaryDirectory() as folder:
        write_scores(Path(folder) / "scores.json", scores, ids=ids)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    done.set()
    watcher.join()
    share = alone / available_cpus()
    figures = f"{alone:9.1f}{share:9.1f}{cpu:9.1f}{cpu / alone:7.2f}{wall:9.1f}{wall / share:7.2f}{peak[0]:7.0f}"
    print(f"{rows:9}{figures}", flush=True)


def answer(text: str, rng: random.Random) -> str:
    """A recogniser's answer: up to two words are others."""
    words = text.split()
    for _ in range(rng.randint(0, 2)):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def seconds_alone(references: list[str], hypotheses: list[str]) -> float:
    """CPU seconds of the normaliser, once for each text, and of jiwer on words and on characters."""
    wer_words("warm up")
    wer_words.cache_clear()
    begin = time.process_time()
    sides = [[(" ".join(wer_words(text)), cer_text(text)) for text in texts] for texts in (references, hypotheses)]
    jiwer.process_words(*([words for words, _ in side] for side in sides))
    jiwer.process_characters(*([characters for _, characters in side] for side in sides))
    seconds = time.process_time() - begin
    wer_words.cache_clear()
    cer_text.cache_clear()
    return seconds


def watch(peak: list[float], done: threading.Event) -> None:
    """Keep the most memory, in MB, that this process and those that it started hold at one time."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while not done.wait(0.1):
        held = 0.0
        for process in ("self", *children.read_text(encoding="ascii").split()):
            with contextlib.suppress(OSError):  # it has ended
                status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
                held += int(status.partition("VmRSS:")[2].partition("kB")[0] or 0) / 1024
        peak[0] = max(peak[0], held)


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
