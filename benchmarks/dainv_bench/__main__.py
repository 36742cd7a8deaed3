"""``python -m dainv_bench``: the same as the command ``dainv-bench``."""

from dainv_bench.cli import main

if __name__ == "__main__":
    main(prog_name="dainv-bench")
