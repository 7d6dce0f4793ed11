"""What is wrong or missing before a run, and what the run will need."""
