"""A folder with everything that a run needs: clips, annotations, a config; for the tests of whole runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import yaml

from evaluator.config.config import Config, load_config

WORDS = ["the cat sat", "a dog barked", "rain is falling", "birds sing", "a door opens"]


@dataclass(frozen=True)
class Site:
    """A folder with everything that a run needs."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def wavs(self) -> Path:
        return self.folder / "wavs"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def write_annotation(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write both tasks' annotation, the same rows under each task's label."""
        for name, label in (("asr", "asr"), ("aac", "audiocaption_v2")):
            labelled = [
                {**row, "task": label if row["task"] in ("asr", "audiocaption_v2") else row["task"]} for row in rows
            ]
            (self.folder / f"{name}.json").write_text(json.dumps({"annotation": labelled}))

    def change(self, sections: Mapping[str, Mapping[str, object]]) -> None:
        """Set keys of the config file."""
        data = yaml.safe_load(self.config.read_text())
        for section, values in sections.items():
            data.setdefault(section, {}).update(values)
        self.config.write_text(yaml.safe_dump(data))

    def load(self, *options: str) -> Config:
        """The config, with --options."""
        return load_config(self.config, options)


def make_site(folder: Path) -> Site:
    """Five clips of different lengths with one reference each, and a config."""
    site = Site(folder)
    site.wavs.mkdir()
    rows = []
    for index, text in enumerate(WORDS):
        soundfile.write(site.wavs / f"clip{index}.wav", np.full(16000 + 1000 * index, 0.1), 16000)
        rows.append({"testset_id": f"test{index:04d}", "path": f"clip{index}.wav", "task": "asr", "text": text})
    site.write_annotation(rows)
    (folder / "ckpt.pth").write_bytes(b"weights")
    site.config.write_text(
        yaml.safe_dump(
            {
                "model": {"ckpt": "ckpt.pth", "layers": 3},
                "generate": {"num_beams": 4},
                "datasets": {
                    "prefix": "wavs",
                    "test_ann_path_asr": "asr.json",
                    "test_ann_path_aac": "aac.json",
                },
                "run": {"num_workers": 2, "device": "cpu", "output_dir": str(site.results)},
            }
        )
    )
    return site
