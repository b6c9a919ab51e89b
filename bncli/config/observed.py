"""What a study of runs that were made elsewhere says: it has variants, metrics and seeds, and no recipe."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from bncli.config.parts import Frozen, listed, validated
from bncli.config.recipe import Margins, MetricPart
from bncli.errors import ConfigError, Path


class ObservedStudy(Frozen):
    """How runs of somebody else's are compared."""

    question: str = "how do these runs compare?"
    source: str  # the file or folder
    reference: str  # the variant that the others are compared with
    metrics: dict[str, MetricPart] = Field(default_factory=dict)
    # of the first metric, where none is named
    measures: Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(listed)] = ()
    target: dict[str, float | str] = Field(default_factory=dict)  # {METRIC: level} or {final_of: VARIANT}
    margins: Margins = Margins()

    @model_validator(mode="after")
    def one_target(self) -> "ObservedStudy":
        """At most one metric has a target."""
        if len(self.target) > 1 or any(isinstance(v, str) != (k == "final_of") for k, v in self.target.items()):
            raise ConfigError(f"target: give {{METRIC: LEVEL}} or {{final_of: VARIANT}}, got {self.target}")
        return self


RECIPE = ("data", "model", "training", "evaluation", "probes", "variants", "seeds", "sweep", "tune", "bisect", "looks")


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
    return validated(ObservedStudy, dict(tree), _keys_at)


def _keys_at(path: Path) -> list[str]:
    here = Margins if path[:1] == ("margins",) else MetricPart if path[:1] == ("metrics",) else ObservedStudy
    return list(here.model_fields)
