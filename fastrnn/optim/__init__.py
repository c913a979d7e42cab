"""Optimizers, schedules of their learning rates, and gradient clipping."""

from __future__ import annotations

from fastrnn.optim.adadelta import Adadelta
from fastrnn.optim.adagrad import Adagrad
from fastrnn.optim.adam import Adam, AdamW
from fastrnn.optim.clipping import clip_grad_norm, clip_grad_value
from fastrnn.optim.optimizer import Group, Optimizer
from fastrnn.optim.rmsprop import RMSprop
from fastrnn.optim.schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearWarmup,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Schedule,
    StepLR,
    WarmupCosine,
)
from fastrnn.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "ExponentialLR",
    "Group",
    "LambdaLR",
    "LinearWarmup",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
    "WarmupCosine",
    "clip_grad_norm",
    "clip_grad_value",
]
