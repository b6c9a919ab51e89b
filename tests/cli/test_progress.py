"""What a running job shows on a terminal."""

import io
from collections.abc import Callable

from rich.console import Console

from bncli.cli.progress import Bars
from bncli.config import Study
from bncli.executors.loop import Progress
from bncli.plan import jobs_of, runs_of


def shown(tiny: Callable[..., Study], *events: Progress) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    bars = Bars(jobs_of(runs_of(tiny(), "cpu")), console)
    for event in events:
        bars.progress(event)
    with console.capture() as captured:
        console.print(bars._bars.get_renderable())
    return captured.get()


def test_a_running_job_shows_its_curve_accuracy_loss_and_rate(tiny: Callable[..., Study]) -> None:
    text = shown(tiny, Progress(0, 0, 0.1, 2.3, 0.5), Progress(0, 10, 0.5, 1.2, 0.25), Progress(0, 20, 0.9, 0.4, 0.25))
    assert "▁▅█  90.0 %  loss 0.4  lr 0.25" in text


def test_a_job_whose_lanes_have_all_diverged_is_shown_without_a_crash(tiny: Callable[..., Study]) -> None:
    assert "nan" in shown(tiny, Progress(0, 10, float("nan"), float("nan"), 0.5))
