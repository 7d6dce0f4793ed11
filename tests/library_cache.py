"""A cache folder as aac-metrics looks for it, made of the files that pycocoevalcap has."""

from pathlib import Path

from evaluator.scoring.captions.package_files import pycocoevalcap_file

FILES = {
    "stanford_nlp/stanford-corenlp-3.4.1.jar": "tokenizer/stanford-corenlp-3.4.1.jar",
    "meteor/meteor-1.5.jar": "meteor/meteor-1.5.jar",
    "meteor/data/paraphrase-en.gz": "meteor/data/paraphrase-en.gz",
}


def lay_out(folder: Path) -> None:
    """Make `folder` such a cache."""
    for place, name in FILES.items():
        target = folder / "aac-metrics" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(pycocoevalcap_file(name))
