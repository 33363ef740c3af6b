"""The config fields that scenarios of images share: how classes are cut into experiences, and sizes of pictures."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.errors import IncompatibleError
from clbench.record import Setting
from clbench.scenario import increments
from clbench.space import require


@dataclass
class CutConfig:
    """Classes of the experiences. "B50-Inc10" of the field is base=50 increment=10, "B0-Inc10" base=0 increment=10."""

    base: int = 0  # classes of the first experience; 0: as many as the others; all classes: joint training
    increment: int = 10  # classes of each later experience; the last one takes what is left
    tasks: int | None = None  # experiences after the base, in place of increment; sizes differ by one at most
    setting: Setting = Setting.CLASS_INCREMENTAL  # whether test examples come with their experience

    def __post_init__(self) -> None:
        require(self.base >= 0, "scenario.base", ">= 0", self.base)
        require(self.increment >= 1, "scenario.increment", ">= 1", self.increment)
        require(self.tasks is None or self.tasks >= 1, "scenario.tasks", ">= 1 or null", self.tasks)

    def sizes(self, count: int) -> list[int]:
        """Classes per experience of ``count`` classes.

        Raises:
            IncompatibleError: they cannot be cut so.
        """
        if self.tasks is None or self.base == count:
            return increments(count, self.base, self.increment)
        each, more = divmod(count - self.base, self.tasks)
        sizes = [self.base] * (self.base > 0) + [each + (task < more) for task in range(self.tasks)]
        if each < 1 or len(sizes) < 2:
            raise IncompatibleError(
                f"{count} classes cannot be cut into {self.tasks} experiences after base={self.base}; "
                "lower scenario.tasks or scenario.base"
            )
        return sizes


@dataclass
class PicturesConfig(CutConfig):
    """The shared fields, and the sizes that pictures of any size are kept and shown in."""

    size: int = 224  # height and width that the network takes, pixels
    store: int = 256  # height and width that images are decoded to and kept in, pixels
    augment: bool = True  # random-resized crop and flip in training

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size >= 8, "scenario.size", ">= 8", self.size)
        require(self.store >= 8, "scenario.store", ">= 8", self.store)


def check_at_most(config: CutConfig, classes: int) -> None:
    """Check that a config asks for no more classes than its scenario is known to have.

    Raises:
        ConfigError: base, increment or tasks is greater.
    """
    require(config.base <= classes, "scenario.base", f"in 0 .. {classes}", config.base)
    require(config.increment <= classes, "scenario.increment", f"in 1 .. {classes}", config.increment)
    tasks = config.tasks
    require(tasks is None or tasks <= classes, "scenario.tasks", f"in 1 .. {classes} or null", tasks)
