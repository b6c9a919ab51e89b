"""A record of `bncli bench` made by hand: three cases, of which one could not be decided."""

from bncli.timing.cases import Case, count_work
from bncli.timing.results import BenchRecord, BenchRow, CaseResult, Correctness, Estimate, Facts, Rates

BLOCKS = ((0.002, 0.002), (0.0018, 0.0018), (0.0022, 0.0022), (0.002, 0.002))
RATES = Rates(1, 12.8e9, {"f32": 160e9})


def row(case: Case, ratio: Estimate, facts: Facts, *warnings: str) -> BenchRow:
    result = CaseResult(
        name=case.name,
        samples={"case": BLOCKS, "native": BLOCKS, "copy": BLOCKS},
        calls={"case": 3, "native": 3, "copy": 6},
        seconds={name: Estimate(2e-3, 1.8e-3, 2.2e-3) for name in ("case", "native", "copy")},
        ratios={"native": ratio, "copy": Estimate(1.78)},
        outliers={"case": 1, "native": 0, "copy": 0},
        stopped="time",
        argument_copies={"case": 64, "native": 64, "copy": 32},
        cold=True,
        warnings=warnings,
    )
    return BenchRow(case, (result,) * 3, result.seconds["case"], result.ratios, count_work(case), facts, RATES)


def record(**changes: object) -> BenchRecord:
    """The record; keywords replace its parts."""
    shape = (32, 64, 28, 28)
    rows = (
        row(
            Case("batch", (), "train-forward", shape, "f32", "nchw", "cpu"),
            Estimate(0.587, 0.581, 0.594),
            Facts("bncli", 6_423_040, 6_423_808, Correctness("batch,impl=plain in float64", 5e-7, 1e-5, 4e-7, 1e-5)),
        ),
        row(
            Case("batch", (("impl", "plain"),), "train-forward", shape, "f32", "nchw", "cpu"),
            Estimate(1.002, 0.992, 1.011),
            Facts(
                "native",
                6_423_552,
                None,
                Correctness("batch,impl=plain in float64"),
                {"peak_byte": "nothing was seen", "error": "it draws noise"},
            ),
        ),
        row(
            Case("iternorm", (), "train-backward", shape, "f32", "nchw", "cpu"),
            Estimate(2.7),
            Facts("bncli", 6_455_552, 6_538_000, Correctness("iternorm,impl=plain in float64", 5.4e-6, 1e-4)),
            "the clock drifted",
        ),
    )
    given: dict[str, object] = {
        "name": "bench-made", "question": "which is faster?", "rows": rows, "cases": 3, "warm": False, "processes": 3,
        "environment": {"processor": "a processor", "torch": "2.13.0"},
        "started": "2026-11-23T08:00:00+00:00", "seconds": 12.3,
    }  # fmt: skip
    return BenchRecord(**(given | changes))  # type: ignore[arg-type]
