"""`python -m sn37` is the `sn37` command."""

from sn37.cli import main

main()
