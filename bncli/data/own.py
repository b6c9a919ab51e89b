"""Data of your own as tensors: arrays in an .npz file, image files in folders, data sets of Hugging Face."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from bncli.data.arrays import (
    Stamp,
    check_finite,
    checksum_of,
    locate,
    npz_facts,
    read_array,
    read_headers,
    split_off,
    stamp,
)
from bncli.data.hub import open_hub
from bncli.data.images import ImageSet, decode, facts_of, open_folder
from bncli.data.splits import Splits, memory_for_data, splits_of
from bncli.errors import DataError


def load_npz(
    *, file: str, numbers: bool, channels: str, standardize: bool, checksum: str | None, device: str
) -> Splits:  # fmt: skip
    """Load the arrays of an .npz file; bytes become 0 to 1, other numbers stay as they are.

    A part that is missing is drawn from training's examples, a tenth, by seed 0.

    Raises:
        DataError: if the file is not the one of the checksum, or a number in it is not finite.
    """
    path = locate(file)
    at = stamp(path)
    _expect(str(path), checksum_of(path, at), checksum)
    facts = npz_facts(path, at, numbers=numbers, channels=channels)
    headers, most = read_headers(path), memory_for_data(device)
    wanted = [headers[name] for pair in facts.names.values() for name in pair]
    large = sum(header.size for header in wanted) > most
    for header in wanted:
        if large and header.offset is None and header.size > most // 2:
            raise DataError(
                f"{path}: {header.name} has {header.size:,} bytes, too many for this machine's memory; save it by"
                " numpy.savez and not savez_compressed, which lets it be read in pieces"
            )
    parts = split_off(_arrays(path, at, tuple(facts.names.items()), large))
    return splits_of(parts, facts.shape, standardize=standardize, device=device, channels_last=facts.channels_last)


@lru_cache(maxsize=2)
def _arrays(path: Path, at: Stamp, names: tuple[tuple[str, tuple[str, str]], ...], large: bool) -> Any:
    """Arrays by part, mapped where they are too large; kept, because every job of a worker reads them."""
    headers, found = read_headers(path), {}
    for part, (x, y) in names:
        inputs, targets = read_array(path, headers[x], mapped=large), read_array(path, headers[y])
        check_finite(path, x, inputs)
        found[part] = inputs, targets if targets.dtype.kind == "f" else targets.reshape(len(targets), -1)[:, 0]
    return found


def load_images(
    *, folder: str, size: tuple[int, int] | None, channels: int | None, standardize: bool, checksum: str | None,
    device: str,
) -> Splits:  # fmt: skip
    """Load a folder of images as bytes, which become 0 to 1; missing parts are drawn as those of `load_npz`.

    Raises:
        DataError: if they are not those of the checksum, or one cannot be decoded.
    """
    return _load_images(open_folder(locate(folder)), size, channels, standardize, checksum, device)


def load_hub(
    *, dataset: str, config: str | None, revision: str | None, image: str | None, label: str | None,
    size: tuple[int, int] | None, channels: int | None, standardize: bool, checksum: str | None, device: str,
) -> Splits:  # fmt: skip
    """Load a data set of images by Hugging Face's `datasets`, as `load_images` does a folder.

    Raises:
        DataError: as `load_images`.
    """
    images = open_hub(dataset, config, revision, image, label)
    return _load_images(images, size, channels, standardize, checksum, device)


def _load_images(
    images: ImageSet, size: tuple[int, int] | None, channels: int | None, standardize: bool, checksum: str | None,
    device: str,
) -> Splits:  # fmt: skip
    facts, found = facts_of(images, size, channels)
    _expect(images.place, found, checksum)
    parts = split_off(decode(images, facts, found))
    return splits_of(parts, facts.shape, standardize=standardize, device=device)


def _expect(place: str, found: str, checksum: str | None) -> None:
    if checksum not in (None, found):
        raise DataError(
            f"{place}: its checksum is {found}, and {checksum} was planned with; leave the data alone while a study"
            " runs, and give every machine the same"
        )
