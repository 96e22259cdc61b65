"""The control socket's language, described once: what is asked, answered and told.

``requests`` has a type an operation, ``results`` what comes back, ``state`` what ``status`` tells,
``events`` what is told unasked, ``errors`` why not. From these types the hub reads requests
(``reading``), ``hub.client`` reads replies, and ``rendering`` makes the tables of docs/control.md
and the JSON Schema beside it.
"""
