"""The options of a norm in another's place: those given, the old norm's where they mean the same, and what fits."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from bncli.errors import ConfigError
from bncli.norms import NORMS
from bncli.norms.sites import NormCall, NormSite


def options_at(
    to: str, given: Mapping[str, Any], site: NormSite, old: Any, call: NormCall | None
) -> tuple[dict[str, Any], list[str]]:
    """The options of norm `to` at one place, and what there is to say of them.

    Args:
        to: the new norm.
        given: options that were asked for; `channels_per_group` in place of `groups`.
        site: the place.
        old: the module there; None if there is none yet.
        call: the shape of its input, as far as that is known.

    Raises:
        ConfigError: if the norm cannot take what the place gives it.
    """
    row, options, notes = NORMS[to], dict(given), []
    per_group = options.pop("channels_per_group", None)
    inherited = {} if old is None else _inherit(to, site, old)
    if per_group:
        inherited.pop("groups", None)
    options = {**{key: value for key, value in inherited.items() if _accepts(to, key, value)}, **options}
    if len(site.sizes) == 2 and "over" not in row.options:
        raise ConfigError(f"normalises over axes {site.sizes}, and which of them holds the channels is not known")
    if "over" in row.options:
        options["over"] = _place(options.get("over", ""), site)
    each = options.get("over", "sample") != "sample"
    locations = 1 if each else call.count_locations(site.channels) if call else 2
    if row.needs_locations and locations < 2:
        raise ConfigError(f"gives norm {to!r} a single location of each example, and it averages over locations")
    if row.batch_statistics and call is not None and prod(call.shape) // site.channels < 2:
        raise ConfigError(f"gives norm {to!r} fewer than 2 values of each channel; use larger batches")
    if "groups" in row.options:
        asked = options.get("groups", row.options["groups"].default)
        if per_group:
            asked = max(1, site.channels // min(per_group, site.channels))
        groups = fit_groups(asked, site.channels, lonely=locations < 2)
        if site.channels // groups * locations < 2:
            raise ConfigError(f"gives norm {to!r} 1 value of each example, whose variance is 0")
        if groups != asked:
            wanted = f"{per_group} channels per group" if per_group else f"{asked} groups"
            notes.append(f"{wanted} do not fit {site.channels} channels: {groups} groups")
        options["groups"] = groups
    return NORMS.options(to, options), notes


def fit_groups(asked: int, channels: int, *, lonely: bool) -> int:
    """As many groups as asked, or the largest smaller number that divides the channels into groups of two or more.

    `lonely` says that a channel of an example is a single value, whose own variance is 0.
    """
    if channels % asked == 0 and not (lonely and asked == channels):
        return asked
    return max((n for n in range(1, min(asked, channels // 2) + 1) if channels % n == 0), default=1)


def _place(over: str, site: NormSite) -> str:
    """What a layer or RMS norm takes its statistics over: as was asked for, or as the old norm did."""
    if len(site.sizes) > 1 and over != "sample":
        return "last"
    if over == "last" and site.axis == 1:
        raise ConfigError("has its channels on the second axis; over: channels takes each location by itself")
    if over == "sample" or not (over or site.each_location):
        return "sample"
    return "last" if site.axis == -1 else "channels"


def _inherit(to: str, site: NormSite, old: Any) -> dict[str, Any]:
    """What the old norm says of options that mean the same in the new one."""
    row, found = NORMS[to], dict[str, Any]()
    if hasattr(old, "eps") and row.family in ("batch", "sample") and site.kind in NORMS:
        like = next((t for t in (*old.parameters(), *old.buffers()) if t.is_floating_point()), torch.empty(0))
        found["eps"] = torch.finfo(like.dtype).eps if old.eps is None else old.eps
    if hasattr(old, "momentum") and (site.kind == to or (site.kind == "batch" and row.family == "batch")):
        found["momentum"] = "cumulative" if old.momentum is None else old.momentum
    scale, shift = (isinstance(getattr(old, name, None), Tensor) for name in ("weight", "bias"))
    if site.kind:
        kinds = {(True, True): True, (True, False): "scale", (False, True): "shift", (False, False): False}
        found["affine"] = kinds[scale, shift]
    if to == "rms" and found.get("affine") in ("scale", "shift"):
        found["affine"] = scale
    if site.kind == to:
        groups = getattr(old, "num_groups", getattr(old, "groups", None))
        found |= {"groups": groups} if groups else {}
        if hasattr(old, "track_running_stats"):
            found["track_running_stats"] = old.track_running_stats
    return found


def _accepts(to: str, key: str, value: Any) -> bool:
    if key not in NORMS[to].options:
        return False
    try:
        NORMS.options(to, {key: value})
    except ConfigError:
        return False
    return True
