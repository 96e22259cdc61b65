"""How many clients a machine carries, what gives out first, and what another machine would do."""
