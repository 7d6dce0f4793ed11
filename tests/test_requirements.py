"""The pinned versions: both projects agree, and what breaks them stays out."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pins(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-e"))]


def test_the_trainers_pins_are_the_evaluators() -> None:
    assert set(pins(ROOT / "audiolm-trainer/requirements.txt")) <= set(pins(ROOT / "requirements.txt"))


def test_every_direct_dependency_is_pinned_and_none_is_harmful() -> None:
    names = {line.partition("==")[0] for line in pins(ROOT / "requirements.txt") if "==" in line}
    assert len(names) == len({line.split("==")[0] for line in pins(ROOT / "requirements.txt")})
    fixed = {"torch", "transformers", "peft", "jiwer", "aac-metrics", "pandas", "pyyaml", "soundfile", "click"}
    assert fixed <= names
    assert not names & {"torchaudio", "librosa", "msclap"}
    # 0.5.5 and later need msclap.
    assert "aac-metrics==0.5.4" in pins(ROOT / "requirements.txt")
