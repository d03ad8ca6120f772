"""`python -m llmcxr_service.openapi docs/openapi.json` writes the API's description anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings


def document() -> str:
    """The OpenAPI document of this version, as it is committed."""
    return json.dumps(create_app(Settings()).openapi(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the document to the path that is the only argument."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m llmcxr_service.openapi FILE")
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
