"""A place like a learner's without a network: the notebooks folder copied, every connection refused."""

import os
import shutil
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

# Python runs a module of this name at its start. Only this machine itself may be connected to (Jupyter does).
REFUSE_CONNECTIONS = """
import socket
real_connect = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "localhost", "::1")):
        raise OSError(f"the network is off in this test: {address}")
    return real_connect(self, address)
socket.socket.connect = connect
def getaddrinfo(host, *rest, real=socket.getaddrinfo, **named):
    if host not in (None, "", "127.0.0.1", "localhost", "::1"):
        raise OSError(f"the network is off in this test: {host}")
    return real(host, *rest, **named)
socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks folder, to run in."""
    return shutil.copytree(NOTEBOOKS, tmp_path_factory.mktemp("chapter") / "notebooks")


@pytest.fixture(scope="module")
def without_network(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that reaches no other machine and finds no downloaded vocabulary."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(REFUSE_CONNECTIONS)
    python_path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {
        "PYTHONPATH": python_path,
        "TIKTOKEN_CACHE_DIR": str(tmp_path_factory.mktemp("empty")),
        "GOMP_SPINCOUNT": "0",  # threads that wait sleep at once: beside other work, spinning costs minutes here
        "PYTHONUTF8": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
