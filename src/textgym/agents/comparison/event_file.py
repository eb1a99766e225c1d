"""An event file of TensorBoard, written at once: an error is the caller's.

torch's `SummaryWriter` writes in a thread of its own, which says on standard error what went wrong
there, and tells its owner later.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary as torch_summary


class EventFile:
    """Adds summaries to a file.

    :param writer: of records.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, summary: Summary, step: int = 0) -> None:
        """Add any summary.

        :raises OSError: if it cannot be written.
        """
        self._add(Event(wall_time=time.time(), step=step, summary=summary))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point of a curve (float32)."""
        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def add_image(self, tag: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        """Add a picture, `[height, width, 3]`."""
        summary = torch_summary.image(tag, pixels, dataformats="HWC")  # type: ignore[no-untyped-call]
        self.add(summary, step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Add Markdown under the tag itself, and alone.

        torch's stands under a longer tag, in a list of one, around which TensorBoard draws a table.
        """
        summary = torch_summary.text(tag, text)  # type: ignore[no-untyped-call]
        summary.value[0].tag = tag
        summary.value[0].tensor.ClearField("tensor_shape")
        self.add(summary, step)

    def _add(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())


@contextmanager
def event_file(folder: Path, *, suffix: str) -> Iterator[EventFile]:
    """A new event file in a folder, which is made where there is none.

    :param suffix: of its name, after what TensorBoard looks for.
    :raises OSError: if it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time_ns()
    place = f"{socket.gethostname()}.{os.getpid()}.{now}"
    with open(folder / f"events.out.tfevents.{now // 10**9}.{place}{suffix}", "wb") as file:
        yield EventFile(RecordWriter(file))
