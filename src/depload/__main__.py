"""``python -m depload`` is ``depload``."""

from depload.command.cli import main

if __name__ == "__main__":
    main()
