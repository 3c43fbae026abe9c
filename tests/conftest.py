"""For all tests, and the processes they start: one thread, and no spinning.

Must be said before torch is loaded. The networks of tests are so small that a second thread costs more than it gives
(on two cores one test took 30 s in place of 9 s), and threads that spin for each other lose whole time slices on a busy
machine (pipeline/supervisor.py).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
