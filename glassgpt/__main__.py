"""`python -m glassgpt`, so that launchers such as torchrun can start it."""

from glassgpt.cli.main import main

main()
