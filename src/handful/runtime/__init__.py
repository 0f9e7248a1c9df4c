"""A recognizer that was exported, run by onnxruntime: the same answers without torch.

Needs NumPy, safetensors, onnxruntime; Pillow for pictures, tokenizers for texts that a network reads.
"""

from .folder import open_export

__all__ = ["open_export"]
