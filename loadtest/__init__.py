"""Virtual clients that load a hub through the wire, check what returns, and measure the cost."""
