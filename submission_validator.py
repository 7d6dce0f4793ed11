"""Check a submission CSV: python submission_validator.py FILE.csv... [--annotation FILE.json] [--json]."""

from evaluator.commands.validate import validate_command

if __name__ == "__main__":
    validate_command()
