"""The server and the script for the tests of the download of COCO."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import fetching
import pytest
from coco_server import (
    NAMES,
    SCRIPT,
    ZIP,
    Handler,
    Served,
    Server,
    make_listing,
    make_photo,
    make_zip,
)


@pytest.fixture
def coco(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the script as a module, with very short pauses between tries."""
    spec = importlib.util.spec_from_file_location("download_coco", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(fetching, "PAUSES", (0.001, 0.001, 0.001))
    return module


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve a small copy of COCO."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Served()
    for number, name in enumerate(NAMES, 1):
        served.files[f"/val2017/{name}"] = make_photo(24 + number, 16, number)
    served.files[f"/annotations/{ZIP}"] = make_zip(make_listing())
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"served": served}))
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    path = tmp_path / "listing.json"
    path.write_text(json.dumps(make_listing()))
    return path
