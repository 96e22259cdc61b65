"""This machine as one end of a JackTrip connection: a hub's client, or one of two peers."""
