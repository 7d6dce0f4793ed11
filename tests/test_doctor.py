"""`audiolm-evaluator doctor` and --doctor: what is said of a sound site, and of each thing that is wrong with one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from fake_site import Site, make_site

from evaluator.cli import build_evaluate_command, main
from evaluator.doctor import needs, surroundings
from evaluator.doctor.finding import Finding
from evaluator.report.embedding import RUN_SECONDS


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def asked(site: Site, *arguments: str, **functions: Callable[..., object]) -> Result:
    """--doctor of a model package that must not load anything."""

    def load_model(config: object, device: str) -> None:
        raise AssertionError("the doctor loads no model")

    provider = SimpleNamespace(__name__="fake", load_model=load_model, **functions)
    command = build_evaluate_command(provider, default_config=site.config)  # type: ignore[arg-type]
    return CliRunner().invoke(command, ["--doctor", *arguments])


def lines_of(result: Result) -> dict[str, tuple[str, str]]:
    """Subject -> (state, text) of what was printed."""
    found = re.findall(r"^(ok|note|WRONG) +(\S(?:.*?\S)?)(?:  +)(.*)$", result.output, re.M)
    return {subject: (state, text) for state, subject, text in found}


def test_a_sound_site(site: Site) -> None:
    result = asked(site, "--mode", "valid_asr")
    assert result.exit_code == 0, result.output
    found = lines_of(result)
    assert {state for state, _ in found.values()} <= {"ok", "note"}
    assert found["clips"] == ("ok", "5 for valid_asr, 5.6 s of audio are heard")
    assert found["annotation"] == ("ok", str(site.folder / "asr.json"))
    assert found["weights"][1].startswith("0.0 MiB in the files that the section model names")
    assert found["disk"][0] == "ok"
    assert "Java" not in found
    assert result.output.splitlines()[-1].startswith("Nothing that ends a run was found")
    assert list(site.results.iterdir()) == []


def test_everything_that_is_wrong_is_in_one_report(site: Site) -> None:
    rows = json.loads((site.folder / "aac.json").read_text())["annotation"]
    (site.wavs / rows[2]["path"]).write_bytes(b"no audio")
    result = asked(site, "--mode", "valid_aac", check_parts=lambda config: [("model.ckpt", "it has rank 16")])
    found = lines_of(result)
    assert found["configuration"][0] == "ok"
    assert found["model"] == ("WRONG", "The model cannot be loaded.")
    assert re.search(r"config\.yaml:\d+: model\.ckpt: it has rank 16", result.output)
    assert found["annotation"][0] == "WRONG"
    assert "clip2.wav" in result.output
    assert found["Java"][0] == "ok"
    assert result.exit_code == 2
    assert "2 of " in result.output.splitlines()[-1]


def test_a_wrong_configuration_does_not_end_the_looking(site: Site) -> None:
    result = asked(site, "--options", "scoring.protocl=basic")
    found = lines_of(result)
    assert found["configuration"][0] == "WRONG"
    assert "did you mean" in result.output
    assert "memory" in found
    assert "SPICE's files" in found
    assert "model" not in found
    assert result.exit_code == 2


def test_without_a_mode_no_clip_is_looked_at(site: Site) -> None:
    shutil.rmtree(site.wavs)
    result = asked(site)
    assert lines_of(result)["annotation"] == ("note", "not looked at: give --mode")
    assert result.exit_code == 0


def test_the_packages_command_looks_without_a_model(site: Site) -> None:
    result = CliRunner().invoke(main, ["doctor", "--cfg-path", str(site.config), "--mode", "valid_asr"])
    assert result.exit_code == 0, result.output
    found = lines_of(result)
    assert found["model"][0] == "note"
    assert "evaluate_salmonn.py --doctor" in found["model"][1]
    assert found["clips"][0] == "ok"
    (site.folder / "asr.json").unlink()
    result = CliRunner().invoke(main, ["doctor", "--cfg-path", str(site.config), "--mode", "valid_asr"])
    assert (result.exit_code, lines_of(result)["annotation"][0]) == (2, "WRONG")
    alone = CliRunner().invoke(main, ["doctor"])
    assert alone.exit_code == 0
    assert "configuration" not in lines_of(alone)
    stray = CliRunner().invoke(main, ["doctor", "--mode", "valid_asr"])
    assert (stray.exit_code, "give --cfg-path too" in stray.output) == (2, True)


@pytest.mark.parametrize("other", ["--check", "--efficiency"])
def test_one_command_at_a_time(site: Site, other: str) -> None:
    result = asked(site, other)
    assert result.exit_code == 2
    assert "2 commands" in result.output
    assert asked(site, "--resume", "auto").exit_code == 2
    assert asked(site, "--limit", "2").exit_code == 2


def test_a_full_disk_is_wrong_and_little_memory_is_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("evaluator.doctor.needs.shutil.disk_usage", lambda folder: usage)
    monkeypatch.setattr("evaluator.doctor.needs.free_memory", lambda: 3)
    result = asked(site, "--mode", "valid_asr")
    found = lines_of(result)
    assert found["disk"][0] == "WRONG"
    assert found["weights"][0] == "note"
    assert result.exit_code == 2


def test_the_page_is_counted_with_the_sound_that_it_embeds() -> None:
    assert needs.EMBEDDED_SECONDS == RUN_SECONDS


def test_weights_are_counted_once_and_folders_whole(tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "a.safetensors").write_bytes(b"x" * 3 * needs.MIB)
    model = {"llama_path": str(tmp_path / "llama"), "ckpt": str(tmp_path / "llama"), "beats_path": "nowhere", "lora": 1}
    found = needs.weights(model)
    assert found is not None
    assert found.text.startswith("3.0 MiB ")
    assert needs.weights({"llama_path": "meta-llama/Llama-3.2-3B"}) is None


def test_what_the_driver_says_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 80994 MiB, 570.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert surroundings.gpus() == ["NVIDIA H100 80GB HBM3, 80994 MiB of 81559 MiB free, driver 570.1"]

    def gpu(count: Callable[[], int] | None) -> Finding:
        return next(finding for finding in surroundings.resources(count) if finding.subject == "GPU")

    assert gpu(lambda: 1).state == "ok"
    assert gpu(lambda: 0).text.startswith("PyTorch sees none of these")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpu(lambda: 0).text == "none that nvidia-smi knows: runs take the CPU"
