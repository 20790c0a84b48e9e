"""A worker process of a local run, started by pipelines/local_workers.py: Beam's own, quiet about what the run says."""

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import IO, Any

from pipelines.bytes_read import SHARED
from pipelines.clients import do_as_the_run

_SAMPLING_MS = 10

# Beam's data travels in messages of forty times as much, for each of which every copy takes memory anew.
BYTES_A_MESSAGE = 256 * 1024


def work(run: int, orders: IO[bytes], tell_begun: int, spill_files: list[int], own_file: int | None) -> None:
    """Work for the run, the process of this number, until it says that it is over, or is gone.

    `orders`: a line comes from it when there is work, the environment that Beam's worker wants as JSON.
    `tell_begun`: where to write a byte for each message of input that is begun with.
    `spill_files`, `own_file`: see `Spill.adopt`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the run ends its workers itself
    threading.Thread(target=_end_with, args=(run,), daemon=True).start()
    gc.disable()  # as in the run itself, see `make_options`
    do_as_the_run()
    from apache_beam.runners.worker import sdk_worker_main  # takes a while: the run may be gone by then

    from pipelines.find_arguments import remember_arguments  # imports Beam
    from transforms.spill import SPILL

    SPILL.adopt(spill_files, own_file)
    remember_arguments()  # as the run, which a fork of it has done already
    end_bundles_at_once()
    _take_little_at_once()
    _tell_what_is_begun(tell_begun)
    os.environ.update(json.loads(orders.readline() or os._exit(0)))
    ours = logging.StreamHandler(sys.stderr)
    ours.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    ours.setLevel(logging.WARNING)
    ours.addFilter(lambda record: not record.name.startswith("apache_beam"))
    logging.getLogger().handlers[:] = [ours]
    # Beam prints every error here, and gives it to the run as well.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    sdk_worker_main.main(sys.argv)


def end_bundles_at_once() -> None:
    """Let a bundle end when its work does: Beam's worker waits for the thread that looks on, every 0.2 s."""
    from apache_beam.runners.worker import statesampler

    statesampler.StateSampler.__init__.__defaults__ = (_SAMPLING_MS,)


def _take_little_at_once() -> None:
    """Let what waits for work wait in the run, where the other worker can take it as well, and not in this process."""
    from apache_beam.runners.worker import channel_factory, data_plane

    init: Any = data_plane.SizeBasedBufferingClosableOutputStream.__init__
    init.__defaults__ = (*init.__defaults__[:2], BYTES_A_MESSAGE, *init.__defaults__[3:])
    data_plane._DEFAULT_RECEIVE_QUEUE_MAX_ELEMENTS = 1
    # gRPC measures how much more it could hold, and then holds seconds of work.
    channel_factory.GRPCChannelFactory.DEFAULT_OPTIONS.append(("grpc.http2.bdp_probe", 0))


def _tell_what_is_begun(tell_begun: int) -> None:
    """Let the run know when the next message may come: it cannot see what waits here."""
    from apache_beam.runners.worker.bundle_processor import DataInputOperation

    process = DataInputOperation.process_encoded

    def tell_and_process(self: DataInputOperation, message: bytes) -> None:
        if message:  # the last one has only its end
            os.write(tell_begun, b"\0")
        process(self, message)

    beam_input: Any = DataInputOperation
    beam_input.process_encoded = tell_and_process


def _end_with(run: int) -> None:
    """End this process with the run: Beam would leave it behind when the run is killed, or wait for it."""
    while os.getppid() == run and os.path.exists(os.environ[SHARED]):
        time.sleep(0.2)
    os._exit(0)


if __name__ == "__main__":
    parent, tell_begun, own, *files = sys.argv[1:]
    work(int(parent), sys.stdin.buffer, int(tell_begun), [int(file) for file in files], int(own) if own else None)
