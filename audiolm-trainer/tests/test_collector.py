"""The garbage collector is kept away from imports, in processes that have no model yet."""

import gc
import subprocess
import sys

import transformers

from salmonn.collector import lasting_imports


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_a_first_import_makes_is_left_out_and_the_collector_runs_again() -> None:
    code = """
import gc
from salmonn.collector import lasting_imports
try:
    with lasting_imports():
        assert not gc.isenabled()
        import decimal
        raise ImportError
except ImportError:
    pass
assert gc.isenabled() and gc.get_freeze_count() == 0
with lasting_imports():
    import fractions
assert gc.isenabled()
print(gc.get_freeze_count())
"""
    assert int(run(code)) > 1000


def test_a_collector_that_somebody_stopped_stays_stopped() -> None:
    code = """
import gc
from salmonn.collector import lasting_imports
gc.disable()
with lasting_imports():
    pass
print(gc.isenabled(), gc.get_freeze_count())
"""
    assert run(code) == "False 0"


def test_nothing_happens_where_a_model_may_be() -> None:
    assert transformers.__name__ in sys.modules
    before = gc.get_freeze_count()
    with lasting_imports():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
