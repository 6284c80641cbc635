import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from studio.core.errors import StudioError
from studio.families.objectives import FlowMatching, Objective, Shift


def objective(prediction_type="epsilon", alphas=(0.64, 0.36), gamma=None):
    return Objective(torch.tensor(alphas), prediction_type, min_snr_gamma=gamma)


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
    assert objective("epsilon", (0.9, 0.5), 5.0).weights(t).tolist() == pytest.approx([5 / 9, 1.0])
    assert objective("v_prediction", (0.9, 0.5), 5.0).weights(t).tolist() == pytest.approx([5 / 10, 1 / 2])
    assert objective("epsilon", (0.9, 0.5)).weights(t).tolist() == [1.0, 1.0]


EXTREMES = torch.tensor([1.0, 1 - 2**-24, 0.5, 2**-24, 1e-30, 1e-45, 0.0])
"""From an image without noise (an infinite SNR) over the smallest float32 to noise alone (an SNR of zero)."""
SCHEDULES = {
    "scaled linear": DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod,
    "linear": DDPMScheduler().alphas_cumprod,
    "cosine": DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod,
    "sigmoid": DDPMScheduler(beta_schedule="sigmoid").alphas_cumprod,
    "zero terminal SNR": DDPMScheduler(rescale_betas_zero_snr=True).alphas_cumprod,
    "extremes": EXTREMES,
}


@pytest.mark.parametrize("gamma", [0.1, 5.0, 100.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("alphas", SCHEDULES.values(), ids=SCHEDULES)
def test_min_snr_weights_are_finite_at_every_noise_level(alphas, prediction_type, gamma):
    """Compared with float64; at an SNR of zero the limit of min(SNR, gamma)/SNR is 1, at an infinite one it is 0."""
    exact = alphas.double()
    snr = exact / (1 - exact)
    divided_by_snr = torch.where(snr == 0, 1.0, torch.where(snr.isinf(), 0.0, snr.clamp(max=gamma) / snr))
    expected = divided_by_snr if prediction_type == "epsilon" else divided_by_snr * exact
    weights = objective(prediction_type, alphas.tolist(), gamma).weights(torch.arange(len(alphas)))
    assert torch.isfinite(weights).all()
    # 1 - alpha in float32 has few digits where alpha is close to 1.
    assert torch.allclose(weights.double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_step_of_noise_alone_has_a_finite_loss_and_gradient(prediction_type):
    ours = objective(prediction_type, (0.9, 0.0), 5.0)
    latents, noise = torch.ones(2, 4, 2, 2), torch.full((2, 4, 2, 2), 3.0)
    prediction = torch.zeros(2, 4, 2, 2, requires_grad=True)
    losses = ours.losses(prediction, latents, noise, torch.tensor([0, 1]))
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(prediction.grad).all()


def test_a_perfect_prediction_loses_nothing_and_an_error_of_one_loses_one():
    latents, noise, t = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2), torch.tensor([0, 1])
    assert objective().losses(noise, latents, noise, t).tolist() == [0, 0]
    assert objective().losses(noise + 1, latents, noise, t).tolist() == pytest.approx([1, 1])


def test_every_timestep_can_be_drawn_and_none_beyond():
    ours = objective(alphas=(0.9, 0.8, 0.7, 0.6))
    assert ours.timesteps(torch.tensor([0.0, 0.25, 0.5, 0.999, 1.0]), (8, 8)).tolist() == [0, 1, 2, 3, 3]


def test_another_objective_is_refused_by_name():
    with pytest.raises(StudioError, match="'sample'"):
        objective("sample")


def test_a_flow_is_a_straight_line_as_a_hand_computes_it():
    # sigma 0.25: three quarters of the picture (2) and one of the noise (10); the velocity is 10 - 2 everywhere
    flow, t = FlowMatching(Shift()), torch.tensor([250.0])
    latents, noise = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 10.0)
    assert flow.add_noise(latents, noise, t).item() == pytest.approx(0.75 * 2 + 0.25 * 10)
    assert flow.target(latents, noise, t).item() == 8
    assert flow.losses(noise - latents + 2, latents, noise, t).tolist() == [4]


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_flows_noise_and_levels_are_those_of_diffusers_own_scheduler(dynamic):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    shift = Shift.of(scheduler.config)
    tokens = 1024
    slope = (1.15 - 0.5) / (4096 - 256)
    scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.2], mu=0.5 + slope * (tokens - 256))
    levels = FlowMatching(shift, density="uniform").timesteps(torch.tensor([1.0, 0.7, 0.2], dtype=torch.float64), (64, 64))
    assert torch.allclose(levels, scheduler.timesteps, atol=1e-2)
    chance = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(3, 4, 3, 3, generator=chance), torch.randn(3, 4, 3, 3, generator=chance)
    ours = FlowMatching(shift).add_noise(latents, noise, scheduler.timesteps)
    assert torch.allclose(ours, scheduler.scale_noise(latents, scheduler.timesteps, noise), atol=1e-6)


def test_one_euler_step_along_the_target_arrives_at_the_picture():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[0.6])
    flow, chance = FlowMatching(Shift()), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(1, 4, 3, 3, generator=chance), torch.randn(1, 4, 3, 3, generator=chance)
    t = scheduler.timesteps
    arrived = scheduler.step(flow.target(latents, noise, t), t[0], flow.add_noise(latents, noise, t)).prev_sample
    assert torch.allclose(arrived, latents, atol=1e-6)


def test_the_logit_normal_practises_the_middle_and_the_shift_moves_it_towards_noise():
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    levels = FlowMatching(Shift()).timesteps(even, (8, 8)) / 1000
    # the logit of the levels is standard normal: Esser et al. 2024, equation 19 with location 0 and scale 1
    logits = torch.logit(levels.double())
    assert logits.mean().abs() < 1e-3 and abs(logits.std().item() - 1) < 0.01
    shifted = FlowMatching(Shift(3.0)).timesteps(even, (8, 8)) / 1000
    assert torch.allclose(shifted, 3 * levels / (1 + 2 * levels), atol=1e-6)


def test_a_mask_leaves_out_what_is_dark_and_keeps_the_scale():
    latents, noise, t = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), torch.tensor([0])
    wrong = torch.tensor([[[[1.0, 3.0]]]])
    assert objective().losses(wrong, latents, noise, t).tolist() == [5]
    assert objective().losses(wrong, latents, noise, t, torch.tensor([[[[1.0, 0.0]]]])).tolist() == [1]
    assert objective().losses(wrong, latents, noise, t, torch.ones(1, 1, 1, 2)).tolist() == [5]
