"""Settings of other trainers are imported with their meaning there, and every skipped setting is reported."""

import inspect
import json
import pkgutil
import textwrap
from collections.abc import Mapping

import pytest

from studio import config as configs
from studio.config import TrainConfig, fields, foreign, optimizers, schedules
from studio.config.foreign import ai_toolkit, ai_toolkit_names, kohya, kohya_names
from studio.core.errors import StudioError
from studio.training.optimizers import check_optimizer
from tests.trained import write_tiny_adapter

DEFAULT = "that trainer's default"
TRAINERS = {kohya.TRAINER: kohya_names, ai_toolkit.TRAINER: ai_toolkit_names}
SDXL = """
pretrained_model_name_or_path = "stabilityai/stable-diffusion-xl-base-1.0"
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
resolution = "1024,1024"
max_train_steps = 2000
"""
FLUX_YAML = """
job: extension
config:
  name: ink
  process:
    - type: sd_trainer
      trigger_word: p3r5on
      network: {type: lora, linear: 16, linear_alpha: 8}
      save: {dtype: bf16, save_every: 250}
      datasets:
        - folder_path: /pictures
          caption_dropout_rate: 0.05
          resolution: [512, 768, 1024]
      train:
        batch_size: 2
        steps: 2000
        lr: 1e-4
        optimizer: adamw8bit
        gradient_checkpointing: true
        noise_scheduler: flowmatch
        ema_config: {use_ema: true, ema_decay: 0.98}
        dtype: bf16
      model: {name_or_path: black-forest-labs/FLUX.1-dev, is_flux: true, quantize: true}
      sample:
        prompts: ["[trigger] at the sea", a lighthouse]
        sample_every: 200
        sample_steps: 20
        guidance_scale: 4
        walk_seed: true
"""


@pytest.fixture
def imported(tmp_path):
    """Imports a text as a file of this name."""

    def import_text(text: str, name: str = "settings.toml", image_count: int = 0):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return foreign.read(path, image_count=image_count)

    return import_text


def why(found, name: str) -> str:
    return next(skipped.why for skipped in found.skipped if skipped.name == name)


def class_parameters(entry: optimizers.Optimizer) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(pkgutil.resolve_name(entry.class_path)).parameters


# kohya


def test_kohyas_settings_are_mapped_to_ours(imported):
    found = imported(
        SDXL
        + """
        learning_rate = 1e-4
        unet_lr = 2e-4
        text_encoder_lr = 5e-5
        optimizer_type = "AdamW8bit"
        optimizer_args = ["weight_decay=0.1"]
        lr_scheduler = "cosine"
        lr_warmup_steps = 0.05
        train_batch_size = 2
        gradient_accumulation_steps = 4
        min_snr_gamma = 5
        noise_offset = 0.05
        caption_dropout_rate = 0.1
        shuffle_caption = true
        keep_tokens = 2
        flip_aug = true
        network_dropout = 0.1
        seed = 42
        mixed_precision = "bf16"
        save_precision = "fp16"
        gradient_checkpointing = true
        fp8_base = true
        blocks_to_swap = 16
        sample_every_n_steps = 200
        prior_loss_weight = 0.5
        max_grad_norm = 0.5
        """
    )
    expected = {
        "model.base_model": "stabilityai/stable-diffusion-xl-base-1.0",
        "model.family": "sdxl",
        "lora.rank": 32,
        "lora.alpha": 16,
        "lora.method": "lora",
        "lora.dropout": 0.1,
        "lora.text_encoder": True,
        "dataset.resolution": 1024,
        "dataset.caption_dropout": 0.1,
        "dataset.caption_shuffle": True,
        "dataset.caption_keep": 2,
        "dataset.flip": True,
        "training.max_train_steps": 2000,
        "training.learning_rate": 2e-4,
        "training.text_encoder_learning_rate": 5e-5,
        "training.optimizer": "adamw8bit",
        "training.weight_decay": 0.1,
        "training.lr_scheduler": "cosine",
        "training.lr_num_cycles": 1,
        "training.lr_power": 1.0,
        "training.lr_warmup_steps": 100,
        "training.train_batch_size": 2,
        "training.gradient_accumulation_steps": 4,
        "training.min_snr_gamma": 5,
        "training.noise_offset": 0.05,
        "training.max_grad_norm": 0.5,
        "training.seed": 42,
        "prior.weight": 0.5,
        "samples.every": 200,
        "saving.dtype": "float16",
        "runtime.dtype": "bfloat16",
        "runtime.gradient_checkpointing": True,
        "runtime.quantisation": "fp8",
        "runtime.offload": True,
    }
    assert found.values == expected and [skipped.name for skipped in found.skipped] == ["learning_rate"]


def test_kohyas_defaults_are_used_for_missing_settings(imported):
    found = imported('network_module = "networks.lora"\npretrained_model_name_or_path = "stable-diffusion-v1-5/stable-diffusion-v1-5"')
    values = {path: found.values[path] for path in ("lora.rank", "lora.alpha", "training.learning_rate", "training.max_train_steps")}
    assert values == {"lora.rank": 4, "lora.alpha": 1.0, "training.learning_rate": 2e-6, "training.max_train_steps": 1600}
    assert found.values["lora.text_encoder"] is True and found.values["training.text_encoder_learning_rate"] == 2e-6


def test_an_alpha_of_zero_is_the_rank(imported):
    assert imported(SDXL.replace("network_alpha = 16", "network_alpha = 0")).values["lora.alpha"] == 32


def test_epochs_are_converted_to_steps_when_the_number_of_images_is_known(imported):
    text = SDXL + "max_train_epochs = 10\ntrain_batch_size = 3\ngradient_accumulation_steps = 2\nlr_warmup_steps = 0.1\n"
    dataset = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\nnum_repeats = 5\n"
    found = imported(text + dataset, image_count=20)
    # 100 images per epoch in batches of 3 are 34 batches, two per step.
    assert found.values["training.max_train_steps"] == 170 and found.values["training.lr_warmup_steps"] == 17
    unknown = imported(text + dataset)
    assert "training.max_train_steps" not in unknown.values and "depends on the dataset" in why(unknown, "max_train_epochs")
    assert why(found, "max_train_steps") == "max_train_epochs takes precedence."


@pytest.mark.parametrize(
    ("words", "ours", "not_taken"),
    [
        ("", "adamw", []),
        ('optimizer_type = ""', "adamw", []),
        ('optimizer_type = "AdamW"', "adamw", []),
        ('optimizer_type = "AdamW8bit"', "adamw8bit", []),
        ("use_8bit_adam = true", "adamw8bit", []),
        (
            'optimizer_type = "Prodigy"',
            "prodigy",
            [f"{name}=False, {DEFAULT}: the studio uses True." for name in ("use_bias_correction", "safeguard_warmup")],
        ),
        ('optimizer_type = "Prodigy"\noptimizer_args = ["use_bias_correction=True", "safeguard_warmup=True"]', "prodigy", []),
        (
            'optimizer_type = "Prodigy"\noptimizer_args = ["use_bias_correction=True", "d_coef=2"]',
            "prodigy",
            [f"safeguard_warmup=False, {DEFAULT}: the studio uses True.", "d_coef=2: the studio uses the optimizer's default."],
        ),
        ('optimizer_type = "schedulefree.AdamWScheduleFree"', "schedulefree", []),
        ('optimizer_type = "Lion"\noptimizer_args = ["betas=0.9,0.99"]', "lion", ["betas=0.9,0.99: the studio uses the optimizer's default."]),
        ('optimizer_type = "PagedLion8bit"', "lion", []),
        ("use_lion_optimizer = true", "lion", []),
        ('optimizer_type = "Adafactor"', "adafactor_relative", []),
        (
            'optimizer_type = "AdaFactor"\noptimizer_args = ["relative_step=True", "warmup_init=True"]',
            "adafactor_relative",
            ["warmup_init=True: the studio uses False."],
        ),
        (
            'optimizer_type = "transformers.optimization.Adafactor"\noptimizer_args = ["relative_step=False", "scale_parameter=False"]',
            "adafactor",
            [],
        ),
        (
            'optimizer_type = "Adafactor"\noptimizer_args = ["relative_step=False", "warmup_init=False"]',
            "adafactor",
            [f"scale_parameter=True, {DEFAULT}: the studio uses False."],
        ),
    ],
)
def test_optimizers_are_found_by_kohyas_names_and_arguments(imported, words, ours, not_taken):
    found = imported(SDXL + words)
    assert found.values["training.optimizer"] == ours
    assert [str(left) for left in found.skipped if left.name == "optimizer_args"] == [f"optimizer_args = {each}" for each in not_taken]


def test_an_optimizer_the_studio_lacks_is_named_with_what_is_used_instead(imported):
    found = imported(SDXL + 'optimizer_type = "DAdaptLion"\noptimizer_args = ["betas=0.9,0.99", "weight_decay=lots"]')
    assert found.values["training.optimizer"] == "adamw" and "adamw is used" in why(found, "optimizer_type")
    assert all(entry.name in why(found, "optimizer_type") for entry in optimizers.OPTIMIZERS)
    assert {left.why for left in found.skipped if left.name == "optimizer_args"} == {
        "weight_decay: 'lots' is not a number.",
        "the studio uses the optimizer's default.",
    }


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_weight_decay_that_is_not_given_is_the_default_of_the_optimizers_class(imported, entry):
    if decay := class_parameters(entry).get("weight_decay"):
        assert entry.foreign_weight_decay == decay.default
    for name in entry.names.get("kohya", ()):
        assert imported(SDXL + f'optimizer_type = "{name}"').values["training.weight_decay"] == entry.foreign_weight_decay
        assert imported(SDXL + f'optimizer_type = "{name}"\noptimizer_args = ["weight_decay=0.3"]').values["training.weight_decay"] == 0.3


@pytest.mark.parametrize("name", ["Prodigy", "Adafactor"])
def test_an_optimizer_that_finds_one_rate_leaves_that_of_the_text_encoder(imported, name):
    found = imported(SDXL + f'optimizer_type = "{name}"\ntext_encoder_lr = 5e-5\nlearning_rate = 1.0')
    check_optimizer(foreign.apply(configs.build({"training": {"text_encoder_learning_rate": 1e-5}}), found).training)
    assert found.values["lora.text_encoder"] is True and "one learning rate" in why(found, "text_encoder_lr")


def test_a_schedule_is_left_where_the_optimizer_reads_no_rate(imported):
    found = imported(SDXL + 'optimizer_type = "Adafactor"\nlr_scheduler = "cosine"\nlr_warmup_steps = 10')
    start = configs.build({"training": {"lr_scheduler": "linear", "lr_warmup_steps": 5}})
    check_optimizer(foreign.apply(start, found).training)
    assert "never reads" in why(found, "lr_scheduler") and "never reads" in why(found, "lr_warmup_steps")
    assert not [left for left in found.skipped if left.matters and left.name != "network_train_unet_only"]


def settings_of(trainer: str, optimizer: str, scheduler: str) -> dict:
    """A file's settings with a rate for the text encoder and a warm-up."""
    learning = {"lr_scheduler": scheduler, "lr_warmup_steps": 10, "text_encoder_lr": 5e-5}
    if trainer == kohya.TRAINER:
        return {"network_dim": 4, "pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5", "optimizer_type": optimizer, **learning}
    train = {"optimizer": optimizer, "train_text_encoder": True, **learning}
    return {"config": {"process": [{"model": {"arch": "sd1"}, "train": train}]}}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_file_with_any_optimizer_schedule_and_text_encoder_rate_can_start(entry, trainer):
    """Over settings that had a schedule and such a rate already."""
    start = configs.build({"training": {"text_encoder_learning_rate": 1e-5, "lr_scheduler": "cosine", "lr_warmup_steps": 5}})
    for optimizer in entry.names.get(trainer, ()):
        for scheduler in [name for each in schedules.SCHEDULES for name in each.names.get(trainer, ())]:
            found = foreign.convert(settings_of(trainer, optimizer, scheduler))
            applied = foreign.apply(start, found).training
            check_optimizer(applied)
            used, left = optimizers.get(applied.optimizer), {each.name.rpartition(".")[2]: each.why for each in found.skipped}
            assert ("text_encoder_lr" in left) == used.finds_rate
            assert ({"lr_scheduler", "lr_warmup_steps"} <= left.keys()) == used.excludes_schedule


def test_schedulers_are_called_by_our_words(imported):
    def taken(words):
        found = imported(SDXL + words)
        assert not [left for left in found.skipped if left.name.startswith("lr_")]
        return tuple(found.values[f"training.{name}"] for name in ("lr_scheduler", "lr_num_cycles", "lr_power"))

    assert taken('lr_scheduler = "constant_with_warmup"') == ("constant", 1, 1.0)
    assert taken('lr_scheduler = "cosine_with_restarts"') == ("cosine_with_restarts", 1, 1.0)
    assert taken('lr_scheduler = "cosine_with_restarts"\nlr_scheduler_num_cycles = 3') == ("cosine_with_restarts", 3, 1.0)
    assert taken('lr_scheduler = "polynomial"\nlr_scheduler_power = 2\nlr_scheduler_num_cycles = 1') == ("polynomial", 1, 2)
    other = imported(SDXL + 'lr_scheduler = "cosine_with_min_lr"')
    assert other.values["training.lr_scheduler"] == "cosine" and "cosine is used" in why(other, "lr_scheduler")


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ('network_module = "networks.lora_flux"', "flux"),
        ('network_module = "networks.lora_flux"\nmodel_type = "chroma"', "chroma"),
        ('network_module = "networks.lora_sd3"', "sd3"),
        ('network_module = "networks.lora_flux_2"\ndit = "/models/klein.safetensors"', "flux2"),
        ('network_module = "networks.lora_qwen_image"', "qwen-image"),
        ('network_module = "networks.lora_zimage"', "z-image"),
        ('network_module = "networks.lora"\nresolution = 512', "stable-diffusion"),
        ('network_module = "networks.lora"\nresolution = "1024"', "sdxl"),
        ('network_module = "networks.lora"\npretrained_model_name_or_path = "C:/models/animagine-xl.safetensors"', "sdxl"),
        ('network_module = "networks.lora"\npretrained_model_name_or_path = "runwayml/stable-diffusion-v1-5"\nresolution = 768', "stable-diffusion"),
    ],
)
def test_the_family_is_recognised_and_given_a_base(imported, words, family):
    found = imported(words)
    assert found.values["model.family"] == family
    base = found.values["model.base_model"]
    assert any(preset.family == family and preset.base_model == base for preset in configs.presets())
    assert not [skipped for skipped in found.skipped if skipped.name == "dit" and "choose the base here" not in skipped.why]


def test_a_path_on_another_computer_is_not_used_as_a_base(imported):
    found = imported(SDXL.replace("stabilityai/stable-diffusion-xl-base-1.0", "D:/models/sd_xl_base_1.0.safetensors"))
    assert found.values["model.base_model"] == "stabilityai/stable-diffusion-xl-base-1.0"
    assert "choose the base here" in why(found, "pretrained_model_name_or_path")
    other = imported(SDXL.replace("stabilityai/stable-diffusion-xl-base-1.0", "somebody/their-xl"))
    assert (other.values["model.base_model"], other.values["model.family"]) == ("somebody/their-xl", "sdxl")


@pytest.mark.parametrize(
    ("words", "density", "shift"),
    [
        ("", "uniform", 3.0),
        ('timestep_sampling = "uniform"', "uniform", 1.0),
        ('timestep_sampling = "sigmoid"', "logit_normal", 1.0),
        ('timestep_sampling = "shift"\ndiscrete_flow_shift = 2.5', "logit_normal", 2.5),
        ('timestep_sampling = "flux_shift"', "logit_normal", None),
        ('timestep_sampling = "sigma"\nweighting_scheme = "logit_normal"', "logit_normal", 3.0),
    ],
)
def test_timestep_sampling_of_flow_matching_is_converted(imported, words, density, shift):
    found = imported(f'network_module = "networks.lora_flux"\n{words}')
    assert (found.values["training.timestep_density"], found.values.get("training.timestep_shift")) == (density, shift)


@pytest.mark.parametrize(
    ("words", "method"),
    [
        ('network_module = "lycoris.kohya"\nnetwork_args = ["algo=lokr"]', "lokr"),
        ('network_module = "lycoris.kohya"\nnetwork_args = ["algo=lora", "dora_wd=True"]', "dora"),
        ('network_module = "lycoris.kohya"\nnetwork_args = ["algo=locon"]', "lora"),
    ],
)
def test_the_adapter_type_is_recognised_from_its_arguments(imported, words, method):
    found = imported(f"resolution = 512\n{words}")
    assert found.values["lora.method"] == method and not [skipped for skipped in found.skipped if skipped.matters]


def test_an_unsupported_adapter_type_is_reported(imported):
    found = imported('resolution = 512\nnetwork_module = "lycoris.kohya"\nnetwork_args = ["algo=loha", "conv_dim=8"]')
    assert found.values["lora.method"] == "lora" and "not loha" in why(found, "network_module") and "conv_dim=8" in why(found, "network_args")


def test_only_the_unet_is_trained_when_the_file_requests_it(imported):
    found = imported(SDXL + "network_train_unet_only = true\ntext_encoder_lr = 5e-5")
    assert found.values["lora.text_encoder"] is False and "training.text_encoder_learning_rate" not in found.values
    assert imported(SDXL + "text_encoder_lr = 0").values["lora.text_encoder"] is False
    two = imported(SDXL + "text_encoder_lr = [1e-5, 2e-5]")
    assert two.values["training.text_encoder_learning_rate"] == 1e-5 and "one rate for all text encoders" in why(two, "text_encoder_lr")


def test_a_dataset_file_alone_changes_only_dataset_settings(imported):
    found = imported(
        """
        [general]
        shuffle_caption = true
        keep_tokens = 1
        [[datasets]]
        resolution = [768, 512]
        batch_size = 4
        keep_tokens = 2
          [[datasets.subsets]]
          image_dir = 'C:\\hoge'
          num_repeats = 10
          keep_tokens = 3
          [[datasets.subsets]]
          image_dir = 'C:\\fuga'
          num_repeats = 2
          [[datasets.subsets]]
          is_reg = true
          image_dir = 'C:\\reg'
          class_tokens = 'a dog'
        [[datasets]]
        resolution = 512
        """
    )
    assert found.values == {
        "training.train_batch_size": 4,
        "dataset.repeats": 10,
        "dataset.caption_shuffle": True,
        "dataset.caption_keep": 3,
        "dataset.resolution": 624,
        "prior.prompt": "a dog",
    }
    assert why(found, "subsets[1].num_repeats") == why(found, "datasets[1].resolution") == "only the settings of the first one are imported."


def test_nothing_is_dropped_silently(imported):
    text = SDXL + 'frobnicate = 3\nclip_skip = 2\nxformers = true\nzero_terminal_snr = false\nnetwork_dropout = "lots"\noutput_dir = "out"\n'
    found = imported(text)
    reported = {applied.name for applied in found.applied} | {skipped.name for skipped in found.skipped}
    named = {"frobnicate", "clip_skip", "xformers", "zero_terminal_snr", "network_dropout", "output_dir", "network_dim", "resolution"}
    assert named <= reported
    assert {skipped.name for skipped in found.skipped if skipped.matters} == {"frobnicate", "clip_skip", "network_dropout"}
    assert str(next(skipped for skipped in found.skipped if skipped.name == "frobnicate")) == "frobnicate = 3: unknown here."
    assert why(found, "network_dropout") == "'lots' is not a number."


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("network_dim = 9999", "network_dim", "512"),
        ('network_dim = "big"', "network_dim", "'big' is not a number."),
        ("network_dim = 8.5", "network_dim", "it must be an integer."),
        ("network_dim = true", "network_dim", "it must be a number."),
        ("flip_aug = 1", "flip_aug", "it must be true or false."),
        ("resolution = [1, 2, 3]", "resolution", "one or two sides"),
        ("resolution = 'wide'", "resolution", "'wide' is not a number."),
        ("network_args = 5", "network_args", "a list such as"),
        ("seed = inf", "seed", "it must be a number."),
        ("caption_dropout_rate = 1.0", "caption_dropout_rate", "0.9"),
        ('mixed_precision = "fp16"', "mixed_precision", "float16 is chosen only for GPUs without bfloat16"),
        ("datasets = 3", "datasets", "unknown here."),
    ],
)
def test_a_value_of_the_wrong_type_is_reported_and_affects_nothing_else(imported, line, name, reason):
    lines = [each for each in SDXL.splitlines() if not each.startswith(line.partition(" ")[0])]
    found = imported("\n".join([*lines, line]))
    assert reason in why(found, name) and found.values["model.family"] == "sdxl"
    assert foreign.apply(TrainConfig(), found).training.max_train_steps == 2000


# ai-toolkit


def test_ai_toolkits_settings_are_mapped_to_ours(imported):
    found = imported(FLUX_YAML, "job.yaml")
    expected = {
        "dataset.trigger_word": "p3r5on",
        "model.base_model": "black-forest-labs/FLUX.1-dev",
        "model.family": "flux",
        "lora.method": "lora",
        "lora.rank": 16,
        "lora.alpha": 8.0,
        "dataset.caption_dropout": 0.05,
        "dataset.resolution": 1024,
        "training.train_batch_size": 2,
        "training.max_train_steps": 2000,
        "training.learning_rate": 1e-4,
        "training.optimizer": "adamw8bit",
        "training.ema_decay": 0.98,
        "training.timestep_density": "logit_normal",
        "training.timestep_shift": 1.0,
        "samples.prompts": ["[trigger] at the sea", "a lighthouse"],
        "samples.every": 200,
        "samples.num_inference_steps": 20,
        "samples.guidance_scale": 4,
        "saving.dtype": "bfloat16",
        "runtime.dtype": "bfloat16",
        "runtime.quantisation": "fp8",
        "runtime.gradient_checkpointing": True,
    }
    assert expected.items() <= found.values.items()
    matters = {skipped.name for skipped in found.skipped if skipped.matters}
    assert matters == {"datasets.resolution", "sample.walk_seed"} and "1024, is used" in why(found, "datasets.resolution")


def test_ai_toolkits_defaults_are_used_for_missing_settings(imported):
    found = imported("config: {process: [{model: {name_or_path: x/y, arch: sdxl}}]}", "job.yaml")
    values = {path: found.values[path] for path in ("lora.rank", "lora.alpha", "training.learning_rate", "training.max_train_steps")}
    assert values == {"lora.rank": 4, "lora.alpha": 1.0, "training.learning_rate": 1e-6, "training.max_train_steps": 1000}
    assert (found.values["model.family"], found.values["dataset.resolution"]) == ("sdxl", 512) and "training.timestep_density" not in found.values


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("zimage:turbo", "z-image"),
        ("qwen_image", "qwen-image"),
        ("flux2_klein_4b", "flux2"),
        ("krea2", "krea-2"),
        ("chroma", "chroma"),
        ("sd3", "sd3"),
    ],
)
def test_architectures_are_mapped_to_families(imported, architecture, family):
    found = imported(f"config: {{process: [{{model: {{arch: '{architecture}'}}}}]}}", "job.yaml")
    assert found.values["model.family"] == family
    assert found.values["model.base_model"] == configs.preset(f"{family}-style").model.base_model


def test_an_unsupported_architecture_is_reported(imported):
    found = imported("config: {process: [{model: {arch: wan21, name_or_path: a/b}}]}", "job.yaml")
    assert "does not support this family" in why(found, "model.arch") and "model.family" not in found.values


def test_ai_toolkits_older_accumulation_counts_every_batch(imported):
    found = imported("config: {process: [{train: {steps: 1000, gradient_accumulation_steps: 4}}]}", "job.yaml")
    assert (found.values["training.max_train_steps"], found.values["training.gradient_accumulation_steps"]) == (250, 4)
    newer = imported("config: {process: [{train: {steps: 1000, gradient_accumulation: 4}}]}", "job.yaml")
    assert (newer.values["training.max_train_steps"], newer.values["training.gradient_accumulation_steps"]) == (1000, 4)


def test_ai_toolkits_prodigy_reads_a_small_rate_as_one_and_its_linear_schedule_has_no_counterpart(imported):
    found = imported("config: {process: [{train: {optimizer: prodigy, lr: 1e-4, lr_scheduler: linear}}]}", "job.yaml")
    assert found.values["training.learning_rate"] == 1.0 and found.values["training.lr_scheduler"] == "constant"
    assert "constant is used" in why(found, "train.lr_scheduler")


@pytest.mark.parametrize(
    ("train", "ours", "decay"),
    [
        ("", "adamw", 0.01),
        ("optimizer: adamw8", "adamw8bit", 0.0),
        ("optimizer: adamw8bit", "adamw8bit", 0.01),
        ("optimizer: Adafactor", "adafactor", 0.0),
        ("optimizer: adafactor, optimizer_params: {weight_decay: 0.1, relative_step: false}", "adafactor", 0.1),
        ("optimizer: lion8bit", "lion", 0.0),
    ],
)
def test_optimizers_are_found_by_ai_toolkits_names(imported, train, ours, decay):
    found = imported(f"config: {{process: [{{train: {{{train}}}}}]}}", "job.yaml")
    assert (found.values["training.optimizer"], found.values["training.weight_decay"]) == (ours, decay)
    assert not [left for left in found.skipped if left.matters]


def test_arguments_of_its_optimizers_are_named_with_what_is_used_instead(imported):
    params = "{scale_parameter: true, clip_threshold: 2}"
    found = imported(f"config: {{process: [{{train: {{optimizer: adafactor, optimizer_params: {params}}}}}]}}", "job.yaml")
    assert why(found, "train.optimizer_params.scale_parameter") == "the studio uses False."
    assert why(found, "train.optimizer_params.clip_threshold") == "the studio uses the optimizer's default."


def test_defaults_of_ai_toolkits_optimizers_that_the_studio_changes_are_named(imported):
    found = imported("config: {process: [{train: {optimizer: prodigy, optimizer_params: {use_bias_correction: true}}}]}", "job.yaml")
    named = [str(left) for left in found.skipped if left.matters]
    assert named == [f"train.optimizer_params.safeguard_warmup = false, {DEFAULT}: the studio uses True."]


def test_its_text_encoder_has_no_rate_of_its_own_with_prodigy(imported):
    train = "{optimizer: prodigy, lr: 1.0, train_text_encoder: true, text_encoder_lr: 1e-5}"
    found = imported(f"config: {{process: [{{model: {{arch: sd1}}, train: {train}}}]}}", "job.yaml")
    check_optimizer(foreign.apply(TrainConfig(), found).training)
    assert found.values["lora.text_encoder"] is True and "one learning rate" in why(found, "train.text_encoder_lr")


def test_its_restarts_are_a_cosine_and_a_polynomial_brings_its_power(imported):
    restarts = imported("config: {process: [{train: {lr_scheduler: cosine_with_restarts}}]}", "job.yaml")
    assert restarts.values["training.lr_scheduler"] == "cosine"
    found = imported("config: {process: [{train: {lr_scheduler: polynomial, lr_scheduler_params: {power: 2}}}]}", "job.yaml")
    assert (found.values["training.lr_scheduler"], found.values["training.lr_power"]) == ("polynomial", 2)


@pytest.mark.parametrize(("kind", "ours"), [("qfloat8", "fp8"), ("int8", "int8"), ("uint4", "nf4"), ("uint3|somebody/weights.safetensors", "nf4")])
def test_quantised_bases_stay_quantised(imported, kind, ours):
    found = imported(f"config: {{process: [{{model: {{quantize: true, qtype: '{kind}'}}}}]}}", "job.yaml")
    assert found.values["runtime.quantisation"] == ours


def test_sample_prompts_of_the_ui_are_imported_and_extra_ones_are_reported(imported):
    samples = ", ".join(f"{{prompt: 'picture {number}'}}" for number in range(14))
    found = imported(f"config: {{process: [{{sample: {{samples: [{samples}]}}}}]}}", "job.yaml")
    assert found.values["samples.prompts"] == [f"picture {number}" for number in range(12)]
    assert "12 sample prompts" in why(found, "sample.samples")


def test_ai_toolkits_json_is_read_like_its_yaml(imported):
    values = {"config": {"process": [{"network": {"linear": 8, "linear_alpha": 8}}]}}
    assert imported(json.dumps(values), "job.json").values["lora.rank"] == 8


# The tables


@pytest.mark.parametrize("names", [kohya_names, ai_toolkit_names], ids=lambda names: names.__name__.rpartition(".")[2])
def test_every_foreign_name_maps_to_an_existing_setting_and_is_in_one_table(names):
    known = {leaf.path for leaf in fields.leaves(TrainConfig())}
    assert {term.path for term in names.TABLE.values()} | {path for path, _ in names.DEFAULTS.values()} <= known
    for path, value in names.DEFAULTS.values():
        fields.replace(TrainConfig(), {path: value})
    tables = [set(names.TABLE), set(names.UNNEEDED), set(names.UNSUPPORTED)]
    assert sum(map(len, tables)) == len(set.union(*tables))
    assert all(reason.endswith(".") for reason in (*names.UNNEEDED.values(), *names.UNSUPPORTED.values()))


@pytest.mark.parametrize("entry", [*optimizers.OPTIMIZERS, *schedules.SCHEDULES], ids=lambda entry: entry.name)
def test_every_optimizer_and_schedule_is_found_by_each_of_its_foreign_names(imported, entry):
    kind = "optimizer" if entry in optimizers.OPTIMIZERS else "lr_scheduler"
    for name in entry.names.get("kohya", ()):
        setting = {"optimizer": "optimizer_type"}.get(kind, kind)
        found = imported(SDXL + f'{setting} = "{name.upper()}"').values[f"training.{kind}"]
        assert name in next(each for each in [*optimizers.OPTIMIZERS, *schedules.SCHEDULES] if each.name == found).names["kohya"]
    for name in entry.names.get("ai-toolkit", ()):
        found = imported(f"config: {{process: [{{train: {{{kind}: {name}}}}}]}}", "job.yaml")
        assert found.values[f"training.{kind}"] == entry.name


@pytest.mark.parametrize("registry", [optimizers.OPTIMIZERS, schedules.SCHEDULES], ids=["optimizers", "schedules"])
def test_foreign_names_are_lower_case_and_told_apart(registry):
    for entry in registry:
        assert set(entry.names) <= set(TRAINERS)
        assert all(name == name.lower().rpartition(".")[2] for names in entry.names.values() for name in names), entry.name
    for trainer, names in TRAINERS.items():
        listed = [name for entry in registry for name in entry.names.get(trainer, ())]
        for name in {name for name in listed if listed.count(name) > 1}:
            alike = [entry for entry in registry if name in entry.names.get(trainer, ())]
            made_with = [tuple(entry.arguments[argument] for argument in names.OPTIMIZER_ARGUMENTS.get(name, {})) for entry in alike]
            assert len(set(made_with)) == len(alike), f"{trainer} calls several entries {name}, and no argument tells them apart"


IMPLEMENTATION = {"fused", "foreach", "lr"}
"""Arguments that change no result, or that a setting of its own carries."""


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_what_the_studio_sets_otherwise_than_the_optimizers_class_is_known_of_every_trainer(entry):
    """So that an import mentions it."""
    own = {name: parameter.default for name, parameter in class_parameters(entry).items()}
    changed = {name for name, value in entry.arguments.items() if own[name] != value} - IMPLEMENTATION
    for trainer, names in TRAINERS.items():
        for name in entry.names.get(trainer, ()):
            assert changed <= set(names.OPTIMIZER_ARGUMENTS.get(name, {})), f"state them in OPTIMIZER_ARGUMENTS of {names.__name__}"


# Our own


def test_a_runs_config_is_imported_without_its_machine_settings(imported):
    config = configs.build({}, "lora.rank=24", "runtime.device=cuda", "runtime.threads=12", "dataset.id=ink-1", "dataset.trigger_word=ohwx")
    found = imported(configs.dump(config).decode(), "config.json")
    again = foreign.apply(TrainConfig(), found)
    assert (again.lora.rank, again.lora.alpha, again.runtime.device, again.dataset.id) == (24, 24, None, "")
    assert "chosen again" in why(found, "runtime.device")


def test_a_preset_is_imported_with_its_machine_settings(imported):
    found = imported('[preset]\ntitle = "Ink"\n[lora]\nrank = 32\n[runtime]\nquantisation = "nf4"\n[quick]\nlora.rank = 8\n')
    again = foreign.apply(TrainConfig(), found)
    assert (again.lora.rank, again.lora.alpha, again.runtime.quantisation) == (32, 32, "nf4") and not found.skipped


def test_settings_of_other_versions_are_reported(imported):
    found = imported('{"version": 1, "lora": {"rank": 8, "colour": 3}, "wishes": 1, "training": {"learning_rate": 99}}', "config.json")
    assert found.values == {"lora.rank": 8, "lora.alpha": 8.0}
    assert {skipped.name for skipped in found.skipped} == {"lora.colour", "wishes", "training.learning_rate"}
    with pytest.raises(StudioError, match="newer studio"):
        imported('{"version": 99, "lora": {"rank": 8}}', "config.json")


def test_settings_are_imported_from_the_header_of_a_lora(tmp_path):
    config = configs.build({}, "lora.rank=4", "lora.alpha=2", "training.max_train_steps=77", "model.base_model=maker/base")
    write_tiny_adapter(tmp_path / "ink.safetensors", {"trigger_word": "ohwx", "config": config.model_dump(mode="json")})
    found = foreign.read(tmp_path / "ink.safetensors")
    again = foreign.apply(TrainConfig(), found)
    assert (again.lora.alpha, again.training.max_train_steps, again.model.base_model) == (2, 77, "maker/base")


def test_a_lora_of_another_program_is_refused_because_it_has_no_settings(tmp_path):
    for facts in ({}, {"config": "none"}):
        write_tiny_adapter(tmp_path / "ink.safetensors", facts)
        with pytest.raises(StudioError, match="contains no training settings"):
            foreign.read(tmp_path / "ink.safetensors")


# Files nobody vouches for


def bomb() -> str:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.yaml", bomb(), "aliases"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "only plain values"),
        ("a.yaml", "a: !!int ''", "only plain values"),
        ("a.yaml", "[" * 5000, "too deep"),
        ("a.yaml", "a: [1, 2", "cannot be read as yaml"),
        ("a.yaml", "a: 2024-99-99", "cannot be read as yaml"),
        ("a.yaml", "- 1\n- 2", "contains no named settings"),
        ("a.yaml", "", "contains no named settings"),
        ("a.yaml", "\n".join("- x" for _ in range(60_000)), "too long"),
        ("a.json", "[" * 100_000, "too deep"),
        ("a.json", '{"a": ' * 900 + "1" + "}" * 900, "too deep"),
        ("a.json", "{", "cannot be read as json"),
        ("a.json", '{"a": ' + "9" * 5000 + "}", "cannot be read as json"),
        ("a.toml", "a = " + "[" * 5000, "too deep"),
        ("a.toml", "a = " + "9" * 5000, "cannot be read as toml"),
        ("a.toml", "[x]\ny = ", "cannot be read as toml"),
        ("a.toml", "colour = 'red'", "of an unknown trainer"),
        ("a.json", '{"learning_rate": 3e-4, "epochs": 100}', "of an unknown trainer"),
        ("a.json", '{"LoRA_type": "Standard", "network_dim": 8}', "kohya_ss GUI"),
        ("a.yaml", "config: {process: []}", "no config.process"),
        ("a.yaml", "config: {process: [5]}", "no config.process"),
        ("a.toml", "x = 1\n" * 200_000, "at most 1024 kB"),
        ("a.txt", "network_dim = 4", "not a settings file"),
    ],
)
def test_a_file_that_is_not_a_settings_file_is_refused_with_a_message(imported, name, text, sentence):
    with pytest.raises(StudioError, match=sentence) as refused:
        imported(text, name)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x80\x04\x95pickle", b"\x00" * 100])
def test_bytes_that_are_not_text_are_refused(tmp_path, data):
    for name in ("a.toml", "a.yaml", "a.json", "a.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(StudioError):
            foreign.read(tmp_path / name)


def test_unexpected_types_in_a_known_file_do_not_crash_the_reader(imported):
    for value in ("5", "[]", "{}", "null", "[1, {a: 2}]", "'x'", "{a: {b: [1]}}", "true"):
        for section in ("network", "train", "datasets", "model", "sample", "save", "trigger_word", "type", "1"):
            imported(f"config: {{process: [{{{section}: {value}}}]}}", "job.yaml")
        for key in ai_toolkit_names.TABLE:
            section, _, name = key.partition(".")
            imported(f"config: {{process: [{{{section}: {{{name.partition('.')[0] or 'x'}: {value}}}}}]}}", "job.yaml")
    for value in ("5", "[]", "{}", "[1, {a = 2}]", "'x'", "true", "[[1], [2]]"):
        for name in (*kohya_names.TABLE, *kohya_names.TRAINING, *kohya_names.UNNEEDED, *kohya_names.UNSUPPORTED, "datasets", "network_args"):
            if name not in ("network_module", "resolution"):
                imported(f'network_module = "networks.lora_flux"\nresolution = 512\n{name} = {value}\n', image_count=9)
