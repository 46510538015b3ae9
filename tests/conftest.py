"""Every annotated shape is enforced while the tests run."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores, so one thread each; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from pages import Browser

hook = install_import_hook("farfield", "typecheck.checked")

settings.register_profile("machines are noisy", deadline=None)
settings.load_profile("machines are noisy")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Browser"]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        said = "chromium and chromedriver are not both here"
        pytest.fail(said) if os.environ.get("FARFIELD_BROWSER") else pytest.skip(said)
    from pages import Browser

    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.driver.quit()


@pytest.fixture
def browser(chromium: "Browser") -> Iterator["Browser"]:
    """The browser, whose console has nothing to say at the end of a test."""
    yield chromium
    assert chromium.complaints() == []
