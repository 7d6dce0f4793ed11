"""What is said about a sound scene: phrases for every class of sound, joined by how two sounds relate.

The true events of a scene go in; captions come out. Also the inverse that measuring needs: which classes a
caption names. Joiners keep the order of the events: in "over" scenes the foreground comes first.
"""

from collections.abc import Sequence
from random import Random

PHRASES: dict[str, tuple[str, ...]] = {
    "siren": (
        "a siren is wailing",
        "a siren wails",
        "an emergency siren is wailing",
        "a police siren is wailing",
        "a siren is sounding",
        "a loud siren wails",
    ),
    "rain": (
        "rain is falling",
        "rain falls steadily",
        "heavy rain is falling",
        "rain is falling steadily",
        "steady rain is falling",
        "rain patters down",
    ),
    "wind": (
        "wind is blowing",
        "the wind is blowing",
        "strong wind is blowing",
        "wind blows hard",
        "the wind howls",
        "wind is howling",
    ),
    "beep": (
        "a machine is beeping",
        "a device is beeping",
        "a machine beeps",
        "something is beeping",
        "an electronic device is beeping",
        "a timer is beeping",
    ),
    "engine": (
        "an engine is running",
        "a car engine is running",
        "an engine is rumbling",
        "a motor is running",
        "an engine runs",
        "a truck engine is running",
    ),
    "clock": (
        "a clock is ticking",
        "a clock ticks",
        "an old clock is ticking",
        "a clock is ticking steadily",
        "a wall clock is ticking",
        "the clock ticks",
    ),
    "birds": (
        "birds are singing",
        "birds are chirping",
        "several birds are singing",
        "birds chirp",
        "small birds are chirping",
        "birds sing",
    ),
    "bell": (
        "a bell is ringing",
        "a church bell is ringing",
        "a bell rings",
        "a large bell is ringing",
        "a bell tolls",
        "a bell is tolling",
    ),
    "gunshots": (
        "a gun is fired",
        "gunshots are fired",
        "several gunshots are fired",
        "someone fires a gun",
        "shots are fired",
        "a gun fires",
    ),
    "thunder": (
        "thunder is rumbling",
        "thunder rumbles",
        "loud thunder is rumbling",
        "thunder is rolling",
        "distant thunder is rumbling",
        "thunder rolls",
    ),
    "knock": (
        "someone is knocking on a door",
        "someone knocks on a door",
        "a person is knocking on a door",
        "someone is knocking",
        "a person knocks on a door",
        "knocking on a door",
    ),
    "waves": (
        "waves are crashing",
        "ocean waves are crashing",
        "waves are rolling in",
        "waves crash on the shore",
        "waves are crashing on the shore",
        "sea waves are crashing",
    ),
    "phone": (
        "a phone is ringing",
        "a telephone is ringing",
        "a phone rings",
        "an old telephone is ringing",
        "a telephone rings",
        "the phone is ringing",
    ),
    "dog": (
        "a dog is barking",
        "a dog barks",
        "a dog is barking loudly",
        "a large dog is barking",
        "a dog barks loudly",
        "the dog is barking",
    ),
    "speech": (
        "a person is speaking",
        "a person is talking",
        "someone is speaking",
        "a voice is speaking",
        "someone is talking",
        "a person speaks",
    ),
}
NAMES: dict[str, tuple[str, ...]] = {
    **{label: (label,) for label in ("siren", "rain", "wind", "clock", "birds", "bell", "thunder", "waves", "dog")},
    "beep": ("beep", "beeps", "beeping"),
    "engine": ("engine", "motor"),
    "gunshots": ("gun", "gunshots", "shots"),
    "knock": ("knocks", "knocking"),
    "phone": ("phone", "telephone"),
    "speech": ("speaking", "talking", "speaks", "voice"),
}
JOINERS: dict[str, tuple[str, ...]] = {
    "single": ("{0}",),
    "then": (
        "{0} and then {1}",
        "{0} then {1}",
        "{0} followed by {1}",
        "first {0} and then {1}",
        "{0} before {1}",
    ),
    "over": (
        "{0} while {1}",
        "{0} while {1} in the background",
        "{0} as {1}",
        "{0} and {1} in the background",
        "{0} while {1} nearby",
    ),
}
RELATIONS = tuple(JOINERS)


def draw_caption(rng: Random, relation: str, events: Sequence[str]) -> str:
    """Say in one way what is heard.

    Args:
        rng: Source of chance.
        relation: "single", "then" or "over".
        events: One class, or two: in order of time ("then"), or foreground and background ("over").

    Example:
        ("then", ["dog", "bell"]) -> "a dog barks followed by a bell is ringing".
    """
    weights = {"single": (1,), "then": (4, 2, 2, 1, 1), "over": (4, 3, 1, 1, 1)}[relation]
    joiner = rng.choices(JOINERS[relation], weights)[0]
    return joiner.format(*(rng.choices(PHRASES[event], (4, 3, 2, 2, 1, 1))[0] for event in events))


def draw_references(rng: Random, relation: str, events: Sequence[str], count: int = 5) -> list[str]:
    """Draw captions of one scene that all differ."""
    captions: list[str] = []
    while len(captions) < count:
        caption = draw_caption(rng, relation, events)
        if caption not in captions:
            captions.append(caption)
    return captions


def named_events(caption: str) -> frozenset[str]:
    """Return the classes that a caption names."""
    words = set(caption.lower().split())
    return frozenset(label for label, names in NAMES.items() if words.intersection(names))
