"""What the stages that hold weights have in common: a leading axis of seeds, in `files.WEIGHTS`."""

from experiments.stages.stage import Stage
from models.transformer import ModelConfig


class ModelStage(Stage):
    """Models of one shape and several seeds."""

    @property
    def shape(self) -> ModelConfig:
        """Of each of them."""
        raise NotImplementedError

    @property
    def numbers(self) -> range:
        """Of its seeds."""
        raise NotImplementedError
