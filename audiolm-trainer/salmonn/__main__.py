"""Commands around weights: `python -m salmonn export`, `convert` and `compress`; `--help` after each says more."""

import json
import logging
import sys
from pathlib import Path
from typing import get_args

import click

from salmonn.command_line import HELP_FLAGS, INTERRUPTED, OptionsCommand, stop, with_version
from salmonn.config.config import load_config
from salmonn.config.schema import Precision
from salmonn.cpu_threads import prepare_cpu_threads
from salmonn.errors import SalmonnError
from salmonn.weights.exported_folder import FORMS, Form

DTYPES = get_args(Precision)[1:]
"""All but "auto"."""


@click.group(context_settings=HELP_FLAGS)
@with_version
def main() -> None:
    """Commands around a trained SALMONN."""
    prepare_cpu_threads()


@main.command(context_settings=HELP_FLAGS)
def settings() -> None:
    """Print every setting of the YAML file that this package reads, as Markdown tables."""
    from pydantic import BaseModel

    from salmonn.compress.settings import CompressSettings
    from salmonn.config.reference import reference
    from salmonn.config.schema import DatasetsConfig, GenerateConfig, ModelConfig, RunConfig

    sections: dict[str, type[BaseModel]] = {
        "model": ModelConfig,
        "generate": GenerateConfig,
        "datasets": DatasetsConfig,
        "run": RunConfig,
        "compress": CompressSettings,
    }
    click.echo(reference(sections))


@main.command(cls=OptionsCommand, context_settings=HELP_FLAGS)
@click.option(
    "--cfg-path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file; its section model names the components and the checkpoint.",
)
@click.option("--format", "form", required=True, type=click.Choice(FORMS), help="What to write.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The file or folder to write.")
@click.option("--ckpt", type=click.Path(path_type=Path, exists=True), help="The checkpoint; default: model.ckpt.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of what is written; default: as the files are.")
@click.option("--force", is_flag=True, help="Replace an earlier export of this name.")
@click.option("--options", multiple=True, metavar="KEY=VALUE...", help="Overrides, e.g. model.lora_alpha=16.")
def export(
    *,
    cfg_path: Path,
    form: Form,
    output: Path,
    ckpt: Path | None,
    dtype: str | None,
    force: bool,
    options: tuple[str, ...],
) -> None:
    """Write a trained model in a form that others can use, with a model card.

    \b
    pth          the layout of the released checkpoints, as the original trainer's users load it
    safetensors  the same names in one .safetensors file
    peft         a folder: the LoRA adapter for peft, and the rest in bridge.safetensors
    merged       a folder: the language model with the adapter merged in, and bridge.safetensors

    \b
    Examples:
      python -m salmonn export --cfg-path configs/decode_config.yaml --format safetensors --output salmonn.safetensors
      python -m salmonn export --cfg-path configs/decode_config.yaml --format merged --dtype float16
          --ckpt output/2026-01-01_12-00-00/checkpoint_best.pth --output my-salmonn
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        # JSON's strings are YAML's, whatever a path has in it.
        chosen = (f"model.ckpt={json.dumps(str(ckpt.absolute()))}",) if ckpt else ()
        config = load_config(cfg_path, (*options, *chosen), purpose="answer")
        from salmonn.export.export import export_model

        card = export_model(config, form=form, output=output, dtype=dtype, force=force)
    except SalmonnError as error:
        stop(error)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was written", err=True)
        sys.exit(INTERRUPTED)
    click.echo(f"wrote {output}")
    click.echo(f"its card, to read through before passing it on: {card}")


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="What to write; default: beside the source.")
@click.option("--force", is_flag=True, help="Replace what an earlier conversion wrote.")
def convert(*, source: Path, output: Path | None, force: bool) -> None:
    """Write weights as .safetensors, once: they are then mapped instead of read, and cannot hold code.

    SOURCE is a .pth, .pt or .bin file (a SALMONN checkpoint, a BEATs file), or the folder of a language model or
    Whisper whose weights are pytorch_model*.bin. It stays as it is; model.ckpt, model.beats_path and folders take the
    result.

    \b
    Examples:
      python -m salmonn convert BEATs_iter3_plus_AS2M.pt
      python -m salmonn convert salmonn_v1.pth --output weights/salmonn_v1.safetensors
      python -m salmonn convert models/vicuna-13b-v1.1
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        from salmonn.weights.conversion import convert as convert_weights

        written = convert_weights(source, output=output, force=force)
    except SalmonnError as error:
        stop(error)
    except KeyboardInterrupt:
        click.echo("interrupted; no file was left unfinished", err=True)
        sys.exit(INTERRUPTED)
    for done in written:
        click.echo(
            f"wrote {done.path}: {done.size / 1e6:.1f} MB, from {done.source.name}: {done.source_size / 1e6:.1f} MB"
        )


@main.command("compress", cls=OptionsCommand, context_settings=HELP_FLAGS)
@click.option(
    "--cfg-path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file with the section compress.",
)
@click.option("--options", multiple=True, metavar="KEY=VALUE...", help="Overrides, e.g. compress.drop_llm_layers=2.")
def compress_command(*, cfg_path: Path, options: tuple[str, ...]) -> None:
    """Make a trained SALMONN smaller: weigh its layers, drop some, heal the rest; the same command goes on.

    \b
    Examples:
      python -m salmonn compress --cfg-path configs/nano/compress.yaml
      python -m salmonn compress --cfg-path configs/nano/compress.yaml --options compress.distill_weight=0.0
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        from salmonn.compress.settings import load_settings

        settings = load_settings(cfg_path, options)
        from salmonn.compress.figures import as_markdown
        from salmonn.compress.run import compress

        rows = compress(settings)
    except SalmonnError as error:
        stop(error)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on", err=True)
        sys.exit(INTERRUPTED)
    click.echo("\n".join(["", *as_markdown(rows), "", f"files: {settings.output_dir}"]))


if __name__ == "__main__":
    main()
