"""``tuttihub doctor HOST``: what stands between a musician and a hub, before the rehearsal.

It speaks to any JackTrip hub as a client does, in the order in which a client would fail::

    names ──► knock ──► playing ──► listening ──► sizes, ports ──► advice
    address   TCP,      UDP both    loss, delay,  what a path      queue, redundancy,
              port      ways        clocks        and router do    packet size
                          │
                          └── nothing comes: swallowed (which way is closed, and where)

``examination`` walks this way and makes a ``report``; ``words`` has what is said about each fault.
Sockets are in ``knock``, ``line``, ``playing``, ``swallowed``, ``sizes`` and ``mapping``;
``mark``, ``pace``, ``listening`` and ``advice`` only compute.
"""
