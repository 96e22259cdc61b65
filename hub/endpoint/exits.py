"""Exit codes of one end of a connection.

====  =========================================================
code  meaning
====  =========================================================
0     ended as it was told, or the other side said good-bye
1     failed
2     a setting turned out to be wrong here: a file, an address
3     the UDP port is in use
4     no sound: JACK or the card is not there, or the workers do not start or stay alive
5     the other side does not let us in, or cannot be understood
6     nobody is there, or nobody is there any more
====  =========================================================

Other wrong options are the command line's to say, also with 2.
"""

from hub.exits import EXIT_DONE as EXIT_DONE
from hub.exits import EXIT_FAILED as EXIT_FAILED
from hub.exits import EXIT_NO_WORKERS as EXIT_NO_WORKERS
from hub.exits import EXIT_PORT_IN_USE as EXIT_PORT_IN_USE
from hub.exits import EXIT_WRONG_OPTION as EXIT_WRONG_OPTION

EXIT_REFUSED = 5
EXIT_NOBODY = 6
