"""A model, an optimiser or a text of the user's own: one Python file (`run.code`), or objects given to `train`.

The file defines one or more of

    class Model                     made as Model(config); its first weights are drawn as the built-in model's are
    make_model(config)              instead of the class: returns a model that has its first weights already
    make_optimizer(model, optim)    returns a torch.optim.Optimizer; the learning rate of each of its parameter
                                    groups is the highest it gets: the run's schedule lowers it. Or what
                                    glassgpt.optim.groups.make_optimizer returns for other settings
    documents()                     gives texts, one by one, to train on instead of files; always the same

where `config` is the run's GPTConfig and `optim` its OptimConfig. A model is a torch.nn.Module with

    hidden(ids)                     ids (B, T) int64 -> (B, T, C). With a second parameter `cache`, as GPTModel's has,
                                    it writes from a cache; without, from the whole text again for each token
    output_head                     torch.nn.Linear(C, vocab_size, bias=False)

A subclass of GPTModel has both. PyTorch computes the step of such a model; an optimiser alone leaves the native step
where it is. The file is copied into the run, alone: what it imports must be installed.
"""

import inspect
import sys
import traceback
import types
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassgpt.api.texts import DocumentMaker
from glassgpt.checkpoint.own_model import CODE
from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.model import GPTModel, initialise
from glassgpt.optim.groups import make_optimizer, with_average
from glassgpt.optim.optimizer import Optimizer
from glassgpt.optim.torch_optimizer import TorchOptimizer
from glassgpt.settings import InputError

GIVEN_IN_PYTHON = "given in Python"
"""What `run.code` is where model, optimiser or documents were objects."""

TRIED = 16
"""Positions that a model is tried with before it is trained."""

ModelMaker = Callable[[GPTConfig], GPTModel]
OptimizerMaker = Callable[[GPTModel, OptimConfig], torch.optim.Optimizer | Optimizer]


@dataclass(frozen=True)
class Code:
    """What the user brings along; each part may be None, which is the built-in one."""

    make_model: ModelMaker | None = None
    """A class, or a function."""
    make_optimizer: OptimizerMaker | None = None
    documents: DocumentMaker | None = None
    path: Path | None = None
    source: bytes | None = None

    @property
    def is_given(self) -> bool:
        return any(part is not None for part in (self.make_model, self.make_optimizer, self.documents))

    @property
    def recorded_as(self) -> str | None:
        """What `run.code` is in the run's own config.yaml."""
        return None if not self.is_given else GIVEN_IN_PYTHON if self.source is None else CODE

    def first_model(self, config: GPTConfig, seed: int) -> GPTModel:
        """A model with its first weights, which depend on `seed` alone. Raises InputError where it is no model."""
        generator = torch.Generator().manual_seed(seed)
        if self.make_model is None:
            model = GPTModel(config)
            initialise(model, generator)
            return model
        torch.manual_seed(seed)
        model = self.bare_model(config)
        if isinstance(self.make_model, type):
            initialise(model, generator)
        return model

    def bare_model(self, config: GPTConfig) -> GPTModel:
        """The model, to be given weights. Raises InputError where it is none."""
        if self.make_model is None:
            return GPTModel(config)
        model: Any = self._call("model", self.make_model, config)
        self._check(model, config)
        return model

    def _call(self, what: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """What the user's `make` returns. Raises InputError where it does not take the arguments that it gets."""
        try:
            inspect.signature(make).bind(*arguments)
        except TypeError as error:
            names = ", ".join(type(argument).__name__ for argument in arguments)
            raise self._wrong(f"what makes the {what} is called with ({names}), but {error}") from None
        except ValueError:  # a class in C tells no signature
            pass
        return make(*arguments)

    def _check(self, model: Any, config: GPTConfig) -> None:
        if not isinstance(model, nn.Module):
            raise self._wrong(f"the model is {model!r}, but must be a torch.nn.Module")
        if not hasattr(model, "config"):
            setattr(model, "config", config)  # noqa: B010 (nn.Module's attributes are typed as tensors)
        head = getattr(model, "output_head", None)
        if not (isinstance(head, nn.Linear) and head.bias is None and head.out_features == config.vocab_size):
            rule = f"must be torch.nn.Linear(C, {config.vocab_size}, bias=False): vocab_size scores a token"
            raise self._wrong(f"the model's output_head is {head!r}, but {rule}")
        hidden: Any = getattr(model, "hidden", None)
        if hidden is None:
            raise self._wrong("the model has no method hidden(ids), which gives what output_head sees, (B, T, C)")
        model.eval()
        length = min(TRIED, config.context_length)
        ids = torch.arange(length)[None] % config.vocab_size  # (1, T)
        with torch.no_grad():
            found = hidden(ids)
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else None
            if shape != (1, length, head.in_features):
                gives = shape or repr(found)
                rule = f"must give {(1, length, head.in_features)}, what output_head sees"
                raise self._wrong(f"the model's hidden(ids) gives {gives} for ids of (1, {length}), but {rule}")
            self._refuse_foresight(found, hidden, ids)

    def _refuse_foresight(self, found: torch.Tensor, hidden: Any, ids: torch.Tensor) -> None:
        """Raises InputError where what a position gives depends on later ids, among them the one to be predicted."""
        if ids.shape[1] < 2:
            return
        changed = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)  # the last id is another one
        before, after = found[:, :-1], hidden(changed)[:, :-1]
        if not torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max())):
            raise self._wrong(
                "the model sees the future: hidden(ids) at a position changes with the ids after it, and the next one "
                "is what it has to predict; mask what comes later"
            )

    def optimizer(self, model: GPTModel, optim: OptimConfig) -> Optimizer:
        """The optimiser of `model`. Raises InputError where it is none."""
        if self.make_optimizer is None:
            return make_optimizer(model, optim)
        optimizer: Any = self._call("optimiser", self.make_optimizer, model, optim)
        if isinstance(optimizer, Optimizer):
            return optimizer
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise self._wrong(f"the optimiser is {optimizer!r}, but must be a torch.optim.Optimizer")
        if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
            raise self._wrong(f"{type(optimizer).__name__} needs a closure, which it does not get: take another one")
        named = dict(model.named_parameters())
        return with_average([TorchOptimizer(optimizer, named, optim.learning_rate)], model, optim)

    @contextmanager
    def blamed(self) -> Generator[None, None, None]:
        """Inside, an error that comes out of the user's file is one line that names its place there."""
        try:
            yield
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            line = self._line_of(error)
            if line is None:
                raise
            what = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
            raise InputError(f"{self.path}, line {line}: {type(error).__name__}: {what}; mend the file") from error

    def _line_of(self, error: BaseException) -> int | None:
        if isinstance(error, SyntaxError) and error.filename == str(self.path):
            return error.lineno
        frames = traceback.walk_tb(error.__traceback__)
        lines = [line for frame, line in frames if frame.f_code.co_filename == str(self.path)]
        return lines[-1] if lines else None

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self.path or 'train'}: {what}")


BUILT_IN = Code()
"""Nothing of the user's own."""


def read_code(path: Path) -> Code:
    """Run the user's file and take what it defines. Raises InputError where it fails or defines nothing of use."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the code {path}: {error.strerror}; give the path of a Python file") from None
    if b"\0" in source:
        raise InputError(f"{path} is binary (it has a zero byte), so it is no code: give the path of a Python file")
    module = types.ModuleType("glassgpt_code")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up here
    with Code(path=path).blamed():
        exec(compile(source, str(path), "exec"), module.__dict__)
    names = ("Model", "make_model", "make_optimizer", "documents")
    found = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if not found:
        shown = "`python -m pydoc glassgpt.api.code` shows how"
        raise InputError(f"{path} defines none of {', '.join(names)}: {shown}")
    for name, value in found.items():
        if not callable(value):
            raise InputError(f"{path}: {name} is {value!r}, but must be a class or a function")
    if "Model" in found and "make_model" in found:
        raise InputError(f"{path} defines both Model and make_model: keep one of the two")
    made = found.get("Model") or found.get("make_model")
    return Code(made, found.get("make_optimizer"), found.get("documents"), path, source)


def settled_code(path: str | None, given: Code) -> Code:
    """What a run uses: the objects that were given, or else the file of its setting `run.code`."""
    if given.is_given or path is None:
        return given
    if path == GIVEN_IN_PYTHON:
        raise InputError("this run's model, optimiser or text was given in Python: give it again to glassgpt.train")
    return read_code(Path(path))
