"""Every annotated shape is enforced while the tests run."""

from jaxtyping import install_import_hook

hook = install_import_hook("farfield", "typecheck.checked")

from hypothesis import settings

settings.register_profile("machines are noisy", deadline=None)
settings.load_profile("machines are noisy")
