"""What a load run is: who plays, on which network, what happens when, and what is good enough."""
