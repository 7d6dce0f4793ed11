"""SPICE's Java files: where they are, and whether they are the right ones.

SPICE 1.0 and its libraries come with pycocoevalcap. CoreNLP 3.6.0 and its models (GPL) do not: whoever ran
the `aac-metrics-download` of the original has them in a cache, everybody else runs `audiolm-evaluator
setup-metrics`. SPICE without the entity recogniser reads eight entries of the models jar's 378 MB, so a jar
of those eight will do.
"""

import hashlib
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from evaluator.errors import MetricUnavailableError
from evaluator.files import sha256
from evaluator.scoring.captions.package_files import pycocoevalcap_file

log = logging.getLogger(__name__)

CORENLP_JAR = "stanford-corenlp-3.6.0.jar"
CORENLP_SHA256 = "d341d5863276f55782c5ef73212222d6b3b48e02ae1951ab6de7618d28b12742"
FULL_MODELS_JAR = "stanford-corenlp-3.6.0-models.jar"
SMALL_MODELS_JAR = "stanford-corenlp-3.6.0-models-spice.jar"

_MODELS = "edu/stanford/nlp/models"
# Entry of the models jar -> sha256 of its bytes: what SPICE reads when named entities are left out.
MODEL_ENTRIES: Mapping[str, str] = MappingProxyType(
    {
        f"{_MODELS}/dcoref/animate.unigrams.txt": ("f098d0dec513de3729b4274d16bb0cc35c4bf2b801219885ee3c7e7fbbf56374"),
        f"{_MODELS}/dcoref/countries": "aca387cfc0033623bcdf6d0d876e850abcda0d88cdef58ea6dc6dccf7caaae87",
        f"{_MODELS}/dcoref/demonyms.txt": "59d6f108e8d9d7511f386a76c8aacf1ae67a8a1d0635d91b82fdb27da15ac5f2",
        f"{_MODELS}/dcoref/gender.map.ser.gz": ("5b186bd60d88cdf7cb6fda51ec6bcb24975d503e155283b1b1e49f30b393ae76"),
        f"{_MODELS}/dcoref/inanimate.unigrams.txt": (
            "3e4bcd3c30f80138bafb4c7995b358f84d698632246b552286cad629592b3754"
        ),
        f"{_MODELS}/dcoref/state-abbreviations.txt": (
            "390bf299f876b557ecf7d383059b77957466b172e1c6d953b0479594d7424430"
        ),
        f"{_MODELS}/dcoref/statesandprovinces": ("00cd22f600bb20c7906e754322486968b8d76d8905b02e634a2142c8083d2484"),
        f"{_MODELS}/lexparser/englishPCFG.ser.gz": ("ed674cce7311f76c018806e61cdb045e219258ee30014da4e3e686b9230ebea9"),
    }
)

FIX = "run once: audiolm-evaluator setup-metrics"

_AAC_LIB = Path("aac-metrics", "spice", "lib")
_SPICE_JARS = (
    "Meteor-1.5.jar",
    "SceneGraphParser-1.0.jar",
    "ejml-0.23.jar",
    "fst-2.47.jar",
    "guava-19.0.jar",
    "hamcrest-core-1.3.jar",
    "jackson-core-2.5.3.jar",
    "javassist-3.19.0-GA.jar",
    "json-simple-1.1.1.jar",
    "junit-4.12.jar",
    "lmdbjni-0.4.6.jar",
    "lmdbjni-linux64-0.4.6.jar",
    "lmdbjni-osx64-0.4.6.jar",
    "lmdbjni-win64-0.4.6.jar",
    "objenesis-2.4.jar",
    "slf4j-api-1.7.12.jar",
    "slf4j-simple-1.7.21.jar",
)


@dataclass(frozen=True, slots=True)
class SpiceFiles:
    """The two files beside pycocoevalcap's.

    Attributes:
        corenlp: CoreNLP 3.6.0.
        models: its models, all of them or SPICE's eight entries.
        source: how they were found, for example "setup-metrics".
        remark: "" or how they differ from the published files; the scores may differ then, and say so.
    """

    corenlp: Path
    models: Path
    source: str
    remark: str = ""

    def class_path(self) -> tuple[Path, ...]:
        """Every jar that SPICE needs.

        Raises:
            MetricUnavailableError: pycocoevalcap's are not installed.
        """
        libraries = (pycocoevalcap_file(f"spice/lib/{name}") for name in _SPICE_JARS)
        return (pycocoevalcap_file("spice/spice-1.0.jar"), *libraries, self.corenlp, self.models)


def installed_folder() -> Path:
    """Where `setup-metrics` puts the two files: the user's cache, XDG_CACHE_HOME or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "audiolm-evaluator" / "spice"


def find_spice_files(cache_path: str = "") -> SpiceFiles:
    """Find the two files: option, AAC_METRICS_CACHE_PATH, aac-metrics' usual cache, setup-metrics' folder.

    In a cache they are below aac-metrics/spice/lib/; a folder that holds the files themselves is fine as
    well.

    Args:
        cache_path: the option; "" if it is not set.

    Returns:
        SpiceFiles: of the first place that has both, readable.

    Raises:
        MetricUnavailableError: no place has; the message names the files that are there but cannot be used.
    """
    broken: list[str] = []
    for source, folder in _places(cache_path):
        for place in (folder / _AAC_LIB, folder):
            try:
                files = _files_in(place, source)
            except (OSError, zipfile.BadZipFile, KeyError) as error:
                broken.append(f"{place} has files that cannot be used ({error})")
                continue
            if files is not None:
                for sentence in (*broken, files.remark):
                    if sentence:
                        log.warning("SPICE: %s", sentence)
                return files
    reason = "SPICE's two CoreNLP files are not installed"
    raise MetricUnavailableError("; ".join([reason, *broken]), fix=FIX)


def _places(cache_path: str) -> list[tuple[str, Path]]:
    named = (
        ("scoring.cache_path", cache_path),
        ("AAC_METRICS_CACHE_PATH", os.environ.get("AAC_METRICS_CACHE_PATH", "")),
        ("the cache of aac-metrics", "~/.cache"),
    )
    caches = [(source, Path(folder).expanduser().absolute()) for source, folder in named if folder]
    return [*caches, ("setup-metrics", installed_folder().absolute())]


def _files_in(folder: Path, source: str) -> SpiceFiles | None:
    """The two files of a folder; None if one is missing.

    What another program has put there is the user's choice: a file that differs is used, and remarked upon.
    """
    corenlp = folder / CORENLP_JAR
    for name in (SMALL_MODELS_JAR, FULL_MODELS_JAR):
        models = folder / name
        if corenlp.is_file() and models.is_file():
            different = differing_entries(models)
            if sha256(corenlp) != CORENLP_SHA256:
                different.append(CORENLP_JAR)
            remark = f"not as published, in {folder}: {', '.join(different)}" if different else ""
            return SpiceFiles(corenlp=corenlp, models=models, source=source, remark=remark)
    return None


def differing_entries(models: Path) -> list[str]:
    """The model entries of a jar whose bytes are not the published ones.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no jar, or is cut off.
        KeyError: an entry is missing.
    """
    with zipfile.ZipFile(models) as jar:
        found = {name: hashlib.sha256(jar.read(name)).hexdigest() for name in MODEL_ENTRIES}
    return [name for name, digest in MODEL_ENTRIES.items() if found[name] != digest]
