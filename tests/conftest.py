"""Every annotated shape is enforced while the tests run."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores, so one thread each; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings
from jaxtyping import install_import_hook

hook = install_import_hook("farfield", "typecheck.checked")

settings.register_profile("machines are noisy", deadline=None)
settings.load_profile("machines are noisy")
