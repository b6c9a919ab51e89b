"""A study's configuration: the question, the arms, the budget, and whether its parts fit each other."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from bncli.catalogue import WHOLE, Meaning, Spelling
from bncli.config import budget
from bncli.config.asking import Bisect, MeasureName, StudyClaim, Tune, claim_problems, tune_problems, unmeasured
from bncli.config.fit import layers_of, misfits_at, references, without_classes, without_tokens
from bncli.config.keys import places_of
from bncli.config.parts import ONCE, Frozen, Part, listed, validated
from bncli.config.recipe import DataPart, Evaluation, Margins, MetricPart, ModelPart, Probes, Target, TaskPart, Training
from bncli.config.search import Search, at_space, search_problems, suggest_option
from bncli.config.seeds import LOOKS, SEEDS, read_seeds
from bncli.config.task import RECIPE, metric_problems, task_problems
from bncli.config.variant import Variant as Variant
from bncli.config.yaml_tree import with_value
from bncli.data import DATASETS, Seed
from bncli.errors import ConfigError, Problem, describe
from bncli.models import MODELS

SWEPT = ("data", "model", "training", "evaluation")  # the keys whose keys can be swept
_SWEEP = {
    "type": "object", "propertyNames": {"pattern": rf"^({'|'.join((*SWEPT, 'task'))})(\.[\w-]+)*$"},
    "additionalProperties": {"type": "array", "minItems": 1},
}  # fmt: skip


class Study(Frozen):
    """What a preset says: one question, the arms that answer it, and the budget."""

    question: Annotated[str, Meaning("what is asked, in words")] = "how do these normalisers compare?"
    task: Annotated[
        TaskPart | None, Meaning("a training loop of somebody's, in place of data, model, training, evaluation, probes")
    ] = None
    data: Annotated[DataPart, Meaning("what is learned; mnist where only options are given")] = Part(
        name="mnist", options=DATASETS.options("mnist", {})
    )
    model: Annotated[ModelPart, Meaning("the network; mlp where only options are given")] = Part(
        name="mlp", options=MODELS.options("mlp", {})
    )
    training: Annotated[Training, Meaning("the recipe that every variant trains by")] = Training()
    evaluation: Annotated[Evaluation, Meaning("when and how accuracy and loss are measured")] = Evaluation()
    probes: Annotated[Probes, Meaning("what of the distributions is measured; a tier may stand for its metrics")] = (
        Probes()
    )
    target: Annotated[Target | None, Meaning("the level whose first crossing is timed; null: none")] = Target(
        accuracy=0.95
    )
    metrics: Annotated[dict[str, MetricPart], Meaning("what runs measure, by name; common names are known")] = Field(
        default_factory=dict
    )
    margins: Annotated[Margins, Meaning("differences too small to matter")] = Margins()
    variants: Annotated[dict[str, Variant], Meaning("the arms by name; a norm's name alone is that norm")] = Field(
        min_length=1
    )
    reference: Annotated[str, Meaning("the variant that the others are compared with")]
    seeds: Annotated[
        tuple[Seed, ...],
        Field(min_length=1, strict=False),
        BeforeValidator(read_seeds),
        SEEDS,
        Meaning("of the paired runs: how many, which, or as many as decide the headlines", "seeds"),
    ]
    looks: Annotated[
        tuple[Annotated[int, Field(ge=2), WHOLE], ...],
        Field(strict=False, max_length=100),
        Meaning("numbers of seeds at which it is reported until all headlines are decided; []: once", "seeds"),
    ] = ()
    sweep: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1, strict=False)]],
        Spelling("{KEY: list of values}", _SWEEP),
        Meaning("dotted keys and their values; every combination is a setting"),
    ] = Field(default_factory=dict)
    measures: Annotated[
        tuple[MeasureName, ...],
        Field(strict=False),
        BeforeValidator(listed),
        ONCE,
        Meaning("what is compared: `bncli ls measures`"),
    ] = ("steps_to_target", "final_accuracy")
    claims: Annotated[
        tuple[StudyClaim, ...], Field(strict=False), Meaning("what is said to hold; judged by `bncli compare --check`")
    ] = ()
    tune: Annotated[Tune | None, Meaning("choose one key for each variant before the report")] = None
    bisect: Annotated[Bisect | None, Meaning("search a limit instead of reporting runs at one recipe")] = None
    search: Annotated[Search | None, Meaning("choose several keys for each variant before the report")] = None

    @model_validator(mode="before")
    @classmethod
    def until_decided(cls, given: Any) -> Any:
        """`seeds: {until: decided}` plans the looks."""
        seeds = given.get("seeds") if isinstance(given, Mapping) else None
        if not isinstance(seeds, Mapping):
            return given
        with suppress(ValueError):  # a mistake in seeds is said of seeds
            if isinstance(all_seeds := read_seeds(seeds), tuple):
                most = len(all_seeds)
                return {**given, "looks": [n for n in LOOKS if n < most] + [most] * (most > 1), "seeds": all_seeds}
        return given

    @model_validator(mode="before")
    @classmethod
    def as_the_task_yields(cls, given: Any) -> Any:
        """A task has no target, and no measures before it has yielded something, unless they are given."""
        has_task = isinstance(given, Mapping) and given.get("task") is not None
        return {"target": None, "measures": (), **given} if has_task else given

    @model_serializer(mode="wrap")
    def without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the recipe where there is a task, and without younger keys where they say nothing."""
        absent = {*(RECIPE if self.task else ("task",)), *(() if self.metrics else ("metrics",))}
        absent |= set() if self.search else {"search"}
        found = {key: value for key, value in write(self).items() if key not in absent}
        for name, variant in self.variants.items():
            if not variant.model and isinstance(found.get("variants"), dict):
                found["variants"][name].pop("model", None)
        return found

    @field_validator("looks")
    @classmethod
    def ascending(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        """Each look has more seeds than the one before."""
        if list(looks) != sorted(set(looks)):
            raise ValueError(f"must be ascending numbers of seeds, got {list(looks)}")
        return looks

    @field_validator("variants")
    @classmethod
    def named(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        """A name can be shown, and asked for by --variants."""
        for name in variants:
            if not name.strip():
                raise ValueError(f"a variant needs a name, got {name!r}")
        return variants

    @field_validator("seeds")
    @classmethod
    def distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """A seed counts once."""
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"every seed counts once, got {list(seeds)}")
        return seeds

    @property
    def any_search(self) -> Tune | Bisect | Search | None:
        """What is searched before the report, or instead of it."""
        return self.tune or self.bisect or self.search

    def training_of(self, variant: str) -> Training:
        """The recipe of one variant: the study's, with the variant's overrides.

        Raises:
            ConfigError: for an override that is unknown or out of range.
        """
        merged = {**self.training.model_dump(mode="json"), **self.variants[variant].training}
        return validated(Training, merged, ("variants", variant, "training"))

    def evaluation_of(self, variant: str) -> Evaluation:
        """How one variant is evaluated: as the study says, with the statistics that the variant names.

        Raises:
            ConfigError: for an override that is out of range.
        """
        changes = {str(key): value for key, value in self.variants[variant].evaluation.items()}
        merged = {**self.evaluation.model_dump(mode="json"), **changes}
        return validated(Evaluation, merged, ("variants", variant, "evaluation"))

    def model_of(self, variant: str) -> Part:
        """The network of one variant: the study's, with the options that the variant names.

        Raises:
            ConfigError: for an option that is unknown or out of range.
        """
        changes = self.variants[variant].model
        if not changes:
            return self.model
        try:
            options = MODELS.options(self.model.name, {**self.model.options, **changes})
        except ConfigError as error:
            place = ("variants", variant, "model")
            raise ConfigError(*(Problem((*place, *each.path), each.message) for each in error.problems)) from None
        return Part(name=self.model.name, options=options)

    def by_model(self) -> Iterator["Study"]:
        """The study for each network that its variants have, with those that have it."""
        alike: dict[str, dict[str, Variant]] = {}
        for name, variant in self.variants.items():
            alike.setdefault(self.model_of(name).model_dump_json(), {})[name] = variant
        for variants in alike.values():
            model = self.model_of(next(iter(variants)))
            yield (
                self
                if len(alike) == 1 and model == self.model
                else self.model_copy(update={"model": model, "variants": variants})
            )

    def settings(self) -> Iterator[tuple[dict[str, Any], "Study"]]:
        """Every combination of the swept values, with the study at that combination.

        Raises:
            ConfigError: for a swept key that does not exist, or a value out of range.
        """
        plain = self.model_dump(mode="json") | {
            "sweep": {},
            "claims": [],
            **dict.fromkeys(("tune", "bisect", "search")),
        }
        for values in product(*self.sweep.values()):
            setting = dict(zip(self.sweep, values, strict=True))
            changed = plain
            for key, value in setting.items():
                option = DATASETS[self.data.name].options.get(key.removeprefix("data.")) if key[:5] == "data." else None
                if option and option.place:  # other data have another checksum
                    changed = with_value(changed, ("data", "checksum"), None)
                changed = with_value(changed, tuple(key.split(".")), value)
            yield setting, (_at(changed, setting) if setting else self)


def check(study: Study) -> list[Problem]:
    """What pydantic cannot see: names that refer to each other, overrides, sweeps, misfits, batches too small."""
    if problems := list(budget.too_much(study)):
        return problems
    own = study.task or "task" in study.model_fields_set  # null: the command line is to say which
    problems = list(task_problems(study) if own else metric_problems(study))
    if problems:
        return problems
    problems += [Problem((key,), message) for key, message in references(study)]
    problems += () if own else [*without_classes(study), *without_tokens(study)]
    problems += claim_problems(study.claims, study.variants, study.sweep)
    problems += unmeasured(study.measures, study.claims, bool(study.tune or study.bisect), study.probes.metrics)
    problems += tune_problems(study.tune, study.bisect, study.seeds)
    problems += search_problems(study.tune, study.bisect, study.search, study.sweep, study.seeds)
    if study.looks and len(study.seeds) not in study.looks:
        problems.append(Problem(("looks",), f"none of {list(study.looks)} is the number of seeds, {len(study.seeds)}"))
    spaces = [searched_keys(study)]
    if study.search:  # one key after the other: their combinations are too many
        spaces = [{key: values} for key, values in spaces[0].items()]
    before = bool(problems)
    for space in spaces:
        at = study.model_copy(update={"sweep": {**study.sweep, **space}})
        found = _problems_at(at, own=bool(own), before=before)
        problems += [at_space(problem, *space) for problem in found] if study.search else found
    return list(dict.fromkeys(problems))


def _problems_at(study: Study, *, own: bool, before: bool = False) -> list[Problem]:
    """What is wrong with swept keys, or at their settings, which are not looked at after problems `before`."""
    problems = list[Problem]()
    for key in study.sweep:
        if meant := suggest_option(study.training, key):
            problems.append(Problem(("sweep", key), f"no such key; did you mean {meant!r}?"))
        for name, variant in study.variants.items():
            changed = {"training": variant.training, "model": variant.model}.get(key.partition(".")[0], {})
            if key.partition(".")[2].split(".")[0] in changed:
                problems.append(Problem(("sweep", key), f"variant {name!r} sets it too; sweep it or set it, not both"))
        if not own and key.split(".")[0] not in SWEPT:
            known = [place for place in places_of(Study) if place.startswith(tuple(f"{kind}." for kind in SWEPT))]
            meant = next((f"; did you mean {place!r}?" for place in known if place.rpartition(".")[2] == key), "")
            problems.append(Problem(("sweep", key), f"only data, model, training and evaluation can be swept{meant}"))
    if before or problems or (problems := list(_repeated(study))):
        return problems
    try:
        layers = 0
        for _, at in study.settings():
            if own:
                continue  # its options are right, and nothing else of it is known
            layers += len(layers_of(at)) * len(at.variants) * len(at.seeds)
            if layers > budget.MOST_LAYERS:
                return [Problem(("model",), budget.too_many_layers(layers))]
            problems += misfits_at(at)
    except ConfigError as error:
        problems += error.problems
    return problems


def _repeated(study: Study) -> Iterator[Problem]:
    """Swept values that mean the same, whose runs would be planned and counted twice."""
    for key, values in study.sweep.items():
        seen: dict[str, Any] = {}
        for i, value in enumerate(values):
            with suppress(ConfigError):  # said where every setting is looked at
                ((_, at),) = study.model_copy(update={"sweep": {key: (value,)}}).settings()
                first = seen.setdefault(at.model_dump_json(include={*SWEPT, "task"}), i)
                if first != i:
                    same = (
                        f"{values[first]!r} and {value!r} are the same"
                        if values[first] != value
                        else f"{value!r} twice"
                    )
                    yield Problem(("sweep", key), f"each value counts once, got {same}")


def searched_keys(study: Study) -> dict[str, tuple[Any, ...]]:
    """The keys that are tuned, bisected or searched, with the values known beforehand."""
    if study.search:
        return study.search.known_values()
    if study.tune:
        return study.tune.over
    return {study.bisect.over: (study.bisect.low, study.bisect.high)} if study.bisect else {}


def _at(changed: Mapping[str, Any], setting: Mapping[str, Any]) -> Study:
    """The study at one setting; a problem there is the swept key's."""
    try:
        return validated(Study, changed)
    except ConfigError as error:
        keys = {p: next((k for k in setting if describe(p).startswith(k)), "") for p in error.problems}
        raise ConfigError(*(Problem(("sweep", key), p.message) for p, key in keys.items())) from None


def study_of(tree: Mapping[str, Any]) -> Study:
    """Validate a plain tree, as YAML gives it.

    Raises:
        ConfigError: with every problem that was found.
    """
    study = validated(Study, dict(tree))
    problems = check(study)
    if problems:
        raise ConfigError(*problems)
    return study
