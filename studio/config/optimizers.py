"""Optimizers as data: the facts of each that config, form, importers, plans, tables and tests walk.

`studio.training.optimizers` makes an optimizer from its `class_path` and `arguments`. CONTRIBUTING.md says what else a new entry needs: mostly
its package in requirements.txt, and what other trainers call it with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.config import registry
from studio.config.registry import Entry


@dataclass(frozen=True, kw_only=True)
class Optimizer(Entry):
    package: str
    """What pip installs."""
    class_path: str
    """module:Class, called with parameter groups, lr, weight_decay and `arguments`, which may replace the two.

    The setting training.weight_decay means decoupled decay, as in AdamW: each step takes learning rate x decay of the weight off it. Where the class
    does something else by default, `arguments` make it so.
    """
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cuda_arguments: Mapping[str, Any] = field(default_factory=dict)
    """More arguments, for parameters on a GPU."""
    state_bytes: float
    """Bytes per trainable parameter that its state takes in memory and in a resume state, at rank 16."""
    foreign_weight_decay: float = 0.0
    """The default of its class, which importers assume where another trainer's file gives none. The studio's own is training.weight_decay."""
    skips_on_device: bool = False
    """Leaves out a step that is not finite without the host reading the norm: torch's fused kernels, by their gradient scaler's protocol."""
    capturable: bool = False
    """Its step fits a CUDA graph: nothing asks the host, state begins as zeros, and the learning rate is read from a tensor."""
    finds_rate: bool = False
    """Finds one learning rate for all parameters, so text encoders have none of their own."""
    rate_factor: str = ""
    """Where it multiplies the configured learning rate by what it finds: the key of that factor in its parameter groups. A learning rate of 1 is usual."""
    excludes_schedule: bool = False
    """Never reads the learning rate: a schedule or a warm-up would do nothing."""
    has_modes: bool = False
    """Has train() and eval(), which move the weights between the point that is trained and the point that is used."""


OPTIMIZERS: tuple[Optimizer, ...] = (
    Optimizer(
        name="adamw",
        title="AdamW",
        help="the reference, good for most LoRAs.",
        source="Loshchilov & Hutter 2019, arXiv:1711.05101",
        package="torch",
        class_path="torch.optim:AdamW",
        arguments={"fused": True},
        cuda_arguments={"capturable": True},
        state_bytes=8,
        foreign_weight_decay=0.01,
        skips_on_device=True,
        capturable=True,
        names={"kohya": ("adamw", "pagedadamw", "pagedadamw32bit"), "ai-toolkit": ("adamw",)},
    ),
    Optimizer(
        name="adamw8bit",
        title="8-bit AdamW",
        help="AdamW with its state in 8 bits, a quarter of the memory.",
        source="Dettmers et al. 2022, arXiv:2110.02861",
        package="bitsandbytes",
        class_path="bitsandbytes.optim:AdamW8bit",
        # Two moments of a byte, their scales, and a table of 2 kB a matrix. Matrices below 4,096 numbers stay in 32 bits.
        state_bytes=2.2,
        foreign_weight_decay=0.01,
        names={"kohya": ("adamw8bit", "pagedadamw8bit"), "ai-toolkit": ("adamw8bit", "adamw8")},
    ),
    Optimizer(
        name="prodigy",
        title="Prodigy",
        help="finds the learning rate itself; set it to 1.",
        source="Mishchenko & Defazio 2023, arXiv:2306.06101",
        package="prodigyopt",
        class_path="prodigyopt:Prodigy",
        # Its authors' advice for diffusion models: bias correction and a safeguarded warm-up.
        arguments={"use_bias_correction": True, "safeguard_warmup": True},
        state_bytes=16,
        finds_rate=True,
        rate_factor="d",
        names={"kohya": ("prodigy",), "ai-toolkit": ("prodigy", "prodigy8bit")},
    ),
    Optimizer(
        name="schedulefree",
        title="Schedule-free AdamW",
        help="AdamW that averages its weights instead of lowering the rate; leave the schedule constant.",
        source="Defazio et al. 2024, arXiv:2405.15682",
        package="schedulefree",
        class_path="schedulefree:AdamWScheduleFree",
        state_bytes=8,
        has_modes=True,
        names={"kohya": ("adamwschedulefree",)},
    ),
    Optimizer(
        name="adafactor",
        title="Adafactor",
        help="close to AdamW with hardly any state, for the least memory; same learning rates.",
        source="Shazeer & Stern 2018, arXiv:1804.04235",
        package="transformers",
        class_path="transformers.optimization:Adafactor",
        # As its authors in transformers advise for a rate from outside, and ai-toolkit does: the rate is the one that the config says,
        # not multiplied by the size of the weights, which is zero for half of a fresh LoRA.
        arguments={"relative_step": False, "scale_parameter": False, "warmup_init": False},
        # A row and a column for each matrix.
        state_bytes=0.26,
        names={"kohya": ("adafactor",), "ai-toolkit": ("adafactor",)},
    ),
    Optimizer(
        name="adafactor_relative",
        title="Adafactor with relative steps",
        help="Adafactor that sets its own rate from the size of the weights and the number of steps, slow on fresh LoRAs; the learning rate is not read.",
        source="Shazeer & Stern 2018, arXiv:1804.04235, section 8",
        package="transformers",
        class_path="transformers.optimization:Adafactor",
        # What kohya's trainers mean by Adafactor without arguments. An entry of its own, since it reads neither rate nor schedule.
        # warmup_init, which reaches the same rate after 10,000 steps only, is longer than a LoRA is trained.
        arguments={"lr": None, "relative_step": True, "scale_parameter": True, "warmup_init": False},
        state_bytes=0.26,
        finds_rate=True,
        excludes_schedule=True,
        names={"kohya": ("adafactor",)},
    ),
    Optimizer(
        name="lion",
        title="Lion",
        help="steps by the sign of its momentum, with half of AdamW's state; takes a learning rate 3 to 10 times lower.",
        source="Chen et al. 2023, arXiv:2302.06675",
        package="lion-pytorch",
        class_path="lion_pytorch:Lion",
        state_bytes=4,
        names={"kohya": ("lion", "lion8bit", "pagedlion8bit"), "ai-toolkit": ("lion", "lion8bit")},
    ),
)


LEAST_FACTOR = 0.1
"""Least learning rate that is plausible as a factor: those of other optimizers are far below."""


def get(name: str) -> Optimizer:
    return registry.find(OPTIMIZERS, name)


def rate_note(name: str, learning_rate: float) -> str:
    """Note on a learning rate that was meant for another optimizer: this one multiplies it by what it finds. Empty if there is none."""
    entry = get(name)
    if not entry.rate_factor or learning_rate >= LEAST_FACTOR:
        return ""
    return (
        f"{entry.title} multiplies the learning rate that it finds by the configured one, {learning_rate:g}; 1 is usual. Set the learning rate to 1."
    )
