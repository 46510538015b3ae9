"""The checks, in the order in which they are told; a file for each family."""

from farfield.diagnose.base import Check
from farfield.diagnose.checks.against import REFERENCE
from farfield.diagnose.checks.calibration import CALIBRATION
from farfield.diagnose.checks.detectors import FAILING
from farfield.diagnose.checks.duplicates import DUPLICATES
from farfield.diagnose.checks.flattened import FLATTENED
from farfield.diagnose.checks.gaussian import GAUSSIAN, SAMPLES
from farfield.diagnose.checks.labels import LABEL_ERRORS, THIN_CLASSES
from farfield.diagnose.checks.norms import FEATURE_NORMS
from farfield.diagnose.checks.order import ACCURACY
from farfield.diagnose.checks.sinks import SINKS
from farfield.diagnose.checks.spread import DEAD_UNITS, EFFECTIVE_RANK, WITHIN_BETWEEN
from farfield.diagnose.checks.unit_tests import UNIT_TESTS
from farfield.diagnose.checks.weights import WEIGHTS

EVERY: tuple[Check, ...] = (
    ACCURACY, UNIT_TESTS, FAILING, FLATTENED, REFERENCE,
    EFFECTIVE_RANK, WITHIN_BETWEEN, DEAD_UNITS, FEATURE_NORMS, GAUSSIAN, SAMPLES,
    SINKS, WEIGHTS, CALIBRATION,
    DUPLICATES, LABEL_ERRORS, THIN_CLASSES,
)  # fmt: skip
CHECKS = {check.code: check for check in EVERY}
