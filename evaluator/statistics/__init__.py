"""How sure a score is: units that are drawn anew, the bootstrap, intervals, tests of differences."""
