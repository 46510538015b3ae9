"""Every annotated shape is enforced while the tests run."""

from hypothesis import settings
from jaxtyping import install_import_hook

hook = install_import_hook("farfield", "typecheck.checked")

settings.register_profile("machines are noisy", deadline=None)
settings.load_profile("machines are noisy")
