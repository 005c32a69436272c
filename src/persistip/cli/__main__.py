"""`python -m persistip.cli`: the command line of the very interpreter that is running, wherever its scripts are."""

from persistip.cli import main

main()
