"""The hub's side of a local JACK graph; the sound is that of ``workers.jackbridge``."""
