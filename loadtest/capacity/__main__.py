"""``python -m loadtest.capacity``: the same as ``tuttihub capacity``."""

from loadtest.capacity.command import capacity

if __name__ == "__main__":
    capacity(prog_name="python -m loadtest.capacity")
