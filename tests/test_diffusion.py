import pytest
import torch
from diffusers import DDPMScheduler

from studio.diffusion import Objective
from studio.errors import StudioError


def objective(prediction_type="epsilon", alphas=(0.64, 0.36)):
    return Objective(torch.tensor(alphas), prediction_type)


def test_noise_is_added_as_a_hand_computes_it():
    # alpha_bar 0.64: 0.8 of the picture and 0.6 of the noise
    noisy = objective().add_noise(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 10.0), torch.tensor([0]))
    assert noisy.item() == pytest.approx(0.8 * 2 + 0.6 * 10)


def test_velocity_is_what_a_hand_computes():
    velocity = objective("v_prediction").target(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 10.0), torch.tensor([0]))
    assert velocity.item() == pytest.approx(0.8 * 10 - 0.6 * 2)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noise_and_target_are_those_of_diffusers_own_scheduler(prediction_type):
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type)
    ours = Objective(scheduler.alphas_cumprod, prediction_type)
    chance = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(5, 4, 3, 3, generator=chance), torch.randn(5, 4, 3, 3, generator=chance)
    t = torch.tensor([0, 17, 400, 998, 999])
    assert torch.allclose(ours.add_noise(latents, noise, t), scheduler.add_noise(latents, noise, t), atol=1e-6)
    wanted = noise if prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, t)
    assert torch.allclose(ours.target(latents, noise, t), wanted, atol=1e-6)


def test_min_snr_caps_easy_steps_and_leaves_hard_ones():
    # alpha_bar 0.9 -> SNR 9; 0.5 -> SNR 1
    t = torch.tensor([0, 1])
    assert objective("epsilon", (0.9, 0.5)).weights(t, 5.0).tolist() == pytest.approx([5 / 9, 1.0])
    assert objective("v_prediction", (0.9, 0.5)).weights(t, 5.0).tolist() == pytest.approx([5 / 10, 1 / 2])
    assert objective("epsilon", (0.9, 0.5)).weights(t, None).tolist() == [1.0, 1.0]


def test_a_perfect_prediction_loses_nothing_and_an_error_of_one_loses_one():
    latents, noise, t = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2), torch.tensor([0, 1])
    assert objective().loss(noise, latents, noise, t, None).item() == 0
    assert objective().loss(noise + 1, latents, noise, t, None).item() == pytest.approx(1)


def test_every_timestep_can_be_drawn_and_none_beyond():
    ours = objective(alphas=(0.9, 0.8, 0.7, 0.6))
    assert ours.timesteps(torch.tensor([0.0, 0.25, 0.5, 0.999, 1.0])).tolist() == [0, 1, 2, 3, 3]


def test_another_objective_is_refused_by_name():
    with pytest.raises(StudioError, match="'sample'"):
        objective("sample")
