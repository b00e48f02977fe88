"""The `train:` block of a recipe."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Block(BaseModel):
    """A block of a recipe: unknown keys are errors, values are what their type says."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, ser_json_inf_nan="constants"
    )


class Training(Block):
    """How a model is trained."""

    epochs: PositiveInt = Field(10, description="passes over the training images")
    max_steps: PositiveInt | None = Field(None, description="stop after so many optimizer steps")
    batch_size: PositiveInt = Field(64, description="images a step, of all ranks together")
    accumulate: PositiveInt = Field(1, description="pieces that a step's images are split into")

    optimizer: Literal["SGD", "Adam", "AdamW", "RMSprop"] = Field(
        "SGD", description="a class of torch.optim"
    )
    lr: Positive = Field(0.1, description="peak learning rate")
    momentum: Fraction = Field(0.9, description="SGD and RMSprop")
    nesterov: bool = Field(False, description="SGD")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="Adam and AdamW")
    weight_decay: NonNegative = Field(1e-4, description="of weights")
    decay_all: bool = Field(False, description="decay biases and norms as well")
    projector_lr: Positive | None = Field(None, description="peak rate of projectors; as lr unless")

    schedule: Literal["constant", "cosine", "step"] = Field("cosine", description="of the rate")
    milestones: tuple[Fraction, ...] = Field((), description="step: fractions of the training")
    gamma: Positive = Field(0.1, description="step: factor at each milestone")
    warmup: Fraction = Field(0.0, description="fraction of the training with a rising rate")

    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the student's forward pass (autocast)"
    )
    channels_last: bool = Field(False, description="memory format of images and convolutions")
    compile: bool = Field(False, description="torch.compile the student")
    clip: Positive | None = Field(None, description="largest norm of the gradient")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of averaged weights, which then are the student"
    )

    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="of several ranks, each holds all of the training's state, or a part"
    )
    shard: list[str] | None = Field(
        None, description="fsdp: the student's blocks, gathered one by one; found unless named"
    )
    find_unused: bool = Field(
        False, description="ddp: look in every step for weights that no loss reaches"
    )

    evaluate_every: PositiveInt = Field(1, description="epochs between evaluations")
    save_every: PositiveInt | None = Field(None, description="steps between checkpoints")
    log_every: PositiveInt = Field(50, description="steps between lines of metrics")
    tensorboard: bool = Field(False, description="write event files as well")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")] = Field(
        "auto", description="auto, cpu, cuda, cuda:1, mps"
    )
    threads: PositiveInt | None = Field(None, description="threads of one operation")

    @model_validator(mode="after")
    def steps_have_milestones(self) -> "Training":
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("milestones and schedule: step go together")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} must divide by accumulate")
        return self

    @model_validator(mode="after")
    def of_one_kind(self) -> "Training":
        if self.shard is not None and self.parallel != "fsdp":
            raise ValueError("shard names what parallel: fsdp holds in parts; set that too")
        if self.find_unused and self.parallel != "ddp":
            raise ValueError("find_unused is for parallel: ddp; fsdp waits for no weight")
        return self
