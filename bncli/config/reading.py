"""Reads presets: applies --set, and says where every mistake stands."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from bncli.config import study as study_module
from bncli.config.bench import Bench, bench_of, check_kind, is_bench
from bncli.config.observed import ObservedStudy, observed_of
from bncli.config.study import Study
from bncli.config.yaml_tree import MAX_BYTES, parse, with_value
from bncli.data import DATASETS, data_part, looking_in
from bncli.errors import ConfigError, Problem, describe, typed_path
from bncli.errors import Path as KeyPath
from bncli.models import MODELS
from bncli.norms import NORMS

Valid = TypeVar("Valid")
SECTIONS = ("training", "evaluation", "probes", "target", "margins")  # keys that hold keys, each with a default
Places = dict[KeyPath, str]  # where each path was written: "study.yaml:12" or "--set training.lr=0"


def read_study(
    source: Path | Study | Mapping[str, Any], sets: Sequence[str] = (), variants: Sequence[str] = (),
    seeds: str | Sequence[int] | Mapping[str, Any] | None = None, data: str | None = None,
    data_dir: Path | None = None, changes: Mapping[str, tuple[Any, str]] = MappingProxyType({}),
) -> Study:  # fmt: skip
    """Read a preset with what the command line changes in it.

    Args:
        source: a YAML file, a study, or a preset's keys with their values as YAML would give them.
        sets: `key=value` or `key=value,value` (a sweep), as given to --set.
        variants: the variants to keep; names of norms that the preset lacks are added.
        seeds: as given to --seeds, or which, or {"until": "decided", "max": 50}.
        data: as given to --data; None: the preset's.
        data_dir: where data are looked for first.
        changes: dotted keys with what takes the place of their values, and how that was given: "--model net.py:Net".

    Raises:
        ConfigError: with every mistake, each with its place.
    """
    name, home = (source.name, f"{source.name}:1") if isinstance(source, Path) else ("study", "study")
    tree, places, problems = _opened(source)
    check_kind(tree, "study", name)
    if isinstance(source, Path):
        tree = _beside(tree, source.parent)
    states = [("", tree)]  # the preset, then what each option of the command line makes of it
    if data is not None:
        tree, places[("data",)] = {**tree, "data": _other_data(tree.get("data"), data)}, f"--data {data}"
        states.append((f"--data {data}", tree))
    for key, (value, place) in changes.items():
        at = tuple(key.split("."))
        tree, places[at] = with_value(tree, at, value), place
        states.append((place, tree))
    for text in sets:
        tree = override(tree, text, places)
        states.append((f"--set {text}", tree))
    _require_untuned(tree, sets)
    if variants:
        tree = _with_variants(tree, variants)
        places[("variants",)] = "--variants"
        states.append(("--variants", tree))
    if seeds is not None:
        place = f"--seeds {str(seeds)[:60]}"
        tree, places[("seeds",)] = {**tree, "seeds": seeds, "looks": []}, place
        states.append((place, tree))
    with looking_in(data_dir):
        return _checked(study_module.study_of, states, places, problems, home)


def read_bench(source: Path | Bench | Mapping[str, Any]) -> Bench:
    """Read a bench preset: a YAML file, or its keys with their values; one that was read already is itself.

    Raises:
        ConfigError: with every mistake, each with its place.
    """
    if isinstance(source, Bench):
        return source
    name, home = (source.name, f"{source.name}:1") if isinstance(source, Path) else ("bench", "bench")
    data, places, problems = _opened(source)
    check_kind(data, "bench", name)
    return _checked(bench_of, [("", data)], places, problems, home)


def read_observed(defaults: Mapping[str, Any], sets: Sequence[str] = ()) -> ObservedStudy:
    """Read how runs that were made elsewhere are compared: what is known of them, and what --set changes.

    Raises:
        ConfigError: with every mistake, each with its place.
    """
    data, places = dict(defaults), Places()
    states = [("", data)]
    for text in sets:
        data = override(data, text, places)
        states.append((f"--set {text}", data))
    return _checked(observed_of, states, places, [], "--from")


def read_preset(path: Path) -> Study | Bench:
    """Read a preset of either kind, as its keys say.

    Raises:
        ConfigError: with every mistake, each with its place.
    """
    data = parse_file(path).data
    return read_bench(path) if isinstance(data, dict) and is_bench(data) else read_study(path)


def _opened(path: Path | Study | Mapping[str, Any]) -> tuple[dict[str, Any], Places, list[str]]:
    """A preset's keys with values, where they stand, and what YAML itself says is wrong."""
    if isinstance(path, Study):
        return path.model_dump(mode="json", include=path.model_fields_set), {}, []  # what it leaves out stays so
    if isinstance(path, Mapping):
        return dict(path), {}, []
    tree = parse_file(path)
    places: Places = {at: f"{path.name}:{line}" for at, line in tree.lines.items()}
    problems = [f"{path.name}:{line}: {describe(problem)}" for line, problem in tree.problems]
    if not isinstance(tree.data, dict):
        what = "is empty" if tree.data is None else f"holds {type(tree.data).__name__}, not keys with values"
        raise ConfigError(*problems, f"{path.name}:1: {what}; see `bncli ls presets` for examples")
    return tree.data, places, problems


def _beside(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The tree with paths of data and weights that are relative to a preset's folder, as they are meant in its file."""
    for section, rows in (("data", DATASETS), ("model", MODELS)):
        given = tree.get(section)
        if not isinstance(given, dict) or not isinstance(given.get("name"), str) or given["name"] not in rows:
            continue
        known = rows[given["name"]].options
        paths = [key for key, option in known.items() if option.place == "path" and isinstance(given.get(key), str)]
        tree = {**tree, section: {**given, **{key: str(folder / typed_path(given[key])) for key in paths}}}
    return tree


def _checked(
    make: Callable[[Mapping[str, Any]], Valid],
    states: Sequence[tuple[str, Mapping[str, Any]]],
    places: Places,
    problems: list[str],
    home: str,
) -> Valid:
    try:
        made = make(states[-1][1])
    except ConfigError as error:
        blamed = _blame(make, states)
        for p in error.problems:
            place = _place(p.path, places, home)
            problems.append(f"{place if place.startswith('--') else blamed.get(p, place)}: {describe(p)}")
        raise ConfigError(*sorted(set(problems), key=problems.index)) from None
    if problems:
        raise ConfigError(*problems)
    return made


def _blame(
    make: Callable[[Mapping[str, Any]], Valid], states: Sequence[tuple[str, Mapping[str, Any]]]
) -> dict[Problem, str]:
    """The option with which each problem first shows; nothing where the preset itself is wrong."""
    first: dict[Problem, str] = {}
    for option, tree in states:
        try:
            make(tree)
        except ConfigError as error:
            if not option:
                return {}
            for problem in error.problems:
                first.setdefault(problem, option)
    return first


def parse_file(path: Path) -> Any:
    """Parse one preset file into a `Tree`.

    Raises:
        ConfigError: if it cannot be read or is not YAML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path.name}: {path.stat().st_size:,} bytes; a preset has at most {MAX_BYTES:,}")
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name}: not a text file (UTF-8)") from None
    except ConfigError as error:
        if not error.problems[0].path:
            raise
        raise ConfigError(*(f"{path.name}:{p.path[0]}: {p.message}" for p in error.problems)) from None


def _other_data(before: object, text: str) -> dict[str, Any]:
    """What `--data` names; other text in windows as long as the preset's, of which the same is predicted."""
    part, kept = data_part(text), {}
    row = DATASETS[part["name"]]
    if isinstance(before, dict) and row.tokens and before.get("name") in DATASETS and DATASETS[before["name"]].tokens:
        kept = {key: value for key, value in before.items() if key in row.options}
    return {**kept, **part}


def override(data: Mapping[str, Any], text: str, places: Places) -> dict[str, Any]:
    """Apply one `--set key=value`; several values become a sweep over that key.

    Raises:
        ConfigError: if the text is not `key=value`.
    """
    key, equals, written = text.partition("=")
    place = f"--set {text}"
    if not equals or not key:
        raise ConfigError(f"{place}: expected key=value, as in training.lr=0.1")
    try:
        values = parse(f"[{written}]").data
    except ConfigError:
        values = None
    if not values:
        raise ConfigError(f"{place}: {written!r} is not a value")
    at = tuple(key.split("."))
    if len(values) > 1 and at not in (("seeds",), ("measures",)):
        sweep = data.get("sweep")
        places[("sweep", key)] = place
        tree = _with_claims_at(data, key, values)
        return {**tree, "sweep": {**(sweep if isinstance(sweep, dict) else {}), key: values}}
    tree, value = dict(data), values if len(values) > 1 else values[0]
    if isinstance(sweep := tree.get("sweep"), dict) and key in sweep:  # now it has one value
        tree = {**_with_claims_at(tree, key, [value]), "sweep": {k: those for k, those in sweep.items() if k != key}}
    variants = tree.get("variants")
    if at[0] == "variants" and len(at) > 2 and isinstance(variants, dict):
        short = variants.get(at[1], at[1] if at[1] in NORMS else None)  # a norm that --variants adds may be one
        if isinstance(short, str):
            tree["variants"] = {**variants, at[1]: {"norm": short}}
    keyed = at[-1] in SECTIONS and isinstance(value, dict) and value  # the other keys stay as the preset has them
    for path, inner in [((*at, name), inner) for name, inner in value.items()] if keyed else [(at, value)]:
        for gone in [old for old in places if old[: len(path)] == path]:
            del places[gone]
        places[path] = place
        tree = with_value(tree, path, inner)
    return tree


def _with_claims_at(data: Mapping[str, Any], key: str, values: Sequence[Any]) -> dict[str, Any]:
    """The claims that speak of these values of a key, or of all; of one value they need not say so."""
    if not isinstance(claims := data.get("claims"), list):
        return dict(data)
    kept = []
    for claim in claims:
        at = claim.get("at") if isinstance(claim, dict) else None
        if not isinstance(at, dict) or key not in at:
            kept.append(claim)
        elif at[key] in values:
            kept.append(claim if len(values) > 1 else {**claim, "at": {k: v for k, v in at.items() if k != key}})
    return {**data, "claims": kept}


def _require_untuned(tree: Mapping[str, Any], sets: Sequence[str]) -> None:
    """Refuse one value for a key that is chosen for each variant: it would change nothing."""
    for text in sets:
        key = text.partition("=")[0]
        for search in ("tune", "search", "bisect"):
            over = part.get("over") if isinstance(part := tree.get(search), dict) else None
            if over == key or (isinstance(over, dict) and key in over):
                raise ConfigError(
                    f"--set {text}: {search}.over chooses {key} for each variant; --set {search}=null trains all at one"
                    " value"
                )


def _with_variants(data: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The chosen variants, and the claims that are about them."""
    kept = _chosen(data.get("variants"), names, data.get("reference"))
    claims = data.get("claims")
    if isinstance(claims, list):
        about = [{c.get("of"), c.get("versus") or c.get("of")} if isinstance(c, dict) else set() for c in claims]
        data = {**data, "claims": [c for c, them in zip(claims, about, strict=True) if them <= kept.keys()]}
    return {**data, "variants": kept}


def _chosen(known: Any, names: Sequence[str], reference: Any) -> dict[str, Any]:
    known = known if isinstance(known, dict) else {}
    kept = list(dict.fromkeys([*([reference] if reference in known else []), *names]))
    return {name: known.get(name, {"norm": name}) for name in kept}


def _place(path: KeyPath, places: Places, home: str) -> str:
    while path and path not in places:
        path = path[:-1]
    return places.get(path, home)
