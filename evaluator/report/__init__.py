"""What a run is told as: lines for a terminal, scores.json, and report.html."""
