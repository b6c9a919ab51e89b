"""What a running job shows on a terminal."""

import io
from collections.abc import Callable

from rich.console import Console

from bncli.cli.progress import Bars
from bncli.config import Study
from bncli.executors.loop import Progress
from bncli.plan import Job, jobs_of, runs_of
from bncli.session.events import Started


def shown(job: Job, *events: Progress) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    bars = Bars(console)
    bars(Started((job,)))
    for event in events:
        bars(event)
    bars.close()
    with console.capture() as captured:
        console.print(bars._bars.get_renderable())
    return captured.get()


def test_a_running_job_shows_its_curve_accuracy_loss_and_rate(tiny: Callable[..., Study]) -> None:
    job = jobs_of(runs_of(tiny(), "cpu"))[0]
    signs = [(0, 0.1, 2.3, 0.5), (10, 0.5, 1.2, 0.25), (20, 0.9, 0.4, 0.25)]
    text = shown(job, *(Progress(job, *sign) for sign in signs))
    assert "▁▅█  90.0 %  loss 0.4  lr 0.25" in text


def test_a_job_whose_lanes_have_all_diverged_is_shown_without_a_crash(tiny: Callable[..., Study]) -> None:
    job = jobs_of(runs_of(tiny(), "cpu"))[0]
    assert "nan" in shown(job, Progress(job, 10, float("nan"), float("nan"), 0.5))
