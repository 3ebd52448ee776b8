"""The log directories that Kafka 3.9.1 brokers left, unpacked once a session; tests that change them work on a copy."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with broker1-clean, broker2-killed, oldformat and their .dumps. To be read only."""
    root = tmp_path_factory.mktemp("golden")
    for archive in sorted(_HERE.glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            # Python 3.11 learnt this attribute with 3.11.4; Debian 12 has 3.11.2. The archives are ours.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(root)
    return root


@pytest.fixture
def copy_of(golden: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies one of the directories, sparse files staying sparse."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        shutil.copytree(golden / name, target, copy_function=_copy_sparse)
        return target

    return copy


def _copy_sparse(source: str, target: str) -> None:
    """Index files preallocated by a killed broker are megabytes of zeros behind a few entries."""
    data = Path(source).read_bytes()
    with open(target, "wb") as file:
        file.write(data.rstrip(b"\0"))
        file.truncate(len(data))
