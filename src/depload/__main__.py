"""``python -m depload`` is ``depload``."""

from depload.cli import main

if __name__ == "__main__":
    main()
