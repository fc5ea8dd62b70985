"""`python -m hpskit` is the command line."""

from hpskit.cli import main

if __name__ == "__main__":
    main()
