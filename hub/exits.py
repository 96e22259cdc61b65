"""Exit codes of a hub, and of all that lives as long.

====  =========================================================
code  meaning
====  =========================================================
0     stopped as it was told
1     failed
2     a setting turned out to be wrong here: an address that is not this machine's
3     a port (or the control socket) is in use
4     its worker processes do not start
130   Ctrl-C, before there was anything to end in order
====  =========================================================

Other wrong options are the command line's to say, also with 2.
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_OPTION = 2
EXIT_PORT_IN_USE = 3
EXIT_NO_WORKERS = 4
EXIT_INTERRUPTED = 130
