"""Shows a SALMONN as a web page: `python web_demo.py --cfg-path configs/decode_config.yaml`.

Loads the model of the configuration, serves the page on this machine alone and says where; Ctrl-C ends it. Neither the
server nor the page asks anything of another machine, unless --share opens a public link.
"""

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn

import click

from salmonn.command_line import INTERRUPTED, TERMINATED, options_command, stop
from salmonn.config.config import load_config
from salmonn.config.schema import Config
from salmonn.errors import MissingPackageError, SalmonnError

if TYPE_CHECKING:
    from types import FrameType

    from salmonn.inference.inference import SalmonnLM

HOST = "127.0.0.1"
EXAMPLES = Path(__file__).resolve().parent / "examples"
PASSWORD_VARIABLE = "AUDIOLM_DEMO_PASSWORD"
# Gradio reads these, and some would widen what the flags here allow.
UNWANTED_VARIABLES = ("GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_SERVER_NAME", "GRADIO_WATCH_DIRS", "GRADIO_DEBUG")


@options_command
@click.option(
    "--cfg-path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file.",
)
@click.option("--port", default=9527, show_default=True, type=click.IntRange(1, 65535), help="Port on this machine.")
@click.option("--device", help="cpu, cuda, cuda:1 or auto; default: run.device of the configuration.")
@click.option("--options", multiple=True, metavar="KEY=VALUE...", help="Overrides, e.g. generate.num_beams=1.")
@click.option("--share", is_flag=True, help="Open a public link through Gradio's servers; needs a password.")
@click.option(
    "--password",
    envvar=PASSWORD_VARIABLE,
    metavar="USER:PASSWORD",
    help=f"Ask visitors for it. Better in the environment variable {PASSWORD_VARIABLE}, which other users cannot read.",
)
@click.option("--max-upload-mb", default=50, show_default=True, type=click.IntRange(1), help="Largest file.")
@click.option("--max-seconds", default=600, show_default=True, type=click.IntRange(1), help="Longest clip.")
def main(
    cfg_path: Path,
    port: int,
    device: str | None,
    options: tuple[str, ...],
    share: bool,
    password: str | None,
    max_upload_mb: int,
    max_seconds: int,
) -> None:
    """Show a SALMONN as a web page on this machine.

    \b
    Examples:
      python web_demo.py --cfg-path configs/decode_config.yaml
      python web_demo.py --cfg-path configs/decode_config.yaml --port 8000 --options generate.num_beams=1
      AUDIOLM_DEMO_PASSWORD=kim:secret python web_demo.py --cfg-path configs/decode_config.yaml --share
    """
    auth = split_password(password)
    if share and auth is None:
        raise click.UsageError(f"--share lets anybody in: give --password USER:PASSWORD or set {PASSWORD_VARIABLE}.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # A request of the page is no news.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, terminate)
    try:
        config = load_config(cfg_path, options, purpose="answer")
        from salmonn.inference.inference import load_language_model

        model = load_language_model(config, device or config.run.device)
        with tempfile.TemporaryDirectory(prefix="audiolm-demo-") as folder:
            prepare_environment(Path(folder))
            serve(
                model,
                name=describe_model(config, model),
                port=port,
                share=share,
                auth=auth,
                max_upload_mb=max_upload_mb,
                max_seconds=max_seconds,
                uploads=Path(folder),
            )
    except SalmonnError as error:
        stop(error)
    except ModuleNotFoundError as error:
        stop(MissingPackageError(error))
    except KeyboardInterrupt:
        click.echo(err=True)
        sys.exit(INTERRUPTED)


def split_password(password: str | None) -> tuple[str, str] | None:
    """Split "user:password"; None where there is none.

    Raises:
        click.UsageError: it has another form; the message does not repeat it.
    """
    if not password:
        return None
    user, _, secret = password.partition(":")
    if not user or not secret:
        raise click.UsageError(f"--password (or {PASSWORD_VARIABLE}) must have the form USER:PASSWORD.")
    return user, secret


def prepare_environment(folder: Path) -> None:
    """Set what Gradio reads when it is imported: no telemetry, and a folder of our own for what visitors send."""
    for name in UNWANTED_VARIABLES:
        os.environ.pop(name, None)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)


def serve(
    model: "SalmonnLM",
    *,
    name: str,
    port: int,
    share: bool,
    auth: tuple[str, str] | None,
    max_upload_mb: int,
    max_seconds: int,
    uploads: Path,
) -> None:
    """Serve the page until the process is ended.

    Raises:
        SalmonnError: the port is in use.
    """
    from salmonn.demo.page import build_page
    from salmonn.demo.server import launch

    page = build_page(model, name=name, examples=EXAMPLES, longest=max_seconds)
    address, public = launch(
        page,
        host=HOST,
        port=port,
        share=share,
        auth=auth,
        max_upload_mb=max_upload_mb,
        allowed=EXAMPLES,
        uploads=uploads,
    )
    click.echo(f"open {address} (Ctrl-C ends)")
    if public:
        click.echo(f"public, with the password: {public}")
    try:
        Event().wait()
    finally:
        page.close(verbose=False)


def describe_model(config: Config, model: "SalmonnLM") -> str:
    """Say what the model is: checkpoint, parts without their folders, size, and where it computes."""
    from salmonn.device import dtype_name

    parts: dict[str, Any] = config.shareable()["model"]
    checkpoint = parts["ckpt"] if config.model.checkpoint_path else "an untrained bridge"
    ears = f"Whisper encoder {parts['whisper_path']}" + (f" and {parts['beats_path']}" if parts["beats_path"] else "")
    weights = list(model.model.parameters())
    millions = sum(weight.numel() for weight in weights) / 1e6
    dtype = dtype_name(model.model.llm.dtype)
    return (
        f"SALMONN {checkpoint}: {ears}, language model {parts['llama_path']}, {millions:,.1f} M parameters, "
        f"{dtype} on {weights[0].device}"
    )


def terminate(number: int, frame: "FrameType | None") -> NoReturn:
    """Leave through the clean-up when the process is asked to end."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    main()
