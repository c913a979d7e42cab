"""The models of the bench in PyTorch, with the same parameters in the same order."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench.case import Arrays, Contender
from bench.models import STAGES, WIDTHS
from bench.shapes import ModelRow

if TYPE_CHECKING:
    from bench.bench_models import ModelProblem

__all__ = ["torch_contenders", "torch_model"]

#: Kinds whose maps PyTorch may have channels last.
IMAGES = ("LeNet-5", "ResNet-20")


def torch_contenders(problem: ModelProblem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield PyTorch's ways: images in both memory formats, sequences of different lengths packed or padded."""
    del threads  # set for the process
    torch: Any = importlib.import_module("torch")
    variants = ("", "channels_last") if problem.row.kind in IMAGES else ("",)
    if problem.batch.lengths is not None:
        variants = ("packed",)
    for variant in variants:
        twin = _twin(torch, problem)
        x = torch.from_numpy(problem.batch.x)
        if variant == "channels_last":
            twin, x = twin.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        make = _infer if mode == "infer" else _train
        yield make(torch, problem, twin, x, variant)


def _twin(torch: Any, problem: ModelProblem) -> Any:
    """Return the model with our parameters."""
    twin = torch_model(problem.row)
    ours = problem.model().parameters().values()
    with torch.no_grad():
        for parameter, source in zip(twin.parameters(), ours, strict=True):
            parameter.copy_(torch.from_numpy(source.data.copy()))
    return twin


def torch_model(row: ModelRow) -> Any:
    """Return PyTorch's model of a row."""
    torch: Any = importlib.import_module("torch")
    return _MAKE[row.kind](torch.nn, row)


def _infer(torch: Any, problem: ModelProblem, twin: Any, x: Any, variant: str) -> Contender:
    twin.eval()
    lengths = _lengths(torch, problem)

    def call() -> Any:
        with torch.inference_mode():
            return twin(x, *lengths)

    return Contender("torch", call, lambda: {"y": call().numpy()}, variant)


def _train(torch: Any, problem: ModelProblem, twin: Any, x: Any, variant: str) -> Contender:
    optimizer = torch.optim.Adam(twin.parameters(), problem.lr, fused=True)
    lengths, loss = _lengths(torch, problem), _loss(torch, problem)

    def gradients() -> Any:
        optimizer.zero_grad()
        value = loss(twin(x, *lengths))
        value.backward()
        return value

    def call() -> None:
        gradients()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), problem.norm)
        optimizer.step()

    def results() -> Arrays:
        for module in twin.modules():  # masks are drawn otherwise in every library
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        value = gradients()
        twin.train()
        grads = [parameter.grad.numpy(force=True) for parameter in twin.parameters()]
        return {"y": value.numpy(force=True)[None], **dict(zip(problem.names, grads, strict=True))}

    return Contender("torch", call, results, variant)


def _lengths(torch: Any, problem: ModelProblem) -> tuple[Any, ...]:
    lengths = problem.batch.lengths
    return () if lengths is None else (torch.from_numpy(lengths),)


def _loss(torch: Any, problem: ModelProblem) -> Callable[[Any], Any]:
    batch, functional = problem.batch, torch.nn.functional
    targets = torch.from_numpy(batch.targets)
    if batch.target_lengths is None:
        return lambda y: functional.cross_entropy(y.flatten(0, -2), targets.flatten())
    lengths, signs = torch.from_numpy(batch.lengths), torch.from_numpy(batch.target_lengths)
    return lambda y: functional.ctc_loss(functional.log_softmax(y, -1), targets, lengths, signs)


def _lenet(nn: Any, row: ModelRow) -> Any:
    convs = [nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)]
    dense = [nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, row.classes)]
    return nn.Sequential(*convs, *dense)


def _resnet(nn: Any, row: ModelRow) -> Any:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, C: int, K: int, stride: int) -> None:
            super().__init__()
            first = [nn.Conv2d(C, K, 3, stride, 1, bias=False), nn.BatchNorm2d(K), nn.ReLU(inplace=True)]
            self.body = nn.Sequential(*first, nn.Conv2d(K, K, 3, 1, 1, bias=False), nn.BatchNorm2d(K))
            around = [nn.Conv2d(C, K, 1, stride, bias=False), nn.BatchNorm2d(K)]
            self.shortcut = nn.Sequential(*around) if stride == 2 else nn.Identity()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            return self.relu(self.body(x) + self.shortcut(x))

    layers = [nn.Conv2d(3, row.C, 3, 1, 1, bias=False), nn.BatchNorm2d(row.C), nn.ReLU(inplace=True)]
    C = row.C
    for stage, width in enumerate(STAGES):
        for block in range(row.depth):
            layers.append(Block(C, width * row.C, 2 if stage and not block else 1))
            C = width * row.C
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, row.classes))


def _text_cnn(nn: Any, row: ModelRow) -> Any:
    class TextCNN(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(row.vocabulary, row.C)
            self.convs = nn.ModuleList(nn.Conv1d(row.C, row.H, width) for width in WIDTHS)
            self.dropout, self.linear = nn.Dropout(0.5), nn.Linear(len(WIDTHS) * row.H, row.classes)

        def forward(self, tokens: Any) -> Any:
            torch: Any = importlib.import_module("torch")
            words = self.embedding(tokens).transpose(1, 2)
            pooled = [conv(words).relu().amax(-1) for conv in self.convs]
            return self.linear(self.dropout(torch.cat(pooled, 1)))

    return TextCNN()


def _recurrent(nn: Any, row: ModelRow, make: Callable[[], Any], embedded: bool, directions: int) -> Any:
    class Recurrent(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(row.vocabulary, row.C) if embedded else nn.Identity()
            self.recurrent, self.linear = make(), nn.Linear(directions * row.H, row.classes)

        def forward(self, x: Any, lengths: Any = None) -> Any:
            x = self.embedding(x)
            if lengths is None:
                return self.linear(self.recurrent(x)[0])
            rnn = nn.utils.rnn
            y = self.recurrent(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
            return self.linear(rnn.pad_packed_sequence(y, total_length=row.T)[0])

    return Recurrent()


def _language_model(nn: Any, row: ModelRow) -> Any:
    return _recurrent(nn, row, lambda: nn.LSTM(row.C, row.H, row.depth), True, 1)


def _tagger(nn: Any, row: ModelRow) -> Any:
    return _recurrent(nn, row, lambda: nn.GRU(row.C, row.H, bidirectional=True), True, 2)


def _line_recogniser(nn: Any, row: ModelRow) -> Any:
    return _recurrent(nn, row, lambda: nn.LSTM(row.C, row.H, row.depth, bidirectional=True), False, 2)


_MAKE: dict[str, Callable[[Any, ModelRow], Any]] = {
    "LeNet-5": _lenet,
    "ResNet-20": _resnet,
    "text CNN": _text_cnn,
    "LSTM language model": _language_model,
    "GRU tagger": _tagger,
    "CTC line recogniser": _line_recogniser,
}
