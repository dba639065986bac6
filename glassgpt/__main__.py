"""The `glassgpt` command; also `python -m glassgpt`, so that launchers such as torchrun can start it."""

import os
import sys


def main() -> None:
    """Run the command line. A signal is one line even while the command is still being imported."""
    # No command needs the threads of numpy's matrix products, which at their start take a core for a tenth of a second.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from glassgpt.cli.process import interrupt_once, interruptible_imports

        interrupt_once()
        with interruptible_imports():
            from glassgpt.cli.main import main as command
        command()
    except KeyboardInterrupt:
        print("glassgpt: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
