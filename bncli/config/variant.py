"""One arm of a comparison."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bncli.catalogue import Meaning, Spelling
from bncli.config.parts import DEFINED, Frozen, NormPart


class Variant(Frozen):
    """One arm: a norm, and what it needs changed in the training recipe; written `batch` or `{norm: batch, ...}`."""

    norm: Annotated[NormPart, Meaning("the norm of this arm")]
    training: Annotated[
        dict[str, Any],
        Spelling("{KEY of training: value}", {DEFINED: "Training"}),
        Meaning("what of the recipe is its own"),
    ] = Field(default_factory=dict)
    evaluation: Annotated[
        dict[Literal["statistics", "precise_batches"], Any],
        Spelling(
            "{statistics: ..., precise_batches: ...}",
            {
                "type": "object",
                "propertyNames": {"enum": ["statistics", "precise_batches"]},
            },
        ),
        Meaning("with which statistics it is evaluated, where not with the study's"),
    ] = Field(default_factory=dict)

    model: Annotated[
        dict[str, Any],
        Spelling("{OPTION of the model: value}", {"type": "object"}),
        Meaning("what of the network is its own"),
    ] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def shorthand(cls, given: Any) -> Any:
        """A variant that is only a norm may be written as the norm's name."""
        return {"norm": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        """A norm's name, or keys."""
        return {"anyOf": [{DEFINED: "norm name"}, handler(core)]}
