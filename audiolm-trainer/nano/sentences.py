"""The little language that the nano model speaks: commands, questions and digit strings.

A random generator goes in; a lower-case sentence comes out. Every sentence is either for training or held out,
decided by a checksum of its text, so a held-out sentence is a new combination of known words.
"""

import zlib
from collections.abc import Callable
from random import Random

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
AMOUNTS = (
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "twenty",
)
ROOMS = ("kitchen", "bedroom", "garden", "office", "garage", "attic", "hallway", "bathroom")
DEVICES = ("light", "radio", "heater", "fan", "camera", "printer", "television")
DAYS = ("monday", "wednesday", "friday", "saturday")
TIMES = ("morning", "afternoon", "evening")
CITIES = ("london", "paris", "tokyo", "madrid", "boston", "chicago")
HELD_OUT_SHARE = 10


def _digits(rng: Random) -> str:
    string = " ".join(rng.choice(DIGITS) for _ in range(rng.randint(3, 6)))
    return rng.choice(("", "", "the number is ", "my code is ")) + string


def _switch(rng: Random) -> str:
    please = rng.choice(("", "please "))
    return f"{please}turn {rng.choice(('on', 'off'))} the {rng.choice(ROOMS)} {rng.choice(DEVICES)}"


def _timer(rng: Random) -> str:
    what = rng.choice(("set a timer", "set an alarm", "start a timer"))
    end = rng.choice(("", " please"))
    return f"{what} for {rng.choice(AMOUNTS)} {rng.choice(('minutes', 'hours', 'seconds'))}{end}"


def _open(rng: Random) -> str:
    thing = rng.choice(("door", "window", "curtain", "cupboard"))
    end = rng.choice(("", " please", " now"))
    return f"{rng.choice(('open', 'close', 'check'))} the {rng.choice(ROOMS)} {thing}{end}"


def _music(rng: Random) -> str:
    style = rng.choice(("quiet", "happy", "modern", "classic", "loud"))
    where = rng.choice(("", f" in the {rng.choice(ROOMS)}"))
    return f"play some {style} {rng.choice(('jazz', 'piano', 'guitar', 'violin'))} music{where}"


def _call(rng: Random) -> str:
    who = rng.choice(("doctor", "uncle", "sister", "teacher", "dentist", "neighbor"))
    return f"call my {who} on {rng.choice(DAYS)} {rng.choice(TIMES)}"


def _weather(rng: Random) -> str:
    what = rng.choice(("weather", "temperature", "traffic"))
    return f"what is the {what} in {rng.choice(CITIES)} on {rng.choice(DAYS)} {rng.choice(TIMES)}"


def _shopping(rng: Random) -> str:
    thing = rng.choice(("apples", "bananas", "lemons", "tickets", "candles", "pencils"))
    who = rng.choice(("me", "my sister", "my uncle"))
    return f"remind {who} to buy {rng.choice(AMOUNTS)} {thing}" + rng.choice(("", f" on {rng.choice(DAYS)}"))


def _drive(rng: Random) -> str:
    way = rng.choice(("forward", "backward", "left", "right"))
    return f"robot drive {way} {rng.choice(AMOUNTS)} {rng.choice(('meters', 'steps'))} and stop"


# The digit strings come first; `draw_sentence` relies on it.
_FAMILIES: tuple[tuple[Callable[[Random], str], int], ...] = (
    (_digits, 5),
    (_switch, 2),
    (_timer, 2),
    (_open, 2),
    (_music, 2),
    (_call, 2),
    (_weather, 2),
    (_shopping, 2),
    (_drive, 2),
)


def is_held_out(sentence: str) -> bool:
    """Say whether a sentence belongs to the evaluation side; about one in ten does."""
    return zlib.crc32(sentence.encode()) % HELD_OUT_SHARE == 0


def draw_sentence(rng: Random, *, held_out: bool, digit_share: float | None = None) -> str:
    """Draw one sentence of the wanted side.

    Args:
        rng: Source of chance.
        held_out: The side.
        digit_share: How many of the sentences are digit strings, 0 to 1; None is the grammar's own share, 5 in 21.

    Example:
        "please turn off the attic heater", "my code is four seven seven one".
    """
    families, weights = zip(*_FAMILIES, strict=True)
    if digit_share is not None:
        others = sum(weights[1:])
        weights = (digit_share, *((1 - digit_share) * weight / others for weight in weights[1:]))
    family = rng.choices(families, weights)[0]
    while True:
        sentence = family(rng)
        if is_held_out(sentence) == held_out:
            return sentence
