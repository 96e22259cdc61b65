"""Who may join: credentials over TLS, as JackTrip clients bring them with ``-A``."""
