"""Named conditions: why somebody is not heard, or does not hear, in plain words.

::

    looks.py       what the arena counts, once a second, and how it grew since
    condition.py   what a condition is: its words, when it holds, when it is raised and cleared
    unheard.py     conditions of a client: not heard, or not hearing
    suffering.py   conditions of a client that is heard, but not well, or not as expected
    whole.py       conditions of the hub as a whole
    endings.py     why a client was let go
    refusals.py    why somebody was turned away
    watch.py       raises and clears them, and writes both into the log

``docs/troubles.md`` has them all, under the words that users search for.
"""
