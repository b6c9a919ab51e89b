"""The four IDX files of MNIST and of sets that lie as it does: anybody's copy, plain or packed, checked before use."""

from collections.abc import Iterator

from bncli.data.files import DataFile, Say, fetch, read_ahead

SIZES = {  # of the unpacked files, bytes
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
DIGESTS = {  # of the unpacked files, in that order; of KMNIST those of the .gz are published
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    "kmnist": (
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
}
PACKED = (  # SHA-256 of the .gz files of MNIST that bncli ships: faster to take than an MD5 of what is in them
    "71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
    "fe03b8bd7915f70bf5aa08be480aa413fbd85afcaa58b35d230d335f284fd88e",
    "5634745efa576a17e7d4cf5cd9d09123c75e6538e5114267c2d156edaf519341",
    "ae18e77e031ccde52407f794d123116439864147d33ac992975f85dd4dc42af6",
)
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "kmnist": "KMNIST"}
LAYOUTS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "kmnist": "KMNIST/raw"}  # torchvision's
SERVERS = {
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "kmnist": "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
}


def fetch_fashion(say: Say) -> None:
    """Download the files of Fashion-MNIST that are not here."""
    fetch(files_of("fashion-mnist"), say)


def fetch_kmnist(say: Say) -> None:
    """Download the files of KMNIST that are not here."""
    fetch(files_of("kmnist"), say)


def files_of(data: str) -> Iterator[DataFile]:
    """Training images, their labels, test images, their labels."""
    for (name, size), digest, packed in zip(SIZES.items(), DIGESTS[data], PACKED, strict=True):
        address = (f"{SERVERS[data]}{name}.gz",) if data in SERVERS else ()
        digests = ("", digest) if data == "kmnist" else (digest, packed if data == "mnist" else "")
        yield DataFile(data, TITLES[data], name, size, *digests, (LAYOUTS[data],), address, data == "mnist")


def read_mnist_ahead() -> None:
    """Read the files that bncli ships, for whoever asks for them next."""
    read_ahead(files_of("mnist"))
