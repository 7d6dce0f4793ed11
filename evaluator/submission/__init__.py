"""The CSV to hand in: one set of rules for writing and checking it."""
