"""`python -m pilotwrap VERB`."""

from pilotwrap.cli.main import program

program()
