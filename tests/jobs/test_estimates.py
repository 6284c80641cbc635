"""Counted once by a child, answered from then on for every rank."""

from studio import config as configs
from studio.devices.measure import count_adapter_parameters
from studio.families import BUILTIN_ID, get, resolve_base
from studio.jobs import estimates
from studio.jobs.process import run_direct
from studio.jobs.queue import Jobs


def settings(*overrides: str):
    return configs.build({"model": {"base_model": BUILTIN_ID}, "dataset": {"resolution": 128}}, *overrides)


def test_a_child_counts_and_every_rank_is_known_from_then_on(home):
    jobs, config = Jobs(home.database), settings("lora.rank=4")
    assert estimates.load_estimate(home, config) is None and estimates.can_estimate(config)
    job = jobs.submit("local", "estimate", {"config": config.model_dump(mode="json")})
    assert run_direct(home.database, job.id, None), jobs.get(job.id).error
    family, base = get("stable-diffusion"), resolve_base(BUILTIN_ID)
    for rank in (1, 4, 64):
        told = estimates.load_estimate(home, settings(f"lora.rank={rank}")).at_rank(rank)
        assert told.adapter_parameters == count_adapter_parameters(settings(f"lora.rank={rank}"), family, base)
    assert estimates.load_estimate(home, settings("dataset.resolution=256")) is None
    assert estimates.load_estimate(home, settings("lora.method=dora")) is None
    assert estimates.load_estimate(home, settings("samples.resolution=64")) is None


def test_what_nobody_can_count_is_not_asked_for():
    assert not estimates.can_estimate(configs.build({"model": {"base_model": "owner/unheard-of"}}))
    assert not estimates.can_estimate(settings("lora.method=lokr"))
    assert estimates.can_estimate(configs.build({"model": {"family": "flux", "base_model": "black-forest-labs/FLUX.1-dev"}}))


def test_a_damaged_note_is_counted_anew(home):
    path = estimates._file(home, settings())
    path.parent.mkdir(parents=True)
    path.write_text('{"footprint": {"strange": 1}}')
    assert estimates.load_estimate(home, settings()) is None
