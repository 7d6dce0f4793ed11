"""The benchmark of answering runs, compares what is comparable, and counts what it says it counts."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
CPU = torch.device("cpu")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    bench = load("bench_decoding")
    monkeypatch.setattr(bench, "QUICK_LLM", bench.QUICK)
    monkeypatch.setattr(sys, "argv", ["bench_decoding.py", "--quick", "--clips", "3", *arguments])
    bench.main()


@linux_only
def test_a_quick_run_prints_every_arm_and_keeps_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_main(monkeypatch, "--json", str(tmp_path / "all.json"))
    printed, told = capsys.readouterr()
    for arm in ("original", "fair (batches of ", "decoder"):
        assert f"| {arm}" in printed
    assert told.count("decoder: ") == 2
    assert printed.count(" 0 of 3 |") == 3
    assert "too small for its figures to say anything" in printed
    kept = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert [len(arm["runs"]) for arm in kept["arms"].values()] == [2, 2, 2]
    assert len(kept["lengths"]["seconds"]) == 3
    assert kept["environment"]["torch"] == torch.__version__


@linux_only
@pytest.mark.slow
def test_a_whole_run_in_16_bits_has_every_part_of_a_run_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = ["--dtype", "bfloat16", "--latency", "1", "--agreement", "2", "--original-clips", "2"]
    run_main(monkeypatch, "--whole", *more, "--json", str(tmp_path / "all.json"))
    printed = capsys.readouterr().out
    assert "| original | 2 |" in printed
    assert "| package | 3 |" in printed
    assert "no arithmetic ceiling is known" in printed
    assert "answers are the same with 1, 8, 64 slots" in printed
    kept = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert set(kept["agreement"]) >= {"transformers", "package, 1 slots", "package, 64 slots"}
    # The right answers are transformers' own in float32; there ours are the same.
    assert kept["agreement"]["package in float32"] == {"clips": 2, "equal": 2, "agreeing_part": 1.0, "largest_gap": 0.0}
    assert kept["latency_package"]["first_step_p50_ms"] > 0
    assert kept["work"]["whisper"] > 0


@linux_only
def test_another_answer_in_float32_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    right = load("forced_lengths").forced_lengths
    shifted = lambda tokens, end, device: right([count + 1 for count in tokens], end, device)  # noqa: E731
    monkeypatch.setattr(load("decoding_stage"), "forced_lengths", shifted)
    with pytest.raises(SystemExit, match="3 answers differ from transformers'"):
        run_main(monkeypatch)


def test_a_forced_end_leaves_nothing_else_and_is_impossible_before() -> None:
    scores = torch.zeros(2, 3)
    forced = load("forced_lengths").force(scores, 1, now=torch.tensor([True, False]))
    low = -torch.inf
    assert forced.tolist() == [[low, 0.0, low], [0.0, low, 0.0]]
    assert scores.eq(0).all()


def test_the_rule_for_the_decoder_can_be_recorded_on_a_gpu() -> None:
    """It asks the device for nothing and brings nothing from the host."""
    rule = load("forced_lengths").forced_lengths([2, 5], 1, CPU)
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    scores, clips, steps = torch.zeros(2, 4, 3), torch.tensor([1, 0]), torch.tensor([1, 1])
    with Watch():
        forced = rule(scores, clips, steps)
    assert forced[:, 0].tolist() == [[0.0, -torch.inf, 0.0], [-torch.inf, 0.0, -torch.inf]]
    unwanted = ("scalar_tensor", "lift_fresh", "_local_scalar_dense", "nonzero", "_to_copy")
    assert not [name for name in seen if any(word in name for word in unwanted)]


@linux_only
def test_arms_run_forwards_then_backwards_and_differences_are_counted() -> None:
    arms = load("arms")
    order: list[tuple[str, int]] = []

    def answering(name: str, wrong: Sequence[int] = ()) -> object:
        def answer(clips: Sequence[int]) -> dict[int, str]:
            order.append((name, len(clips)))
            return {clip: "another" if clip in wrong else "right" for clip in clips}

        return answer

    found = arms.measure(
        {"a": arms.Arm([0, 1], answering("a")), "b": arms.Arm([0, 1, 2], answering("b", wrong=[1, 2]))},
        repeats=2,
        device=CPU,
        warm_ups=(1,),
    )
    assert order == [("a", 1), ("b", 1)] + 2 * [("a", 2), ("b", 3), ("b", 3), ("a", 2)]
    # What the first arm did not answer is compared with the first that did.
    assert (found["b"].compared, found["b"].differ) == (3, 1)
    assert (found["a"].compared, found["a"].differ) == (2, 0)


@linux_only
def test_an_arm_without_memory_is_recorded_and_the_others_go_on() -> None:
    arms, report = load("arms"), load("answer_report")

    def too_large(clips: Sequence[int]) -> dict[int, str]:
        raise torch.OutOfMemoryError("out of memory")

    small = arms.Arm([0], lambda clips: {0: "right"})
    found = arms.measure(
        {"original": arms.Arm([0], too_large), "fair": small, "package": small}, repeats=1, device=CPU, warm_ups=(1,)
    )
    reduced = report.rows(found, heard=None, device=CPU)
    printed = report.table(found, reduced)
    assert "| original | 1 | out of memory |" in printed
    assert reduced["package"].gain_over_original is None
    assert reduced["package"].gain_over_fair is not None
    assert len({line.count("|") for line in printed.splitlines()}) == 1

    def broken(clips: Sequence[int]) -> dict[int, str]:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        arms.measure({"original": arms.Arm([0], broken)}, repeats=1, device=CPU, warm_ups=())


def test_a_gain_compares_times_for_one_clip() -> None:
    arms, report = load("arms"), load("answer_report")
    spent = load("device_clock").Spent
    slow = arms.Outcome(clips=2, runs=[spent(9.0, 4.0, 0), spent(9.0, 2.0, 0)])
    fast = arms.Outcome(clips=4, runs=[spent(1.0, 2.0, 0), spent(1.0, 2.0, 0)])
    assert report.gain(slow, fast, CPU) == (3.0, 2.0, 4.0)
    assert report.gain(slow, fast, torch.device("cuda")) == (18.0, 18.0, 18.0)


def test_the_original_encodes_every_clip_twice_and_the_others_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random_salmonn, drawn, original_loop = load("random_salmonn"), load("drawn_clips"), load("original_loop")
    model = random_salmonn.build_answering_model(random_salmonn.QUICK, device=CPU, dtype=torch.float32)
    lengths = drawn.Lengths((1.0, 2.0, 1.5), (2, 3, 2))
    loop = original_loop.Loop(
        model, drawn.draw_recordings(lengths), lengths, original_loop.settings(2, max_new_tokens=4)
    )
    monkeypatch.setattr(original_loop, "BATCH_SIZE", 2)
    heard: list[int] = []
    model.speech_encoder.whisper.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0].shape[0]))
    answers = loop.original(range(3))
    assert heard == [2, 2, 1, 1]
    heard.clear()
    assert loop.sorted(range(3), 2) == answers
    assert heard == [2, 1]
    assert [answers[clip][1] for clip in range(3)] == [2, 3, 2]


def test_a_random_model_hears_a_difference_between_clips() -> None:
    """Otherwise all answers are one, and no mistake in telling clips apart could be seen."""
    random_salmonn, drawn, whole_run = load("random_salmonn"), load("drawn_clips"), load("whole_run")
    model = random_salmonn.build_answering_model(random_salmonn.QUICK, device=CPU, dtype=torch.float32)
    lengths = drawn.Lengths((1.5, 2.0, 2.5, 3.0), (8, 8, 8, 8))
    answers = whole_run.answer_all(whole_run.build_package(model, lengths), drawn.draw_recordings(lengths))
    texts = [text for text, _ in answers.values()]
    assert len(set(texts)) == 4
    assert all(len(set(text.split())) >= 3 for text in texts)


def test_drawn_lengths_have_the_stated_distribution() -> None:
    draw_lengths = load("drawn_clips").draw_lengths
    lengths = draw_lengths(2000)
    assert sum(lengths.seconds) / 2000 == pytest.approx(7.1, rel=0.02)
    assert sum(lengths.tokens) / 2000 == pytest.approx(26.9, rel=0.03)
    assert min(lengths.seconds) >= 1.3
    assert max(lengths.seconds) == 35.0
    assert lengths == draw_lengths(2000)
    assert lengths != draw_lengths(2000, seed=1)


def test_the_ceiling_of_the_full_size() -> None:
    ceiling = load("ceiling")
    work = ceiling.work_of_clip(ceiling.FULL, seconds=7.0, prompt=115, tokens=27, beams=4)
    expected = {"whisper": 2.27e12, "beats": 0.068e12, "qformer": 0.022e12, "prefill": 0.65e12, "decode": 0.69e12}
    for part, value in expected.items():
        assert getattr(work, part) == pytest.approx(value, rel=0.03), part
    limits = ceiling.limits_of("NVIDIA H200")
    reached = ceiling.clips_a_second(ceiling.FULL, work, limits, slots=64, prompt=115, tokens=27, beams=4)
    assert reached == pytest.approx(213, rel=0.01)
    # One clip at a time reads all weights for each token.
    alone = ceiling.clips_a_second(ceiling.FULL, work, limits, slots=1, prompt=115, tokens=27, beams=4)
    assert alone < reached / 5
    assert ceiling.limits_of("NVIDIA GeForce") is None


def test_the_share_of_the_ceiling_is_said_where_one_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, arms = load("bench_decoding"), load("arms")
    loop = SimpleNamespace(lengths=load("drawn_clips").draw_lengths(64), prompt_tokens=lambda clip: 115)
    runs = [load("device_clock").Spent(1.0, 1.0, 0)]
    outcomes = {
        "original": arms.Outcome(64, runs=runs),
        "fair": arms.Outcome(64, failure="out of memory"),
        "package": arms.Outcome(110, runs=runs),
    }
    record: dict[str, Any] = {}
    monkeypatch.setattr(bench, "device_name", lambda _: "NVIDIA H100 80GB HBM3")
    bench.compare_with_ceiling(bench.FULL, loop, outcomes, torch.device("cuda"), record)
    printed = capsys.readouterr().out
    ceiling = record["ceiling"]["clips_a_second"]
    assert 190 < ceiling < 230
    assert f"package: {100 * 110 / ceiling:.1f} % of the arithmetic ceiling of {ceiling:.1f} clips/s" in printed
    assert "fair: the arithmetic ceiling" in printed


def test_counted_work_is_what_pytorch_does() -> None:
    ceiling, random_salmonn, drawn = load("ceiling"), load("random_salmonn"), load("drawn_clips")
    shape = random_salmonn.QUICK
    model = random_salmonn.build_answering_model(shape, device=CPU, dtype=torch.float32)
    (recording,) = drawn.draw_recordings(drawn.Lengths((4.0,), (5,)))
    parts = {}
    with torch.no_grad():
        features = model.speech_encoder.front_end([recording.audio], CPU)
        encoded = model.encode([recording.audio])
        prompt = model.wrap(model.embed(encoded)[0], recording.prompt)
        for name, work in {
            "whisper": lambda: model.speech_encoder.whisper(features.mel),
            "beats": lambda: model.speech_encoder.beats(features.fbank, features.fbank_frames),
            "qformer": lambda: model.embed(encoded),
            "prefill": lambda: model.llm(inputs_embeds=prompt[None], logits_to_keep=1),
        }.items():
            # Other attention kernels are one operation, which the counter does not know on a CPU.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                work()
            parts[name] = counter.get_total_flops()
    length = prompt.shape[0]
    # That kernel computes what causal attention leaves out as well.
    parts["prefill"] -= 2 * length * (length - 1) * shape.llm_layers * shape.llm_width
    counted = ceiling.work_of_clip(shape, seconds=4.0, prompt=length, tokens=5, beams=4)
    for name, flops in parts.items():
        assert getattr(counted, name) == pytest.approx(flops, rel=0.05), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no GPU is here"):
        run_main(monkeypatch, "--device", "cuda")
    out = tmp_path / "results"
    done = subprocess.run([BENCHMARKS / "gpu.sh", out], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "nothing was run" in done.stdout
    assert not out.exists()


def test_on_a_gpu_everything_is_run_and_what_failed_is_named(tmp_path: Path) -> None:
    """With a stand-in for Python that fails at one step; what it is asked to run must exist."""
    for name, text in {
        "nvidia-smi": "exit 0",
        "python": 'case "$*" in *front_end.py*) echo "no luck"; exit 7;; *) echo "ran $*";; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    out = tmp_path / "results"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": str(tmp_path / "python")}
    done = subprocess.run([BENCHMARKS / "gpu.sh", out], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"Failed: front_end (see {out}/)"
    assert (out / "front_end.txt").read_text(encoding="utf-8") == "no luck\n"
    ran = "".join(file.read_text(encoding="utf-8") for file in sorted(out.iterdir()))
    scripts = {word for word in ran.split() if word.endswith(".py")}
    assert all((BENCHMARKS.parent / script).is_file() for script in scripts)
    assert {"benchmarks/bench_decoding.py", "benchmarks/bench_training.py"} < scripts
    asked = [line.split()[2:] for line in ran.splitlines() if line.startswith("ran benchmarks/bench_decoding.py")]
    assert len(asked) == 3
    assert all(load("bench_decoding").parse_options(arguments).full for arguments in asked)
