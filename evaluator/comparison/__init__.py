"""Systems compared on the same clips: sources, differences and their tests, slices, alignments, suspect references."""
