"""Control plane of tuttihub: it never touches audio."""
