"""Starts the web chat: `python app.py [--host HOST] [--port PORT]`. Knows: the settings and the page. Holds no logic."""

from __future__ import annotations

import argparse
import sys

from biobridge_rag.config import Settings
from biobridge_rag.errors import BiobridgeError
from biobridge_rag.ui.page import launch


def main() -> None:
    parser = argparse.ArgumentParser(prog="app.py", description="Start the biobridge-rag chat page.")
    parser.add_argument("--host", help="address to serve on")
    parser.add_argument("--port", type=int, help="port to serve on")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        launch(Settings(**given))
    except BiobridgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
