"""``python -m imarium`` is ``imarium``."""

from imarium.cli import main

main()
