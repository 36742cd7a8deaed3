"""``python -m dainv``: the same as the command ``dainv``."""

from dainv.cli import main

if __name__ == "__main__":
    main(prog_name="dainv")
