"""The board: systems ranked by several criteria, from the results of finished runs or a CSV."""
