"""The synthetic speakers: which of espeak-ng's accents and variants train the model and which are never trained on.

A random generator goes in; a voice comes out.
"""

from random import Random

from nano.espeak import Voice

ACCENTS = (
    "en-us",
    "en-us",
    "en-gb-x-rp",
    "en-gb-x-rp",
    "en-us-nyc",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
VARIANTS = (
    *(
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "m6",
        "m8",
        "f1",
        "f2",
        "f3",
        "f4",
        "Andy",
        "Annie",
        "Alex",
        "adam",
        "anika",
    ),
    *(
        "antonio",
        "aunty",
        "belinda",
        "benjamin",
        "boris",
        "caleb",
        "david",
        "ed",
        "edward",
        "grandma",
        "grandpa",
    ),
    *(
        "iven",
        "iven2",
        "john",
        "kaukovalta",
        "max",
        "Michael",
        "Mike",
        "Mario",
        "marcelo",
        "michel",
        "miguel",
    ),
    *("norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis"),
    *("victor", "zac", "Lee", "Gene", "Jacky", "Hugo", "Denis", "Henrique"),
)
HELD_OUT_VARIANTS = ("m7", "f5", "steph2", "linda", "edward2")
HELD_OUT_ACCENT = "en-gb-scotland"


def _prosody(rng: Random, accent: str, variant: str) -> Voice:
    return Voice(accent, variant, rng.randint(130, 190), rng.randint(25, 75), rng.randint(30, 70))


def draw_trained_voice(rng: Random) -> Voice:
    """Draw a voice of the training side."""
    return _prosody(rng, rng.choice(ACCENTS), rng.choice(VARIANTS))


def draw_unseen_voice(rng: Random) -> Voice:
    """Draw a voice that training never hears: a held-out variant, or (one in four) the held-out accent."""
    if rng.random() < 0.25:
        return _prosody(rng, HELD_OUT_ACCENT, rng.choice(VARIANTS))
    return _prosody(rng, rng.choice(ACCENTS), rng.choice(HELD_OUT_VARIANTS))


def is_trained(voice: Voice) -> bool:
    """Say whether a voice belongs to the training side."""
    return voice.accent in ACCENTS and voice.variant in VARIANTS
