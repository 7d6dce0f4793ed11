"""What can be known to be wrong before weights are read, in one report."""
