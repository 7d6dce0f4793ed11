"""Linear layers held in fewer bits: which kinds there are, what they need, and what quantised layers consist of."""
