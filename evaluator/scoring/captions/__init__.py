"""What Java and sentence models make of captions; what is kept of that on disk."""
