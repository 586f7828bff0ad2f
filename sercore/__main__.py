"""`python -m sercore …` and the command `sercore …`."""

import sys

from sercore.errors import ConfigError


def main():
    """Run the command line; a bad `SERCORE_EMOTIONS`, which is read at the first import, is one line too."""
    try:
        from sercore.cli import app
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    app(prog_name="sercore")


if __name__ == "__main__":
    main()
