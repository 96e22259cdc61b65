"""After the run: taking apart what was captured, and naming each fault."""
