"""The command `audiolm-evaluator explain`: the signature of a score, or a protocol by its name, in words."""

import click

from evaluator.commands.command_line import SETTINGS, escape_what_cannot_be_printed, version_option
from evaluator.errors import AudioLMError


@click.command("explain", context_settings=SETTINGS)
@click.argument("signature")
@version_option
def explain_command(signature: str) -> None:
    """Say in words what a SIGNATURE, or a protocol's name, stands for.

    A signature is the line "protocol:...|version:..." beside every score, in the summary and in scores.json; put it in
    quotation marks. Tells each step, each field, and which versions are installed otherwise here.
    """
    escape_what_cannot_be_printed()
    # Here, so that --help need not wait for them.
    from evaluator.scoring.protocols.explain import explain, explain_protocol
    from evaluator.scoring.protocols.signature import parse_signature

    try:
        lines = explain(parse_signature(signature)) if ":" in signature else explain_protocol(signature)
    except AudioLMError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    click.echo("\n".join(lines))
