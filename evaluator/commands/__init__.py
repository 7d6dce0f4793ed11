"""The subcommands of `audiolm-evaluator`, and the surroundings of a command that runs a model."""
