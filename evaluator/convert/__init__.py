"""Other people's data sets made into annotations, and annotations into theirs: one reader a file, rows in between."""
