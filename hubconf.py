"""torch.hub entries: one for every model of the zoo, made from its card.

``torch.hub.load(CLONE, "resnet18_tin200", source="local")``; see the README for all forms.
"""

dependencies = ["torch", "torchvision", "timm", "safetensors", "huggingface_hub", "filelock", "tqdm", "PIL", "numpy"]

from adios_zoo.zoo.torch_hub import entries as _entries  # noqa: E402  (torch.hub reads the names above first)

globals().update(_entries())
