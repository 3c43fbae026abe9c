"""For all tests: threads that wait for each other do not spin, as in the worker (pipeline/supervisor.py).

Must be said before torch is loaded. On a busy machine spinning made one test 20 times slower.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
