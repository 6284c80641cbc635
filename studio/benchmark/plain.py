"""Plain arm: training as in diffusers' example scripts, with images and prompts encoded at every step, float32, and the loss read each step.

A separate program without imports from the studio: `python plain.py FOLDER` reads FOLDER/call.json, then reads lines from stdin:
"steps N" prints a JSON line with N times in seconds, anything else ends it.
"""

import json
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model


def conditions(pipeline, prompt: str, latents, t) -> tuple[torch.Tensor, dict]:
    """(noisy latents as the denoiser takes them, its other arguments); encodes the prompt."""
    kind, batch = type(pipeline).__name__, len(latents)
    prompts, device = [prompt] * batch, latents.device
    if kind == "StableDiffusionPipeline":
        words, _ = pipeline.encode_prompt(prompts, device, 1, False)
        return latents, {"timestep": t, "encoder_hidden_states": words}
    if kind == "StableDiffusionXLPipeline":
        words, _, pooled, _ = pipeline.encode_prompt(prompts, device=device, do_classifier_free_guidance=False)
        side = latents.shape[-1] * 8
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0, 0, side, side]] * batch, device=device, dtype=latents.dtype)}
        return latents, {"timestep": t, "encoder_hidden_states": words, "added_cond_kwargs": added}
    if kind == "FluxPipeline":
        words, pooled, text_ids = pipeline.encode_prompt(prompts, prompts, device)
        height, width = latents.shape[2:]
        return pipeline._pack_latents(latents, batch, latents.shape[1], height, width), {
            "timestep": t / 1000,
            "guidance": torch.ones(batch, device=device),
            "pooled_projections": pooled,
            "encoder_hidden_states": words,
            "txt_ids": text_ids,
            "img_ids": pipeline._prepare_latent_image_ids(batch, height // 2, width // 2, device, latents.dtype),
        }
    raise SystemExit(f"no plain loop for {kind}")


def main() -> None:
    from diffusers import DiffusionPipeline
    from diffusers.optimization import get_scheduler

    plan = json.loads((Path(sys.argv[1]) / "call.json").read_text())
    device = torch.device(plan["device"])
    torch.set_num_threads(plan["threads"])
    pipeline = DiffusionPipeline.from_pretrained(plan["base"], dtype=torch.float32).to(device)
    denoiser = pipeline.components[plan["part"]]
    for part in (denoiser, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=plan["rank"], lora_alpha=plan["rank"], target_modules=plan["targets"]), denoiser)
    denoiser.train()
    trainable = [weight for weight in denoiser.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    scheduler = get_scheduler("constant", optimizer)
    pixels = torch.rand(plan["batch"], 3, plan["resolution"], plan["resolution"], device=device) * 2 - 1

    def step() -> None:
        with torch.no_grad():
            latents = pipeline.vae.encode(pixels).latent_dist.sample() * pipeline.vae.config.scaling_factor
            noise, t = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),), device=device)
            noisy, arguments = conditions(pipeline, plan["prompt"], 0.7 * latents + 0.7 * noise, t)
        output = denoiser(noisy, **arguments, return_dict=False)[0]
        target = noise if output.shape == noise.shape else torch.randn_like(output)
        loss = torch.nn.functional.mse_loss(output.float(), target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        loss.detach().item()

    step()
    step()
    answer({"ready": True})
    for line in sys.stdin:
        word, _, count = line.strip().partition(" ")
        if word != "steps":
            return
        times = []
        for _ in range(int(count)):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        answer({"seconds": times})


def answer(output: dict) -> None:
    sys.stdout.write(json.dumps(output) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
