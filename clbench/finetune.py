"""The one gradient loop. Most strategies are this loop with one or two hooks of their own.

model.grow(outputs)
begin(experience)                 # freeze, copy a teacher, ...
for each epoch, for each batch of the experience (and of the exemplar memory):
    loss(batch).backward(); after_backward(); clip; optimiser step; after_step()      # no gradient where settled(...)
    stop where finished()
end(experience)                   # estimate importances, ...
memory.update(experience)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from clbench import seeding
from clbench.errors import DivergedError
from clbench.memory import ExemplarMemory, MemoryConfig
from clbench.models.classifier import Classifier
from clbench.models.model import Model
from clbench.parallel import Objective, Sharding
from clbench.scenario import Experience, Modality
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, Strategy
from clbench.table import Batch, Table

EVALUATION_BATCH = 256  # examples


class Optimizer(Enum):
    """Update rules, each torch's own."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Schedule(Enum):
    """The learning rate's course within one experience."""

    CONSTANT = "constant"
    COSINE = "cosine"  # from lr to 0, falling with each step
    COSINE_EPOCHS = "cosine_epochs"  # from lr to 0, falling with each epoch
    STEP = "step"  # a tenth after 3/5 and again after 4/5 of the steps
    LATE_STEP = "late_step"  # a tenth after 9/10 of the steps


@dataclass
class FineTuneConfig:
    """Fields that every gradient-trained strategy shares. Epochs and batch size are not searched: equal compute."""

    epochs: int = 10  # passes over each experience
    batch_size: int = 32  # new examples per step
    lr: float = searched(0.05, LogUniform(1e-3, 0.5))  # learning rate at the start of each experience
    optimizer: Optimizer = Optimizer.SGD  # update rule
    momentum: float = 0.9  # of SGD
    weight_decay: float = searched(1e-4, LogUniform(1e-5, 1e-2))  # L2 penalty under SGD and Adam, decoupled under AdamW
    schedule: Schedule = Schedule.COSINE  # course of the learning rate within one experience
    warmup: float = 0.0  # share of an experience's steps over which the learning rate rises from 0 to its course
    accumulate: int = 1  # batches whose gradients are averaged into one step; fewer at the end of an epoch
    bucketed: bool = False  # texts of like length share a batch: less padding, and batches that are less mixed
    clip: float | None = None  # largest norm of the gradient; null: not clipped
    amp: bool = True  # bfloat16 autocast; on GPUs only
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "strategy.epochs", ">= 1", self.epochs)
        require(self.batch_size >= 1, "strategy.batch_size", ">= 1", self.batch_size)
        require(self.lr > 0 and math.isfinite(self.lr), "strategy.lr", "> 0", self.lr)
        require(0 <= self.momentum < 1, "strategy.momentum", "in [0, 1)", self.momentum)
        require(self.weight_decay >= 0, "strategy.weight_decay", ">= 0", self.weight_decay)
        require(0 <= self.warmup < 1, "strategy.warmup", "in [0, 1)", self.warmup)
        require(self.accumulate >= 1, "strategy.accumulate", ">= 1", self.accumulate)
        require(self.clip is None or self.clip > 0, "strategy.clip", "> 0 or null", self.clip)


class FineTune(Strategy):
    """Fine-tune one model on each experience in turn, with an optional exemplar memory.

    Attributes:
        model: see `clbench.models.model`; subclasses for images narrow it to a classifier.
        memory: exemplars of past experiences; empty unless ``config.memory.capacity`` is set.
        auxiliary: tensors that a subclass keeps for later experiences; saved, restored and weighed by this class.
    """

    version = 2  # 2: the schedule counts a last row that joins the batch before it with that batch
    learns = frozenset({Modality.IMAGES, Modality.TEXTS})
    spreads = frozenset({Sharding.NONE})
    config: FineTuneConfig
    model: Model

    def __init__(self, config: FineTuneConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.model = problem.model()
        self.memory = ExemplarMemory(config.memory)
        self.auxiliary: dict[str, Tensor] = {}
        self.trained = 0  # parameters that the last experience could change

    @classmethod
    def access(cls, config: Any) -> str:
        """Exemplars, where it has some."""
        return f"replay {config.memory.capacity}" if config.memory.capacity else "no replay"

    def begin(self, experience: Experience) -> None:
        """Before the first step, the model having grown."""

    def loss(self, batch: Batch) -> Tensor:
        """The scalar that one step descends."""
        return self.model.loss(batch)

    def settled(self, loss: Tensor, batch: Batch) -> bool:
        """Whether a batch is left out of the steps; to look at its loss waits for a GPU."""
        return False

    def finished(self) -> bool:
        """After each epoch: whether it is the experience's last, however many there might be."""
        return False

    def after_backward(self) -> None:
        """Between the gradient and its clipping."""

    def after_step(self) -> None:
        """After each optimiser step."""

    def end(self, experience: Experience) -> None:
        """After the last step, before the memory is updated."""

    def parameter_groups(self) -> list[tuple[list[torch.nn.Parameter], float]]:
        """Parameters that train with the same learning rate, and that rate as a multiple of ``config.lr``."""
        return [(list(self.model.parameters()), 1.0)]

    def training_table(self, experience: Experience) -> Table:
        """The rows that epochs run over."""
        return experience.train

    def exemplars(self, draws: torch.Generator) -> Tensor:
        """Row numbers (M,) int64 of the exemplars that follow one batch's new rows; asked where there are any.

        Asked for all batches of an epoch before the first of them is trained on, so it must not look at the model.
        """
        return self.memory.draw(draws)

    def learn(self, experience: Experience) -> None:
        """Learn one experience, as the module's docstring draws it."""
        self.model.grow(experience.outputs)
        self.model.meet(experience.train)
        self.model.to(self.problem.device).train()
        self.begin(experience)
        whole, peers = self.model, self.problem.peers
        with peers.spread(whole) as self.model, peers.apart(self.problem.seed, "learn", experience.index):
            self._fit(experience, self.training_table(experience))
        self.model = whole
        self.end(experience)
        draws = seeding.generator(self.problem.seed, "memory", experience.index)
        self.memory.update(experience.train, draws, self.features)

    def _fit(self, experience: Experience, table: Table) -> None:
        device = self.problem.device
        optimizer = self._optimizer()
        objective = self.problem.peers.joined(self.model, self.loss, optimizer)
        optimizer.zero_grad()
        trainable = [p for group in optimizer.param_groups for p in group["params"]]
        self.trained = sum(p.numel() for p in trainable)
        augment, order, draws = (
            seeding.generator(self.problem.seed, name, experience.index, device=where)
            for name, where in (("augment", device), ("order", "cpu"), ("replay", "cpu"))
        )
        batches, together = table.batch_count(self.config.batch_size), self.config.accumulate
        losses, step = torch.zeros((), device=device), 0
        for _ in range(self.config.epochs):
            for number, stored in enumerate(table.source.stream(self._rows(table, order, draws))):
                batch = self.problem.transform.train(stored, augment)
                losses += self._backward(objective, batch, min(together, batches - number // together * together))
                if (number + 1) % together == 0 or number + 1 == batches:
                    self._set_rate(optimizer, step, math.ceil(batches / together))
                    self._step(optimizer, trainable)
                    step += 1
            # Looking at a number waits for the GPU, so it is done once per epoch only.
            total = float(self.problem.peers.mean(losses))
            if not math.isfinite(total):
                raise DivergedError(f"the loss of experience {experience.index} is {total} by step {step}")
            if self.finished():
                break

    def _rows(self, table: Table, order: torch.Generator, draws: torch.Generator) -> Iterator[Tensor]:
        """Row numbers of each batch of one epoch, new examples first."""
        batches = table.row_batches(self.config.batch_size, order, self.config.bucketed)
        if not len(self.memory):
            yield from batches
            return
        new = list(batches)
        drawn = [self.exemplars(draws) for _ in new]
        # All in one copy: the host waits for the GPU at each.
        exemplars = torch.cat(drawn).to(table.rows.device).split([len(rows) for rows in drawn])
        yield from map(torch.cat, zip(new, exemplars, strict=True))

    def _set_rate(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
        config = self.config
        factor = rate(config.schedule, step, steps, config.epochs)
        rising = config.warmup * steps * config.epochs
        factor *= min(1.0, (step + 1) / rising) if rising else 1.0
        for group in optimizer.param_groups:
            group["lr"] = config.lr * group["factor"] * factor

    def _backward(self, objective: Objective, batch: Batch, together: int) -> Tensor:
        """The loss of one of so many batches whose mean one step descends."""
        device = self.problem.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.amp and device == "cuda"):
            loss = objective(batch)
        if not self.settled(loss.detach(), batch):
            (loss / together).backward()
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, trainable: list[torch.nn.Parameter]) -> None:
        self.after_backward()
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(trainable, self.config.clip)
        optimizer.step()
        self.after_step()
        optimizer.zero_grad()

    def _optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        groups = []
        for parameters, factor in self.parameter_groups():
            trainable = [p for p in parameters if p.requires_grad]
            if trainable:
                groups.append({"params": trainable, "factor": factor})
        fused = True if self.problem.peers.sharding is Sharding.NONE else None  # torch fuses no SGD on shards
        shared = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": fused}
        if config.optimizer is Optimizer.SGD:
            return torch.optim.SGD(groups, momentum=config.momentum, **shared)  # type: ignore[arg-type]
        kind = torch.optim.AdamW if config.optimizer is Optimizer.ADAMW else torch.optim.Adam
        return kind(groups, **shared)  # type: ignore[arg-type]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """The model's answers, (N, ...) int64."""
        self.model.eval()
        return self.model.predict(self.problem.transform.evaluate(batch))

    @torch.no_grad()
    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each text's answer, in nats, and its number of tokens (N,)."""
        self.model.eval()
        return self.model.log_likelihoods(self.problem.transform.evaluate(batch))

    @torch.no_grad()
    def features(self, table: Table) -> Tensor:
        """The backbone's features (N, F) of a table's examples, not augmented."""
        self.model.eval()
        transform = self.problem.transform
        return torch.cat([self.model.features(transform.evaluate(b)) for b in table.batches(EVALUATION_BATCH)])

    @torch.no_grad()
    def token_matches(self, batch: Batch) -> Tensor:
        """Share (N,) of each answer's tokens that are the likeliest after the right ones before them."""
        self.model.eval()
        return self.model.token_matches(self.problem.transform.evaluate(batch))

    def stored_bytes(self) -> int:
        """Bytes of exemplars and auxiliary tensors."""
        return self.memory.stored_bytes() + sum(t.numel() * t.element_size() for t in self.auxiliary.values())

    def parameters(self) -> tuple[int, int]:
        """Numbers of parameters (all, those that the last experience trained)."""
        return sum(p.numel() for p in self.model.parameters()), self.trained

    def state(self) -> dict[str, Any]:
        """Model, exemplars and auxiliary tensors."""
        return {
            "outputs": self.model.outputs,
            "model": self.model.learnt_state(),
            "memory": self.memory.state(),
            "auxiliary": self.auxiliary,
            "trained": self.trained,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        self.model.grow(state["outputs"])
        self.model.to(self.problem.device)
        self.model.restore_learnt(state["model"])
        self.memory.restore(state["memory"])
        self.auxiliary = {name: tensor.to(self.problem.device) for name, tensor in state["auxiliary"].items()}
        self.trained = state["trained"]


class FineTuneClassifier(FineTune):
    """The loop for methods that are about classes: their means, their rows of the head, their images' tokens."""

    learns = frozenset({Modality.IMAGES})
    spreads = frozenset()
    model: Classifier


def rate(schedule: Schedule, step: int, steps: int, epochs: int) -> float:
    """The learning rate's factor at one step of an experience.

    Args:
        schedule: the course.
        step: counted from 0 over all epochs.
        steps: per epoch.
        epochs: of the experience.
    """
    done = step / (steps * epochs)
    if schedule is Schedule.COSINE:
        return (1 + math.cos(math.pi * done)) / 2
    if schedule is Schedule.COSINE_EPOCHS:
        return (1 + math.cos(math.pi * (step // steps) / epochs)) / 2
    if schedule is Schedule.STEP:
        return float(0.1 ** ((done >= 0.6) + (done >= 0.8)))
    if schedule is Schedule.LATE_STEP:
        return 0.1 if done >= 0.9 else 1.0
    return 1.0
