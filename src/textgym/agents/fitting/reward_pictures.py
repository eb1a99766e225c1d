"""What a fit of a reward model tells TensorBoard: curves, a reliability diagram, figures."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textgym.reward_models.learned.calibration import Bin
from textgym.reward_models.learned.fit_report import FitReport
from textgym.reward_models.learned.fitting_loop import FitProgress
from textgym.reward_models.learned.process_fitting import ProcessReport

if TYPE_CHECKING:  # seconds to import, and every training with a learned reward would wait
    from torch.utils.tensorboard import SummaryWriter

BLUE, GREY = "#0072b2", "#8a8a8a"
PREFIX = "reward_model"


def write_progress(writer: "SummaryWriter", at: FitProgress) -> None:
    """The loss over steps, and the pair accuracy where it was measured."""
    writer.add_scalar(f"{PREFIX}/loss", at.loss, at.step)
    if at.accuracy == at.accuracy:
        writer.add_scalar(f"{PREFIX}/pair_accuracy", at.accuracy, at.step)


def write_report(writer: "SummaryWriter", report: FitReport | ProcessReport) -> None:
    """The figures at the last step, the accuracy over numbers of labels, and the diagram."""
    for name, value in report.figures().items():
        if isinstance(value, int | float) and value == value:
            writer.add_scalar(f"{PREFIX}/held_out/{name}", float(value), report.steps)
    if isinstance(report, ProcessReport):
        return
    for labels, accuracy in report.learning_curve:
        writer.add_scalar(f"{PREFIX}/pair_accuracy_over_labels", accuracy, labels)
    if report.reliability:
        pixels = reliability_diagram(report.reliability, report.calibration_error)
        writer.add_image(f"{PREFIX}/reliability", pixels, report.steps, dataformats="HWC")


def reliability_diagram(bins: tuple[Bin, ...], error: float) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, 3]: how often pairs are ranked right over how sure the model is.

    The area of a point is its share of the pairs; on the grey line the model knows how sure it is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.0), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1)
    total = sum(part.pairs for part in bins)
    points = [(part.confidence, part.accuracy, part.pairs / total) for part in bins]
    x, y, share = (np.array(column) for column in zip(*points, strict=True))
    axes.plot(x, y, color=BLUE, linewidth=1)
    axes.scatter(x, y, s=20 + 400 * share, color=BLUE, alpha=0.8)
    axes.set(xlim=(0.49, 1.01), ylim=(min(0.35, y.min() - 0.05), 1.01))
    axes.set(xlabel="confidence in the pair", ylabel="share ranked as people did")
    axes.set_title(f"expected calibration error {error:.3f}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GREY, alpha=0.2)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
