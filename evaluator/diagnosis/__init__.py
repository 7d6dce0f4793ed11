"""What is wrong with a set's answers besides their score: loops, refusals, confusions, the worst clips."""
