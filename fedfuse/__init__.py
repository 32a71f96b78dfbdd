"""The science of federated knowledge fusion: tensors in, tensors out.

Nothing is imported here, so that ``import fedfuse`` costs nothing; every name lives in its
module (``fedfuse.fusion.functional``, ``fedfuse.partition``, ``fedfuse.testing``, ...).
"""

__version__ = "0.1.0"
