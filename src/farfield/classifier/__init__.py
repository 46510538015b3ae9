"""Any image classifier as a body and a head: wrapped from Python, or loaded by name."""

from farfield.classifier.classifier import Classifier, Transform

__all__ = ["Classifier", "Transform"]
