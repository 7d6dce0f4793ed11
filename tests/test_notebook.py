"""`from evaluator import ...`: the commands' results and errors from Python, nothing printed, nothing that ends it."""

import asyncio
import functools
import importlib
import json
import linecache
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_model import EchoLM, FakeProvider, Reply
from fake_server import MODEL, served
from fake_site import WORDS, Site, make_site

import evaluator
from evaluator import compare, load_annotation, run_model, score, show
from evaluator.cli import main
from evaluator.errors import AnnotationError, AudioLMError, ConfigError, JournalError, ModelLoadError, ResultError
from evaluator.model import Request
from evaluator.report.summary import scores_json
from evaluator.run.journal import read_journal
from evaluator.run.record import EvaluationResult

SAID = ["the CAT sat", "a dog", "rain is falling down", "birds sing", ""]
MODULE = """
from fake_model import EchoLM

SAID = {said}

def load(config, device):
    return EchoLM(say=lambda request: SAID[request.index])
"""
QUICK = {"run.latency_clips": 0, "run.num_workers": 2}


def say(request: Request) -> str:
    return SAID[request.index]


def factory(config: Mapping[str, Any], device: str) -> EchoLM:
    assert device == config["run"]["device"]
    return EchoLM(say=say)


class Fixed(EchoLM):
    """A class that is called as a factory is."""

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        super().__init__(say=say)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.chdir(tmp_path)
    return make_site(tmp_path)


def run(model: object, **given: Any) -> EvaluationResult:
    options = {**QUICK, **given.pop("options", {})}
    return run_model(model, "asr.json", **{"prefix": "wavs", "output_dir": "out", **given}, options=options)


def told(result: EvaluationResult) -> object:
    """What its scores.json says."""
    return json.loads((result.folder / "scores.json").read_text())


def test_a_run_is_the_commands(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.folder / "said_model.py").write_text(MODULE.format(said=SAID))
    monkeypatch.setattr(sys, "path", [str(site.folder), *sys.path])
    arguments = ["run", "--model", "python:said_model:load", "--mode", "valid_asr", "--annotation", "asr.json"]
    arguments += [
        "--output-dir",
        "typed",
        "--options",
        "datasets.prefix=wavs",
        "run.latency_clips=0",
        "run.num_workers=2",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    [typed] = (site.folder / "typed" / "valid_results").glob("*.csv")
    result = run("python:said_model:load")
    assert result.csv_path.read_bytes() == typed.read_bytes()
    scores = (result.folder / "scores.json", typed.with_suffix("") / "scores.json")
    assert scores[0].read_bytes() == scores[1].read_bytes()
    records = [json.loads((path.parent / "run.json").read_text()) for path in scores]
    assert records[0]["identity"] == records[1]["identity"]
    assert result.scores is not None
    assert result.scores.by_name["wer"].value == pytest.approx(5 / 14)
    # The summary is the command's too, up to times, paths and memory.
    same = [line for line in done.output.splitlines() if line.startswith(("  rows", "  WER", "  CER", "  worst"))]
    assert same
    assert set(same) <= set(str(show(result)).splitlines())


MODELS: list[tuple[object, str]] = [
    (factory, f"{__name__}.factory"),
    (Fixed, f"{__name__}.Fixed"),
    (EchoLM(say=say), "fake_model.EchoLM"),
    (FakeProvider(EchoLM(say=say)), "fakelm"),
]


@pytest.mark.parametrize(("model", "name"), MODELS, ids=["factory", "class", "loaded", "package"])
def test_models_that_are_objects(site: Site, model: object, name: str) -> None:
    result = run(model)
    assert [each.text for each in read_journal(result.folder / "predictions.jsonl")] == SAID
    assert (result.exit_code, result.model) == (0, name)


def test_an_interrupted_run_goes_on(site: Site) -> None:
    broken = EchoLM(say=say, fail_after=3, batch_size=1)
    with pytest.raises(RuntimeError, match="the model fell over"):
        run(broken)
    whole = EchoLM(say=say)
    result = run(whole, resume="auto")
    assert [request.index for request in whole.pulled] == [3, 4]
    assert told(result) == told(run(EchoLM(say=say)))
    # A model of another name is another model.
    with pytest.raises(JournalError, match=r"model\.name"):
        run(EchoLM(say=say), resume=result.folder, name="step 2")
    assert run(EchoLM(say=say), resume=str(result.folder)).folder == result.folder


def test_an_interrupt_keeps_what_is_answered(site: Site) -> None:
    def interrupted(request: Request) -> str:
        if request.index == 4:
            raise KeyboardInterrupt
        return say(request)

    with pytest.raises(KeyboardInterrupt):
        run(EchoLM(say=interrupted, batch_size=1))
    rest = EchoLM(say=say)
    run(rest, resume="auto")
    assert [request.index for request in rest.pulled] == [4]


def typed_into_a_notebook(text: str, number: int, defines: str = "load") -> Any:
    """What a cell defines: its module has no file, and its lines are where IPython puts them."""
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    place: dict[str, Any] = {"__name__": "no_such_module"}
    exec(compile(text, name, "exec"), place)
    return place[defines]


def test_code_of_a_notebook_is_known_by_its_lines(site: Site) -> None:
    cell = "def load(config, device):\n    from fake_model import EchoLM\n    return EchoLM(say=lambda request: '{}')\n"
    first = run(typed_into_a_notebook(cell.format("a"), 1), name="mine")
    assert run(typed_into_a_notebook(cell.format("a"), 2), name="mine", resume=first.folder).folder == first.folder
    with pytest.raises(JournalError, match=r"model\.name"):
        run(typed_into_a_notebook(cell.format("b"), 3), name="mine", resume=first.folder)


def test_a_class_of_a_notebook_is_known_by_its_methods(site: Site) -> None:
    cell = """
class Mine:
    sampling_rate = 16000

    def generate(self, requests):
        from evaluator.model import Answer

        for request in requests:
            yield Answer(request.index, "{}", 1, "stop")
"""
    first = run(typed_into_a_notebook(cell.format("a"), 4, "Mine")())
    assert run(typed_into_a_notebook(cell.format("a"), 5, "Mine")(), resume=first.folder).folder == first.folder
    with pytest.raises(JournalError, match=r"model\.name"):
        run(typed_into_a_notebook(cell.format("b"), 6, "Mine")(), resume=first.folder)


class Leaves:
    """A model package that ends the process."""

    __name__ = "leaves"

    def load_model(self, config: Mapping[str, Any], device: str) -> EchoLM:
        raise SystemExit(3)


class LeavesLate:
    sampling_rate = 16000

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            yield Reply(request.index, "a", 1, "stop")
            sys.exit(5)


WRONG: list[tuple[Callable[[], object], type[AudioLMError], str]] = [
    (lambda: run(3), ConfigError, "expected KIND:WHAT, a model package, .* found int"),
    (lambda: run("whisper"), ConfigError, "unknown kind 'whisper'"),
    (lambda: run("python:a"), ConfigError, "expected python:package.module:factory"),
    (lambda: run(factory, trust_remote_code=True), ConfigError, "trust_remote_code: does not belong to"),
    (lambda: run(factory, prompts="p.yaml"), ConfigError, "prompts: does not belong to"),
    (lambda: run("transformers:x", name="y"), ConfigError, "name: does not belong to"),
    (lambda: run(factory, mode="valid_asrr"), ConfigError, 'did you mean "valid_asr"'),
    (lambda: run(factory, limit=0), ConfigError, "limit: expected a number of rows from 1, found 0"),
    (lambda: run(factory, limit="3"), ConfigError, "limit: expected a number of rows from 1, found '3'"),
    (lambda: score("asr.json", {}, options=["a=1"]), ConfigError, "options: expected a table such as"),  # type: ignore[arg-type]
    (lambda: run(factory, options={"run.x": object()}), ConfigError, "options: run.x: expected a number"),
    (
        lambda: run(factory, options={"run": 3, "device": 1}),
        ConfigError,
        "2 problems(?s:.)*--options: device: expected SECTION.KEY",
    ),
    (lambda: run(factory, device="tpu"), ConfigError, 'expected "auto", "cpu"'),
    (lambda: run(factory, resume="nowhere"), JournalError, "nowhere"),
    (lambda: run(factory, config="nothing.yaml"), ConfigError, "nothing.yaml: does not exist"),
    (lambda: run(factory, prefix="nothing"), AnnotationError, "there is no folder"),
    (lambda: run_model(factory), ConfigError, "Say what to run"),
    (lambda: run_model(factory, "none.json"), AnnotationError, "none.json does not exist"),
    (lambda: run(lambda config, device: 3), ModelLoadError, "returned int, which lacks sampling_rate or generate"),
    (lambda: run(Leaves()), ModelLoadError, "SystemExit: 3"),
    (lambda: load_annotation("none.json"), AnnotationError, "does not exist"),
    (lambda: load_annotation("asr.json", mode="asr"), ConfigError, "there is no such mode"),  # type: ignore[arg-type]
    (lambda: load_annotation("asr.json", mode="valid_aac"), AnnotationError, "(?s)is not scored by valid_aac.*row 5"),
    (lambda: load_annotation("asr.json", check_audio=True), AnnotationError, "(?s)5 problems.*clip4.wav"),
    (lambda: score("asr.json", 3), ResultError, "no testset_id -> text, but 3"),  # type: ignore[arg-type]
    (lambda: score("asr.json", {"test0000": 3, 1: "a"}), ResultError, "2 problems"),  # type: ignore[dict-item]
    (lambda: score("asr.json", {"test0009": "a"}), ResultError, r"(?s)answer: 5: .*no clip .*: 1: test0009 \(answer 1"),
    (lambda: score("asr.json", "asr.json"), ResultError, "is the annotation itself"),
    (lambda: score("asr.json", {}, task="as"), ConfigError, "there is no such task"),  # type: ignore[arg-type]
    (lambda: score("asr.json", {}, protocol="x", signature="y"), ConfigError, "give it alone"),
    (lambda: score("asr.json", {}, signature="y"), ConfigError, "no signature of a score"),
    (lambda: score("asr.json", given(), protocol="cer"), ConfigError, "protocol"),
    (lambda: compare("runs"), ConfigError, "systems: expected a list, found the text 'runs'"),
    (lambda: compare([]), ResultError, "give two systems or more"),
    (lambda: compare(["a", "b"]), ResultError, "does not exist"),
    (lambda: compare(["a"], unit="word", seed=-1, resamples=1), ConfigError, "3 problems"),  # type: ignore[arg-type]
    (lambda: compare([site_file(), site_file()], annotation="asr.json"), ResultError, "2 systems are called said"),
]


def given() -> dict[str, str]:
    return {f"test{number:04d}": text for number, text in enumerate(SAID)}


def site_file() -> Path:
    path = Path("said.json")
    path.write_text(json.dumps([{"testset_id": key, "text": text} for key, text in given().items()]))
    return path


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_errors_are_the_packages_own(
    site: Site, call: Callable[[], object], kind: type[AudioLMError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_a_model_that_ends_the_process_ends_a_run(site: Site) -> None:
    with pytest.raises(Exception, match="5") as caught:
        run(LeavesLate())
    assert not isinstance(caught.value, SystemExit)


def test_tokens_are_masked_in_what_is_raised(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cret-of-the-file"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    site.change({"model": {"token": secret}})
    for where in ("load", "answer"):

        def talkative(request: Request, place: str = where) -> str:
            raise RuntimeError(f"{secret} and hf_abcdefghijklmnopq")

        broken = RuntimeError(f"{secret} and hf_abcdefghijklmnopq")
        model = FakeProvider(broken) if where == "load" else FakeProvider(EchoLM(say=talkative))
        with pytest.raises((ModelLoadError, RuntimeError)) as caught:
            run_model(model, config=site.config, mode="valid_asr")
        error: BaseException | None = caught.value
        assert "*** and ***" in str(error)
        while error is not None:
            assert secret not in repr(error) + str(error)
            assert "hf_abc" not in repr(error) + str(error)
            error = error.__cause__ or error.__context__


def test_nothing_is_printed_unless_asked(site: Site) -> None:
    (site.folder / "said_model.py").write_text(MODULE.format(said=SAID))
    (site.folder / "script.py").write_text(
        "from evaluator import compare, load_annotation, run_model, score, show\n"
        "import said_model\n"
        "annotation = load_annotation('asr.json', prefix='wavs', check_audio=True)\n"
        "asked = {'options': {'run.latency_clips': 0}, 'output_dir': 'out'}\n"
        "run = run_model(said_model.load, annotation, limit=3, **asked)\n"
        "try:\n"
        "    run_model(lambda config, device: said_model.EchoLM(fail_after=1), annotation, **asked)\n"
        "except RuntimeError:\n"
        "    pass\n"
        "score('asr.json', run_model(said_model.load, annotation, **asked))\n"
        "show(compare({'a': run, 'b': run}))\n"
    )
    path = f"{Path(__file__).parent}"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['.', {path!r}]; exec(open('script.py').read())"]
    done = subprocess.run(command, cwd=site.folder, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_progress_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    numbers: list[tuple[int, int, int]] = []
    run(factory, progress=lambda done, total, failed: numbers.append((done, total, failed)))
    assert numbers[-1] == (5, 5, 0)
    assert capsys.readouterr().err == ""
    run(factory, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_importing_the_package_imports_nothing() -> None:
    code = (
        "import sys, evaluator; before = set(sys.modules)\n"
        "heavy = {'numpy', 'pydantic', 'yaml', 'click', 'torch'} & before; assert not heavy, heavy\n"
        "assert set(evaluator.__all__) <= set(dir(evaluator))\n"
        "evaluator.score; assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    for name in evaluator.__all__:
        assert getattr(evaluator, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'run_modle'"):
        _ = evaluator.run_modle


def test_an_annotation_is_a_sequence(site: Site) -> None:
    found = load_annotation("asr.json", prefix=site.wavs, check_audio=True)
    assert [sample.references for sample in found] == [(text,) for text in WORDS]
    assert (len(found), found[1].id, [each.id for each in found[3:]]) == (5, "test0001", ["test0003", "test0004"])
    assert found.seconds == pytest.approx([1.0, 1.0625, 1.125, 1.1875, 1.25])
    assert repr(found) == "<asr.json: 5 clips for valid_asr>"
    assert run_model(factory, found, options=QUICK).mode == "valid_asr"
    submission = load_annotation("asr.json", mode="submission_asr")
    assert submission[0].references == ()
    result = run_model(factory, submission, prefix="wavs", options=QUICK, output_dir="out")
    assert result.csv_path.parent == Path("out/submission_results")


def test_captions_of_a_clip_are_its_references(site: Site) -> None:
    row = {"testset_id": "test0000", "path": "clip0.wav", "task": "audiocaption_v2"}
    (site.folder / "aac.json").write_text(json.dumps([{**row, "text": "a cat"}, {**row, "text": "a cat meows"}]))
    found = load_annotation("aac.json", prefix="wavs")
    assert (found.mode, len(found), found[0].references) == ("valid_aac", 1, ("a cat", "a cat meows"))
    assert "a cat | a cat meows" in str(show(found))


def test_answers_of_every_kind_score_alike(site: Site) -> None:
    result = run(factory)
    scores = [score("asr.json", answers).scores for answers in (given(), site_file(), str(site_file()), result)]
    scores += [score(load_annotation("asr.json"), result.folder).scores]
    for each in scores:
        assert scores_json(each, ids=[*given()]) == told(result)
    wer = scores[0].by_name["wer"]
    basic = score("asr.json", given(), protocol="basic", options={"scoring.bootstrap_seed": 4})
    assert basic.scores.by_name["wer"].signature != wer.signature
    again = score("asr.json", given(), signature=str(wer.signature)).scores
    assert [metric.facts() for metric in again.metrics] == [wer.facts()]


def test_systems_are_compared_under_their_names(site: Site) -> None:
    first, second = run(factory), run(EchoLM(say=lambda request: WORDS[request.index]))
    found = compare({"a=b": first, "other": second.folder}, metrics=["wer"], resamples=200)
    [pair] = found.tables[0].pairs
    assert (pair.first, pair.second, pair.wins, pair.losses) == ("a=b", "other", 3, 0)
    files = compare({"x": site_file(), "y": second}, annotation="asr.json", resamples=200)
    assert files.tables[0].pairs[0].difference == pair.difference
    view = show(found)
    assert "no difference is shown" in str(view)
    assert "<td" in view._repr_html_()


def test_show_is_text_and_html(site: Site) -> None:
    evil = "<script>alert(1)</script>\x1b[2J"
    rows = json.loads((site.folder / "asr.json").read_text())["annotation"]
    rows[0] |= {"testset_id": "<b>", "text": "<img src=x> sat"}
    (site.folder / "asr.json").write_text(json.dumps(rows))
    annotation = load_annotation("asr.json", prefix="wavs")
    result = run(EchoLM(say=lambda request: evil), output_dir="<out>")
    scored = score("asr.json", {sample.id: evil for sample in annotation})
    for found, sounds in ((annotation, 2), (result, 2), (scored, 0)):
        view = show(found, clips=2)
        html = view._repr_html_()
        assert html.count("data:audio/ogg;base64,") == sounds
        assert "&lt;b&gt;" in html
        for shown in (html, str(view)):
            assert "\x1b" not in shown
        assert not any(mark in html for mark in ("<script", "<img", "<b>test", "<out>"))
        assert repr(view) == str(view)
        assert show(found, clips=0)._repr_html_().count("<audio") == 0
    assert "<del" in show(result)._repr_html_()
    with pytest.raises(TypeError, match="not int"):
        show(3)  # type: ignore[arg-type]


def test_show_of_a_submission_has_its_answers(site: Site) -> None:
    view = show(run(factory, mode="submission_asr"), clips=1)
    assert "the CAT sat" in view._repr_html_()
    assert "submission_asr: speech recognition" in str(view)


def test_a_server_answers_inside_a_running_event_loop(site: Site) -> None:
    """In a notebook every cell is run by one."""

    async def cell(address: str) -> EvaluationResult:
        return run(f"openai:{address}#{MODEL}", options={"model.max_retries": 1, "model.timeout_s": 10.0})

    with served() as server:
        result = asyncio.run(cell(server.address))
    assert result.counts.failed == 0
    assert read_journal(result.folder / "predictions.jsonl")[0].text == "clip of 16000 samples"


def test_a_home_folder_may_be_typed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(site.folder))
    found = load_annotation("~/asr.json", prefix="~/wavs", check_audio=True)
    result = run_model(factory, "~/asr.json", prefix="~/wavs", output_dir="~/out", options=QUICK)
    assert found.path == site.folder / "asr.json"
    assert result.folder.is_relative_to(site.folder / "out")
    assert score("~/asr.json", str(result.folder).replace(str(site.folder), "~")).task.name == "asr"


def test_a_module_that_has_changed_is_read_again_or_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has the code of before, and the file's hash would be that of other code."""
    file = site.folder / "edited_model.py"
    file.write_text(MODULE.format(said=SAID))
    monkeypatch.setattr(sys, "path", [str(site.folder), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("edited_model")
    first = run("python:edited_model:load")
    file.write_text(MODULE.format(said=["other"] * 5))
    for model in ("python:edited_model:load", module.load, functools.partial(module.load)):
        with pytest.raises(ConfigError, match=r"edited_model\.py has changed since it was imported"):
            run(model)
    importlib.reload(module)
    for model in ("python:edited_model:load", module.load, functools.partial(module.load)):
        result = run(model)
        assert {each.text for each in read_journal(result.folder / "predictions.jsonl")} == {"other"}
    with pytest.raises(JournalError, match=r"model\.name"):
        run("python:edited_model:load", resume=first.folder)
