"""JackTrip's own command line: which of its options mean what here."""
