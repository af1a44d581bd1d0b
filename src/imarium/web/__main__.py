"""``python -m imarium.web`` prints the description of the custody API, which docs/openapi.json has."""

import json
import sys

from imarium.web.custody import openapi_document


def main() -> None:
    """Print it."""
    json.dump(openapi_document(), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
