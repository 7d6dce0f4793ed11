"""The command `audiolm-evaluator settings`: the settings that the evaluator itself reads, as Markdown tables."""

import click

from evaluator.commands.command_line import SETTINGS, version_option


@click.command("settings", context_settings=SETTINGS)
@version_option
def settings_command() -> None:
    """Print every setting of the YAML file that the evaluator reads; the model package has further ones."""
    # Here, so that --help need not wait for them.
    from evaluator.config.reference import reference
    from evaluator.config.sections import DatasetsConfig, RunConfig, ScoringConfig, StrictSection
    from evaluator.config.server_sections import ServerGenerateConfig, ServerModelConfig

    sections: dict[str, type[StrictSection]] = {
        "datasets": DatasetsConfig,
        "run": RunConfig,
        "scoring": ScoringConfig,
        "model (openai:...)": ServerModelConfig,
        "generate (openai:...)": ServerGenerateConfig,
    }
    click.echo(reference(sections))
