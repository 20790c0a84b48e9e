"""A worker process of a local run, started by pipelines/local_workers.py: Beam's own, quiet about what the run says."""

import gc
import logging
import os
import sys
import threading
import time

from pipelines.bytes_read import SHARED


def main(run: int) -> None:
    """Work until the run, the process of this number, says that it is over, or is gone."""
    threading.Thread(target=_end_with, args=(run,), daemon=True).start()
    gc.disable()  # what is imported stays: looking through it for cycles takes a fifth of the time
    from apache_beam.runners.worker import sdk_worker_main  # takes a while: the run may be gone by then

    gc.enable()
    ours = logging.StreamHandler(sys.stderr)
    ours.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    ours.setLevel(logging.WARNING)
    ours.addFilter(lambda record: not record.name.startswith("apache_beam"))
    logging.getLogger().addHandler(ours)
    # Beam prints every error here, and gives it to the run as well.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    sdk_worker_main.main(sys.argv)


def _end_with(run: int) -> None:
    """End this process with the run: Beam would leave it behind when the run is killed, or wait for it."""
    while os.getppid() == run and os.path.exists(os.environ[SHARED]):
        time.sleep(0.2)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
