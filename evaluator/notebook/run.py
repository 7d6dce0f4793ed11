"""`run_model`: what `audiolm-evaluator run` does, from Python."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from os import PathLike

from evaluator.answer_files.scored_file import VALID_MODES, task_of_labels
from evaluator.config.config import load_config
from evaluator.cpu_threads import prepare_cpu_threads
from evaluator.errors import ConfigError
from evaluator.evaluate import evaluate
from evaluator.extras import check_installed, extras_of_run
from evaluator.models.choose import RUN_CONFIG, annotation_option
from evaluator.notebook.annotation import known_mode
from evaluator.notebook.loaded import LoadedAnnotation
from evaluator.notebook.masked import masked
from evaluator.notebook.model import package_of
from evaluator.notebook.options import option_texts
from evaluator.notebook.paths import typed_path, typed_path_or_none
from evaluator.provider.questions import config_check
from evaluator.run.record import EvaluationResult
from evaluator.tasks import Mode, task_of
from evaluator.workers.answering import Progress


def run_model(
    model: object,
    annotation: str | PathLike[str] | LoadedAnnotation | None = None,
    *,
    mode: Mode | None = None,
    prefix: str | PathLike[str] | None = None,
    config: str | PathLike[str] | None = None,
    options: Mapping[str, object] | None = None,
    device: str | None = None,
    output_dir: str | PathLike[str] | None = None,
    resume: str | PathLike[str] | None = None,
    limit: int | None = None,
    prompts: str | PathLike[str] | None = None,
    trust_remote_code: bool = False,
    name: str | None = None,
    progress: bool | Progress = False,
) -> EvaluationResult:
    """Run a model over an annotation: a CSV, and in valid modes scores and the report.

    Everything is checked before the model loads. What the model has answered outlives an error or an interruption:
    `resume="auto"` goes on. OMP_NUM_THREADS and GOMP_SPINCOUNT are set where nobody has, for PyTorch on a CPU.

    Args:
        model: "KIND:WHAT" as of `--model` (docs/models.md); `factory(config, device)`, a function or class; a loaded
            model, an object with `sampling_rate` and `generate`; a model package, as `import salmonn`.
        annotation: a file, or what `load_annotation` gave; None: the one of the configuration.
        mode: what to run; None: what `load_annotation` found, or the valid mode of the task of the labels.
        prefix: folder that relative audio paths start from; None: that of `load_annotation`, else of the configuration.
        config: a YAML file; None: the usual values.
        options: settings by their dotted names, over the file's: {"run.batch_size_eval": 4}.
        device: "auto", "cpu", "cuda" or "cuda:1".
        output_dir: gets submission_results/ and valid_results/; None: the configuration's, else the working directory.
        resume: the folder of an interrupted run, or "auto" for the latest that fits, if there is one.
        limit: the first rows only, for a try.
        prompts: a prompt book, for "transformers:..." and "openai:...".
        trust_remote_code: run the Python files that lie beside a model's weights, with all your rights.
        name: what a factory or a loaded model is called in run.json; part of what must be the same to go on.
        progress: True shows a bar; a function is told (clips done, clips in all, clips that failed) now and then.

    Returns:
        EvaluationResult: counts, scores, times and paths; `show` shows it.

    Raises:
        AudioLMError: as the command ends with; see evaluator/errors.py. What the model raises while it answers comes
            through as it is.
    """
    with masked() as redact:
        package = package_of(
            model,
            prompts=typed_path_or_none(prompts),
            trust_remote_code=trust_remote_code,
            name=name,
        )
        chosen = _mode(mode, annotation)
        if limit is not None and not (isinstance(limit, int) and limit >= 1):
            raise ConfigError(f"limit: expected a number of rows from 1, found {limit!r}.")
        prepare_cpu_threads()
        check_installed(*extras_of_run(chosen))
        settings = load_config(
            typed_path_or_none(config) or RUN_CONFIG,
            _options(options, annotation, prefix, chosen),
            device=device,
            output_dir=None if output_dir is None else str(typed_path(output_dir)),
            check_extra=config_check(package),
            task=task_of(chosen),
        )
        redact.add(settings.secret)
        with _progress(progress) as told:
            return evaluate(
                package,
                settings,
                chosen,
                progress=told,
                resume=None if resume is None else str(typed_path(resume)),
                limit=limit,
            )


def _mode(mode: Mode | None, annotation: str | PathLike[str] | LoadedAnnotation | None) -> Mode:
    if mode is not None:
        return known_mode(mode)
    if annotation is None:
        raise ConfigError('Say what to run: mode="valid_asr", or an annotation whose labels tell the task.')
    if isinstance(annotation, LoadedAnnotation):
        return annotation.mode
    return VALID_MODES[task_of_labels(typed_path(annotation)).name]


def _options(
    options: Mapping[str, object] | None,
    annotation: str | PathLike[str] | LoadedAnnotation | None,
    prefix: str | PathLike[str] | None,
    mode: Mode,
) -> list[str]:
    """Settings as `--options` has them: texts that are YAML, as every JSON text is."""
    if isinstance(annotation, LoadedAnnotation):
        prefix = annotation.prefix if prefix is None else prefix
        annotation = annotation.path
    told = option_texts(options)
    if prefix is not None:
        told += option_texts({"datasets.prefix": prefix})
    return told if annotation is None else [*told, annotation_option(mode, typed_path(annotation))]


@contextlib.contextmanager
def _progress(progress: bool | Progress) -> Iterator[Progress]:
    """What is told how far a run is: the caller's function, a bar, or nobody."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield lambda done, total, failed: None
        return
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # A notebook without ipywidgets gets a bar of text, and need not be told.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    with tqdm(unit="clip") as bar:

        def show(done: int, total: int, failed: int) -> None:
            bar.total = total
            if failed:
                bar.set_postfix_str(f"{failed} without an answer", refresh=False)
            bar.update(done - bar.n)

        yield show
