"""Lets transformers import Gemma 3n, whose towers need timm and torchvision, where torchvision's compiled operators do not
load beside this torch: the two that its import asks for are declared without code."""

import torch

_library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
