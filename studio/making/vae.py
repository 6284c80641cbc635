"""Training of the autoencoder on 64-pixel crops of rendered images, in two stages, with encoding of the pool between them.

First the encoder with a temporary patch decoder, which on a CPU trains about ten times faster than the final one. Then encoder and final
decoder together; after that the latents are fixed and the denoiser can be trained.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from studio.builtin import RESOLUTION
from studio.making import architecture, pool
from studio.making.head_start import COLOURS
from studio.making.muon import split
from studio.making.progress import Average, Stage, adamw, cosine, generator, sixteen_bits, take_step, to_tensor

CROP = 64
STEPS = 1600
FINISH_STEPS = 6500
BATCH = 16
LEARNING_RATE = 1e-3
OTHER_SHARE = 0.25
"""Share of crops from looks that the denoiser is not trained on (ink, dusk, the creature, textures)."""
KL_WEIGHT = 1e-5
GUIDE_WEIGHT = 0.1
LATENT_NOISE = 0.05


class PatchDecoder(nn.Module):
    """Latents (B, 8, H, W) to images (B, 3, 8H, 8W): computed at the latent size, then one block of
    pixels per position. No norms, so flat colour is easy."""

    def __init__(self, width: int = 192):
        super().__init__()
        self.enter = nn.Conv2d(architecture.LATENT_CHANNELS, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1)) for _ in range(3)
        )
        self.leave = nn.Sequential(nn.SiLU(), nn.Conv2d(width, 3 * 64, 1), nn.PixelShuffle(8))

    def forward(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        features = self.enter(latents_BCHW)
        for block in self.blocks:
            features = features + block(features)
        return self.leave(features)


def crops(world: np.ndarray, other: np.ndarray, random: torch.Generator, count: int) -> torch.Tensor:
    images = []
    for _ in range(count):
        source = other if torch.rand((), generator=random) < OTHER_SHARE else world
        index = int(torch.randint(len(source), (), generator=random))
        top, left = torch.randint(0, RESOLUTION - CROP + 1, (2,), generator=random).tolist()
        images.append(source[index, top : top + CROP, left : left + CROP])
    return to_tensor(np.stack(images))


def edges(images_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return images_BCHW[..., 1:] - images_BCHW[..., :-1], images_BCHW[..., 1:, :] - images_BCHW[..., :-1, :]


def reconstruction_loss(decoded: torch.Tensor, target: torch.Tensor, edge_weight: float) -> torch.Tensor:
    """L1 at four scales, so that flat colour is learned first; the edge term comes later, since from the start it leads to grey blur."""
    loss = F.l1_loss(decoded, target)
    for size in (2, 4, 8):
        loss = loss + F.l1_loss(F.avg_pool2d(decoded, size), F.avg_pool2d(target, size))
    return loss + edge_weight * sum(F.l1_loss(a, b) for a, b in zip(edges(decoded), edges(target)))


def coarse_colours(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Target of the first three latents: brightness and colour differences of each 8 x 8 block, as at initialisation."""
    return torch.einsum("kc,bchw->bkhw", COLOURS, F.avg_pool2d(images_BCHW, 8))


def train(folder: Path, steps: int, seed: int) -> None:
    """Train the encoder with a patch decoder, which is only needed for resuming."""
    world, _ = pool.load(folder, "world")
    other, _ = pool.load(folder, "other")
    torch.manual_seed(seed)
    vae, patches = architecture.autoencoder().to(memory_format=torch.channels_last), PatchDecoder()
    encoder = vae.encoder.train()
    optimizer = adamw([(encoder, LEARNING_RATE), (patches, LEARNING_RATE)])
    average, stage = Average(encoder, 0.995), Stage(folder, "vae", steps)
    parts = {"model": encoder, "patches": patches, "optimizer": optimizer, "average": average}
    stage.resume(**parts)
    for step in stage.steps():
        random = generator(seed, step)
        target = crops(world, other, random, BATCH).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random)
        decoded = patches(posterior.mean + posterior.std * noise)
        reconstruction = reconstruction_loss(decoded, target, edge_weight=min(0.5, step / steps))
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        guide = F.mse_loss(posterior.mean[:, :3], coarse_colours(target))
        (reconstruction + KL_WEIGHT * divergence + GUIDE_WEIGHT * guide).backward()
        torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *patches.parameters()], 1.0)
        take_step([optimizer], cosine(step, steps, warmup=50))
        average.update(encoder, step)
        stage.note(reconstruction=reconstruction.item(), l1=F.l1_loss(decoded.detach(), target).item(), kl=divergence.item())
        if stage.due:
            stage.save(**parts)


def finish(folder: Path, steps: int, seed: int) -> None:
    """Train encoder and final decoder together, since latents for a wide patch decoder do not yet suit a deep one."""
    world, _ = pool.load(folder, "world")
    other, _ = pool.load(folder, "other")
    torch.manual_seed(seed + 1)
    vae = load(folder).to(memory_format=torch.channels_last).train()
    muon, rest = split(vae, LEARNING_RATE, apart=("encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out"))
    average, stage = Average(vae, 0.998), Stage(folder, "autoencoder", steps)
    parts = {"model": vae, "muon": muon, "adamw": rest, "average": average}
    stage.resume(**parts)
    for step in stage.steps():
        random = generator(seed + 1, step)
        target = crops(world, other, random, BATCH).contiguous(memory_format=torch.channels_last)
        with sixteen_bits():
            posterior = vae.encode(target).latent_dist
            mean, spread = posterior.mean.float(), posterior.std.float()
            # A little noise at least, since the denoiser's latents differ slightly from the encoder's.
            decoded = vae.decode(mean + (spread + LATENT_NOISE) * torch.randn(mean.shape, generator=random)).sample.float()
        divergence = posterior.kl().float().mean() / mean[0].numel()
        guide = F.mse_loss(mean[:, :3], coarse_colours(target))
        reconstruction = reconstruction_loss(decoded, target, edge_weight=1.0)
        (reconstruction + KL_WEIGHT * divergence + 0.1 * GUIDE_WEIGHT * guide).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        take_step((muon, rest), cosine(step, steps, warmup=50))
        average.update(vae, step)
        stage.note(reconstruction=reconstruction.item(), l1=F.l1_loss(decoded.detach(), target).item())
        if stage.due:
            stage.save(**parts)


def normalise_latents(vae: AutoencoderKL, means_C: torch.Tensor, gains_C: torch.Tensor) -> None:
    """Centre and rescale the latents inside the autoencoder: the encoder's last convolution writes (z - mean) gain, the decoder's first undoes it."""
    writer, reader, count = vae.encoder.conv_out, vae.decoder.conv_in, len(means_C)
    with torch.no_grad():
        writer.weight[:count] *= gains_C[:, None, None, None]
        writer.bias[:count] = (writer.bias[:count] - means_C) * gains_C
        writer.bias[count:] += 2 * gains_C.log()
        reader.bias += (reader.weight.sum((2, 3)) * means_C).sum(1)
        reader.weight /= gains_C[:, None, None]


def load(folder: Path) -> AutoencoderKL:
    """The averaged weights in evaluation mode; the decoder is untrained until `finish` has saved a state."""
    vae = architecture.autoencoder()
    finished = folder / "autoencoder.state"
    if finished.exists():
        vae.load_state_dict(torch.load(finished, weights_only=True)["average"])
    else:
        vae.encoder.load_state_dict(torch.load(folder / "vae.state", weights_only=True)["average"])
    statistics = folder / "latents.json"
    if statistics.exists():
        found = json.loads(statistics.read_text())
        normalise_latents(vae, torch.tensor(found["means"]), torch.tensor(found["gains"]))
    return vae.eval()


def statistics(latents_BCHW: np.ndarray) -> dict:
    """Means, gains and the scale that brings the whole to unit spread.

    Detail channels spread a tenth as far as colour channels; noise would drown them until the last sampling steps. Lifting them to
    the power of three quarters of the way keeps them a little quieter than colour, which should be settled first.
    """
    means, spreads = latents_BCHW.mean((0, 2, 3)), latents_BCHW.std((0, 2, 3))
    gains = spreads**-0.75
    even = (latents_BCHW - means[:, None, None]) * gains[:, None, None]
    return {"means": means.tolist(), "gains": gains.tolist(), "scaling_factor": round(1 / float(even.std()), 5)}


@torch.no_grad()
def encode_pool(folder: Path, batch: int = 16) -> None:
    """latents.npy (N, 8, 16, 16), centred and scaled to unit variance, with the constants in latents.json."""
    world, _ = pool.load(folder, "world")
    (folder / "latents.json").unlink(missing_ok=True)
    vae = load(folder).to(memory_format=torch.channels_last)
    found = []
    for start in tqdm(range(0, len(world), batch), desc="latents"):
        images_BCHW = to_tensor(world[start : start + batch]).contiguous(memory_format=torch.channels_last)
        found.append(vae.encode(images_BCHW).latent_dist.mean.numpy())
    raw_BCHW = np.concatenate(found)
    numbers = statistics(raw_BCHW)
    means, gains = (np.array(numbers[name], np.float32)[:, None, None] for name in ("means", "gains"))
    np.save(folder / "latents.npy", ((raw_BCHW - means) * gains * numbers["scaling_factor"]).astype(np.float16))
    (folder / "latents.json").write_text(json.dumps(numbers))
