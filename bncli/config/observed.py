"""What a study of runs that were made elsewhere says: it has variants, metrics and seeds, and no recipe."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from bncli.catalogue import Meaning, Spelling
from bncli.config.parts import Frozen, listed, validated
from bncli.config.recipe import Margins, MetricPart
from bncli.errors import ConfigError


class ObservedStudy(Frozen):
    """How runs of somebody else's are compared."""

    question: Annotated[str, Meaning("what is asked, in words")] = "how do these runs compare?"
    source: Annotated[str, Meaning("the file or folder, as given to --from")]
    reference: Annotated[str, Meaning("the variant that the others are compared with")]
    metrics: Annotated[dict[str, MetricPart], Meaning("what the runs measured, by name; common names are known")] = (
        Field(default_factory=dict)
    )
    measures: Annotated[
        tuple[str, ...],
        Field(strict=False),
        BeforeValidator(listed),
        Meaning("what is compared: final_METRIC, best_METRIC, METRIC_area, steps_to_target; []: the first metric's"),
    ] = ()
    target: Annotated[
        dict[str, float | str],
        Spelling("{METRIC: number} or {final_of: VARIANT}", {"type": "object"}),
        Meaning("the level whose first crossing is timed, or the variant whose final level it is", "the metric's"),
    ] = Field(default_factory=dict)
    margins: Annotated[Margins, Meaning("differences too small to matter")] = Margins()

    @model_validator(mode="after")
    def one_target(self) -> "ObservedStudy":
        """At most one metric has a target."""
        if len(self.target) > 1 or any(isinstance(v, str) != (k == "final_of") for k, v in self.target.items()):
            raise ConfigError(f"target: give {{METRIC: LEVEL}} or {{final_of: VARIANT}}, got {self.target}")
        return self


RECIPE = (
    "data", "model", "training", "evaluation", "probes", "variants", "seeds", "sweep", "tune", "bisect", "search",
    "looks",
)  # fmt: skip


def observed_of(tree: Mapping[str, Any]) -> ObservedStudy:
    """Validate a plain tree.

    Raises:
        ConfigError: with every problem that was found; what only a training has is refused with that reason.
    """
    recipe = [key for key in tree if key in RECIPE]
    if recipe:
        keys = ", ".join(key for key in ObservedStudy.model_fields if key != "source")
        raise ConfigError(
            f"{recipe[0]}: these runs were made elsewhere, and nothing of how they were trained can be set here (there"
            f" are: {keys})"
        )
    return validated(ObservedStudy, dict(tree))
