"""`python -m sercore …` is the command `sercore …`."""

from sercore.cli import app

app(prog_name="sercore")
