"""``python -m loadtest`` is ``tuttihub loadtest``."""

from loadtest.command import loadtest

loadtest(prog_name="tuttihub loadtest")
