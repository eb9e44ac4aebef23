"""What the tests' jobs do; run as `python job_work.py <what> <folder>`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from serving.job_files import conclude, tell

what, folder = sys.argv[1], Path(sys.argv[2])
match what:
    case "count":
        for number in range(1, 4):
            tell(folder, number / 4, f"step {number}")
            time.sleep(0.05)
        request = (folder / "request" / "text").read_text()
        conclude(folder, "succeeded", {"request": request, "niceness": os.nice(0)})
    case "refuse":
        conclude(folder, "refused", {"rows": 1}, "one row is too few")
    case "fail":
        print("a line that users need not see")
        sys.exit(3)
    case "hang":
        (folder / "work" / "half").write_text("half-written")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "child").write_text(str(child.pid))
        tell(folder, 0.5, "hanging")
        time.sleep(600)
    case "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(folder, 0.5, "hanging")
        time.sleep(600)
