"""What the hub does before it has too much to do, and when it has."""
