"""What `from evaluator import ...` offers in Python: load an annotation, run a model, score, compare, show.

Nothing is printed: what the commands say on the way is logged (`logging.basicConfig(level="INFO")` shows it).
"""

import logging

# Without a handler Python would write warnings to standard error.
logging.getLogger("evaluator").addHandler(logging.NullHandler())
