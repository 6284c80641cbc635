import hashlib
import json
import logging
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from PIL import Image
from pydantic import SecretStr

from studio.adapters.header import read_header
from studio.config.recipe import read_recipe
from studio.core import hashes
from studio.core.errors import StudioError
from studio.hub import client
from studio.jobs.progress import Cancelled, ProgressReporter
from studio.jobs.queue import Jobs
from studio.publishing import plan
from studio.publishing import send as publishing
from studio.publishing.plan import Request
from studio.publishing.save import save_folder, save_zip
from studio.publishing.snippets import diffusers_code
from studio.training import loop
from tests import forked
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures
from tests.trained import PROMPTS, finished_run, write_large_adapter

ONE = "samples.prompts=['ohwx illustration of a house']"


def quiet(done: int, total: int, message: str) -> None:
    pass


@pytest.fixture
def no_waiting(monkeypatch):
    """No waits between tries, neither ours nor the client's, and little patience with a Hub that says nothing."""
    monkeypatch.setattr(publishing, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None, time=lambda: 0.0))
    monkeypatch.setattr(client, "SECONDS_OF_SILENCE", 0.4)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def run(workspace):
    return finished_run(workspace)


@pytest.fixture
def token(fake_hub) -> SecretStr:
    return client.read_token(fake_hub.token)


def publish_request(run, **changes) -> Request:
    return Request(**{"adapter": f"run:{run.id}", "repo": "ink", "licence": "apache-2.0", "rights": "I drew these.", "stated_by": "Ana", **changes})


def publish(workspace, run, token, on_progress=quiet, **changes) -> publishing.Published:
    return publishing.publish(plan.plan(workspace, publish_request(run, **changes)), token, on_progress)


# Contents of a release


def test_a_release_is_an_explicit_list_of_files(workspace, run):
    release = plan.plan(workspace, publish_request(run))
    pictures = [f"images/{name}.png" for n in (1, 2, 3) for name in (n, f"base-{n}")]
    assert [file.path for file in release.files] == ["pytorch_lora_weights.safetensors", "README.md", *pictures, "lora_studio.json"]
    assert release.files[0].read() == run.latest_adapter().read_bytes()


def test_image_prompts_are_on_the_card_and_not_in_the_files(workspace, run):
    release = plan.plan(workspace, publish_request(run))
    for file in release.files:
        if file.path.endswith(".png"):
            assert run.id.encode() not in file.read()
            with pytest.raises(StudioError, match="no recipe"):
                read_recipe(file.read())
    assert all(prompt in release.card for prompt in PROMPTS)


def test_nothing_private_leaves_the_computer(workspace, run):
    sent = b"\n".join(file.read() for file in plan.plan(workspace, publish_request(run)).files)
    snapshot = run.snapshot
    names = (run.id, snapshot["dataset"], "Secret holiday pictures", str(workspace.root), os.uname().nodename, snapshot["pictures"][0]["sha256"])
    for secret in names:
        assert secret.encode() not in sent, secret


def test_a_base_in_a_folder_is_published_by_name_only(workspace, tmp_path):
    run = finished_run(workspace, f"model.base_model={tmp_path}/private/my-base", "model.family=stable-diffusion")
    release = plan.plan(workspace, publish_request(run))
    written = release.card.encode() + release.files[-1].read()
    assert b"my-base" in written and str(tmp_path).encode() not in written
    assert "base_model:" not in release.card.split("\n---\n")[0]


def test_an_earlier_step_is_published_with_its_own_images(workspace, run):
    release = plan.plan(workspace, publish_request(run, adapter=f"run:{run.id}@100"))
    assert release.adapter == run.adapter_at(100) and "100 steps of 200 planned" in release.card
    before, after = release.images[1].read(), release.images[0].read()
    assert after != before and after == plan.strip_metadata(run.samples()[100][0].read_bytes())


def test_the_training_time_of_a_resumed_run_covers_all_sessions(workspace, run):
    assert plan.plan(workspace, publish_request(run)).facts.trained.seconds == pytest.approx(60)
    assert plan.plan(workspace, publish_request(run, adapter=f"run:{run.id}@100")).facts.trained.seconds == pytest.approx(30)
    lines = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    killed = [{"kind": "started", "step": 0, "time": 100.0}, {"kind": "step", "step": 9, "loss": 0.1, "time": 140.0}]
    run.events_file.write_text("".join(json.dumps(event) + "\n" for event in killed + lines))
    assert plan.plan(workspace, publish_request(run)).facts.trained.seconds == pytest.approx(100)


def test_the_placeholder_of_the_trigger_word_does_not_reach_the_card(workspace):
    run = finished_run(workspace, "samples.prompts=['[trigger] on a hill']")
    release = plan.plan(workspace, publish_request(run))
    assert release.facts.samples[0].prompt == "ohwx on a hill" and "[trigger]" not in release.card.split("All settings")[0]


def test_only_chosen_images_are_published(workspace, run):
    release = plan.plan(workspace, publish_request(run, samples=[2]))
    assert [file.path for file in release.images] == ["images/3.png", "images/base-3.png"] and PROMPTS[1] not in release.card.split("All settings")[0]
    assert plan.plan(workspace, publish_request(run, samples=[])).images == ()
    with pytest.raises(StudioError, match="no sample image 7"):
        plan.plan(workspace, publish_request(run, samples=[7]))


def test_only_own_runs_are_published(workspace, run):
    copy = workspace.adapter_path("theirs")
    copy.write_bytes(run.latest_adapter().read_bytes())
    with pytest.raises(StudioError, match="not trained in this studio"):
        plan.plan(workspace, publish_request(run, adapter="file:theirs"))


@pytest.mark.parametrize("changes", [{"rights": " "}, {"licence": "other"}])
def test_a_missing_statement_is_an_error_before_anything_is_uploaded(workspace, run, token, fake_hub, changes):
    with pytest.raises(StudioError, match="right to publish|name"):
        publish(workspace, run, token, **changes)
    assert fake_hub.seen == []


def test_a_real_person_without_written_consent_is_not_published(workspace, token, fake_hub):
    run = finished_run(workspace, consent="Ben said yes")
    assert "Ben said yes" in plan.plan(workspace, publish_request(run)).card
    listing = run.snapshot | {"consent": None}
    (run.dataset_dir / "dataset.json").write_text(json.dumps(listing))
    with pytest.raises(StudioError, match="real person"):
        publish(workspace, run, token)
    assert fake_hub.seen == []


@pytest.mark.parametrize("changes", [{"repo": "a/b/c"}, {"repo": "../x"}, {"repo": "ä"}, {"licence": "gpl-from-memory"}])
def test_an_invalid_request_is_an_error_at_once(workspace, run, changes):
    with pytest.raises(StudioError):
        plan.plan(workspace, publish_request(run, **changes))


# Upload


def test_a_lora_is_private_complete_and_one_commit(workspace, run, token, fake_hub):
    done = publish(workspace, run, token)
    repo = fake_hub.repos["maker/ink"]
    assert repo.private and done.private and done.commit == repo.head.id and done.url == f"{fake_hub.endpoint}/maker/ink"
    assert len(repo.commits) == 2 and repo.head.parent == repo.commits[0].id
    for file in plan.plan(workspace, publish_request(run)).at("maker/ink").files:
        assert repo.head.files[file.path].data == file.read()


def test_it_becomes_public_only_when_asked_and_only_at_the_end(workspace, run, token, fake_hub):
    publish(workspace, run, token, private=False)
    assert not fake_hub.repos["maker/ink"].private
    changes = [seen.path for seen in fake_hub.seen if seen.method in ("POST", "PUT")]
    assert changes[0] == "/api/repos/create" and changes[-1] == "/api/models/maker/ink/settings" and "commit/main" in changes[-2]


def test_publishing_twice_changes_nothing(workspace, run, token, fake_hub):
    first = publish(workspace, run, token)
    sent = len([seen for seen in fake_hub.seen if seen.method == "PUT"])
    assert publish(workspace, run, token).commit == first.commit
    assert len(fake_hub.repos["maker/ink"].commits) == 2 and sent == len([seen for seen in fake_hub.seen if seen.method == "PUT"])


def test_a_repository_with_other_content_is_never_changed(workspace, run, token, fake_hub):
    before = fake_hub.seed_files("maker/ink", {"README.md": b"mine", "pytorch_lora_weights.safetensors": b"other"})
    for update in (False, True):
        with pytest.raises(StudioError, match="with other content; nothing was changed"):
            publish(workspace, run, token, update=update)
    assert fake_hub.repos["maker/ink"].head.id == before


def test_another_run_of_this_studio_is_not_overwritten_either(workspace, run, token, fake_hub):
    first = publish(workspace, run, token)
    with pytest.raises(StudioError, match="with other content"):
        publish(workspace, finished_run(workspace), token, update=True)
    assert fake_hub.repos["maker/ink"].head.id == first.commit


def test_a_new_version_of_the_same_work_is_a_new_commit_when_asked(workspace, run, token, fake_hub):
    publish(workspace, run, token, adapter=f"run:{run.id}@100")
    with pytest.raises(StudioError, match="already published as maker/ink"):
        publish(workspace, run, token)
    done = publish(workspace, run, token, update=True, samples=[0])
    repo = fake_hub.repos["maker/ink"]
    assert len(repo.commits) == 3 and done.commit == repo.head.id
    assert repo.head.files["pytorch_lora_weights.safetensors"].data == run.adapter_at(200).read_bytes()
    assert "images/1.png" in repo.head.files and "images/2.png" not in repo.head.files
    assert "images/2.png" in repo.commits[1].files


def test_a_card_that_was_edited_on_the_hub_is_kept(workspace, run, token, fake_hub):
    publish(workspace, run, token, adapter=f"run:{run.id}@100")
    fake_hub.seed_files("maker/ink", {"README.md": b"my own words"}, private=True)
    done = publish(workspace, run, token, update=True)
    assert fake_hub.read("maker/ink", "README.md") == b"my own words"
    assert fake_hub.read("maker/ink", "pytorch_lora_weights.safetensors") == run.adapter_at(200).read_bytes()
    assert any("edited on the Hub" in note for note in done.notes)


def test_an_empty_public_repository_is_not_used_for_a_private_lora(workspace, run, token, fake_hub):
    fake_hub.seed_files("maker/ink", {})
    with pytest.raises(StudioError, match="empty and public"):
        publish(workspace, run, token)
    assert "README.md" not in fake_hub.repos["maker/ink"].head.files


def test_a_private_version_is_not_uploaded_to_a_public_repository(workspace, run, token, fake_hub):
    publish(workspace, run, token, adapter=f"run:{run.id}@100", private=False)
    before = fake_hub.repos["maker/ink"].head.id
    with pytest.raises(StudioError, match="is public, and you chose private; nothing was uploaded"):
        publish(workspace, run, token, update=True)
    assert fake_hub.repos["maker/ink"].head.id == before
    assert publish(workspace, run, token, update=True, private=False).commit != before


def test_a_read_only_token_is_an_error_before_anything_is_created(workspace, run, fake_hub):
    with pytest.raises(StudioError, match="can read but not write"):
        publish(workspace, run, client.read_token(fake_hub.read_token))
    with pytest.raises(StudioError, match="choose one of: maker"):
        publish(workspace, run, client.read_token(fake_hub.token), repo="somebody/ink")
    assert fake_hub.repos == {} and {seen.path for seen in fake_hub.seen} == {"/api/whoami-v2"}


def test_an_organisation_can_own_the_repository(workspace, run, fake_hub):
    publish(workspace, run, client.read_token(fake_hub.add_user("ana", ("atelier",))), repo="atelier/ink")
    assert 'load_lora_weights("atelier/ink"' in fake_hub.read("atelier/ink", "README.md").decode()


def test_a_concurrent_commit_by_someone_else_is_kept(workspace, run, token, fake_hub, monkeypatch):
    publish(workspace, run, token, adapter=f"run:{run.id}@100")
    commit_before_upload(monkeypatch, lambda: fake_hub.seed_files("maker/ink", {"notes.txt": b"theirs"}, private=True))
    publish(workspace, run, token, update=True)
    head = fake_hub.repos["maker/ink"].head
    assert head.files["notes.txt"].data == b"theirs"
    assert head.files["pytorch_lora_weights.safetensors"].data == run.adapter_at(200).read_bytes()


def test_a_concurrent_change_of_the_same_file_stops_the_upload(workspace, run, token, fake_hub, monkeypatch):
    publish(workspace, run, token, adapter=f"run:{run.id}@100")
    commit_before_upload(monkeypatch, lambda: fake_hub.seed_files("maker/ink", {"README.md": b"theirs"}, private=True))
    with pytest.raises(StudioError, match="changed by someone else"):
        publish(workspace, run, token, update=True)
    assert fake_hub.read("maker/ink", "README.md") == b"theirs"


def commit_before_upload(monkeypatch, act) -> None:
    """Commit as someone else, once, right before the commit is sent."""
    send = publishing._Upload._send

    def send_after_other_commit(self, parent):
        monkeypatch.setattr(publishing._Upload, "_send", send)
        act()
        return send(self, parent)

    monkeypatch.setattr(publishing._Upload, "_send", send_after_other_commit)


def test_corrupted_bytes_keep_the_repository_private(workspace, run, token, fake_hub):
    fake_hub.fault("corrupt", path="/revision/[0-9a-f]{40}")
    with pytest.raises((StudioError, ValueError)):
        publish(workspace, run, token, private=False)
    assert fake_hub.repos["maker/ink"].private


def test_files_that_differ_on_the_hub_are_named(workspace, run, token, fake_hub, monkeypatch):
    read_head = publishing._Upload.read_head

    def swapped(self, revision=None):
        head = read_head(self, revision)
        return publishing.Head(head.commit, head.files | {"pytorch_lora_weights.safetensors": "0" * 64}, head.private) if revision else head

    monkeypatch.setattr(publishing._Upload, "read_head", swapped)
    with pytest.raises(StudioError, match="differs from the uploaded files: pytorch_lora_weights.safetensors.*stays private"):
        publish(workspace, run, token, private=False)
    assert fake_hub.repos["maker/ink"].private


def test_a_busy_hub_is_retried_after_the_delay_it_requests(workspace, run, token, fake_hub, monkeypatch, no_waiting):
    waited, messages = [], []
    monkeypatch.setattr(publishing, "time", SimpleNamespace(sleep=waited.append))
    fake_hub.fault(429, path="repos/create", headers={"RateLimit": '"api";r=0;t=5'})
    publish(workspace, run, token, on_progress=lambda done, total, message: messages.append(message))
    assert sum(waited) == 6 and "The Hub is busy; retrying in 6 s" in messages


def test_the_progress_bar_follows_the_bytes(workspace, run, token):
    output = []
    publish(workspace, run, token, on_progress=lambda done, total, message: output.append((done, total, message)))
    shares = [done for done, _, _ in output]
    assert shares == sorted(shares) and shares[0] == 0 and output[-1] == (100, 100, "Published")
    assert sum("Sending the files, 0.0 of 0.0 MB" in message for _, _, message in output) >= 7 and len(set(shares)) >= 7


@pytest.mark.parametrize("when", ["Creating the repository", "Sending the files, "])
def test_cancelling_an_upload_is_not_an_error(workspace, run, token, fake_hub, when):
    """The report raises Cancelled wherever it is called, in upload threads too; publishing again then goes on."""

    def stop(done: int, total: int, message: str) -> None:
        if message.startswith(when):
            raise Cancelled

    with pytest.raises(Cancelled):
        publish(workspace, run, token, on_progress=stop, private=False)
    assert all(repo.private for repo in fake_hub.repos.values())
    publish(workspace, run, token, private=False)
    assert len(fake_hub.repos["maker/ink"].commits) == 2


FAULTS = [401, 403, 409, 412, 429, 500, 503, "reset", "reset after", "late 503", "timeout"]
EVERYWHERE = (401, 503, "reset after")
"""These break every single request, the others those that change something; LONG_TESTS=1 breaks all by all."""


@pytest.mark.parametrize("kind", FAULTS)
def test_publishing_again_after_any_failure_leaves_one_commit(workspace, fake_hub, token, no_waiting, kind):
    """Break request number 1, 2, 3 ... once. Publishing again resumes; never two commits, never public while incomplete."""
    run = finished_run(workspace, ONE, steps=(200,))
    publish(workspace, run, token, private=False, repo="whole", samples=[])
    places = [at for at, seen in enumerate(fake_hub.seen, start=1) if everywhere(kind) or seen.method in ("POST", "PUT")]
    assert len(places) >= 6
    for at in places:
        name = f"broken-{at}"
        fake_hub.faults.clear()
        fake_hub.store.clear()
        fake_hub.fault(kind, at=at, seconds=0.6)
        try:
            publish(workspace, run, token, private=False, repo=name, samples=[])
        except StudioError:
            repo = fake_hub.repos.get(f"maker/{name}")
            assert repo is None or repo.private or "README.md" in repo.head.files
            publish(workspace, run, token, private=False, repo=name, samples=[])
        repo = fake_hub.repos[f"maker/{name}"]
        assert (len(repo.commits), repo.private) == (2, False), (kind, at)
        assert repo.head.files["pytorch_lora_weights.safetensors"].data == run.latest_adapter().read_bytes()


def everywhere(kind: int | str) -> bool:
    return kind in EVERYWHERE or os.environ.get("LONG_TESTS") == "1"


def test_nothing_is_uploaded_twice_after_an_interruption(workspace, run, token, fake_hub, no_waiting):
    fake_hub.fault(401, path="/commit/")
    with pytest.raises(StudioError, match="does not accept this token"):
        publish(workspace, run, token)
    publish(workspace, run, token)
    uploads = [seen.path for seen in fake_hub.seen if seen.method == "PUT" and seen.path.startswith("/lfs-storage")]
    assert len(uploads) == len(set(uploads)) == 7


def test_without_a_network_it_says_so_and_the_folder_can_be_saved(workspace, run, fake_hub, monkeypatch, no_waiting, tmp_path):
    token = client.read_token(fake_hub.token)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StudioError, match="cannot be reached"):
        publish(workspace, run, token)
    folder = save_folder(plan.plan(workspace, publish_request(run, repo="")), tmp_path / "saved")
    assert (folder / "README.md").exists() and len(list((folder / "images").iterdir())) == 6


def test_the_zip_is_the_same_bytes_every_time(workspace, run, tmp_path):
    release = plan.plan(workspace, publish_request(run))
    first, second = (save_zip(release, tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == sorted(f"ink/{file.path}" for file in release.files) and archive.testzip() is None


@pytest.mark.parametrize("how", ["zip", "folder"])
def test_a_large_lora_is_packed_in_pieces(workspace, run, tmp_path, how):
    made = plan.plan(workspace, publish_request(run))
    write_large_adapter(made.adapter, 200)
    tracemalloc.start()
    try:
        path = save_zip(made, tmp_path / "a.zip") if how == "zip" else save_folder(made, tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 20 * 1000**2
    finally:
        tracemalloc.stop()
    sizes = [each.stat().st_size for each in ([path] if how == "zip" else path.iterdir())]
    assert max(sizes) > 200 * 1000**2


def test_a_preview_reads_no_large_lora(workspace, run):
    path = plan.plan(workspace, publish_request(run)).adapter
    facts = read_header(path).metadata
    write_large_adapter(path, 1000, facts)
    began = time.monotonic()
    made = plan.plan(workspace, publish_request(run), hashes.known)
    assert "sha256: `computed when it is sent`" in made.card and time.monotonic() - began < 0.5


@pytest.mark.parametrize("how", ["zip", "folder"])
def test_a_job_packs_what_is_to_be_taken_away(home, workspace, run, how):
    jobs = Jobs(home.database)
    job = jobs.start(jobs.submit("local", "save", {"request": publish_request(run, repo="").model_dump(), "how": how}))
    deadline = time.monotonic() + 60
    while jobs.get(job.id).unfinished:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = jobs.get(job.id)
    assert done.state == "done", done.error
    path = Path(done.result["path"])
    assert path.parent == workspace.published and (path.is_dir() if how == "folder" else zipfile.is_zipfile(path))


def test_a_folder_with_something_in_it_is_not_written_into(workspace, run, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(StudioError, match="not empty"):
        save_folder(plan.plan(workspace, publish_request(run)), tmp_path)


def test_the_job_takes_its_token_from_the_pipe(home, workspace, run, fake_hub):
    jobs = Jobs(home.database)
    job = jobs.submit("local", "publish", publish_request(run).model_dump())
    result = publishing.publish_job(home, job, ProgressReporter(jobs, job.id), fake_hub.token.encode())
    assert result["url"].endswith("/maker/ink") and result["private"] and "maker/ink" in result["code"]
    with pytest.raises(StudioError, match="needs a Hub token"):
        publishing.publish_job(home, job, ProgressReporter(jobs, job.id), None)


def test_the_token_is_in_nothing_that_is_written_logged_or_raised(home, workspace, run, fake_hub, tmp_path, caplog, capfd, no_waiting):
    """Publish, fail in every way, then search for the token on disk, in the logs and in the errors."""
    caplog.set_level(logging.DEBUG)
    secret, output = client.read_token(fake_hub.token), []
    for kind in (None, 401, 403, 500, "reset"):
        fake_hub.faults.clear()
        if kind:
            fake_hub.fault(kind, path="/commit/", times=99)
        try:
            output.append(repr(publish(workspace, run, secret, repo=f"canary-{kind}")))
        except StudioError as error:
            output += [repr(error), repr(error.__cause__), str(vars(error))]
    fake_hub.faults.clear()
    jobs = Jobs(home.database)
    payload = publish_request(run, repo="canary-job").model_dump()
    done = jobs.start(jobs.submit("local", "publish", payload), secret=fake_hub.token.encode())
    while done.unfinished:
        done = jobs.get(done.id)
    assert done.state == "done", done.error
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    output = capfd.readouterr()
    for place in (written, caplog.text.encode(), "".join(output).encode(), output.out.encode(), output.err.encode()):
        assert fake_hub.token.encode() not in place
    published = b"".join(blob.data for repo in fake_hub.repos.values() for blob in repo.head.files.values())
    assert len(written) > 100_000 and fake_hub.token.encode() not in published


# Round trip

STUDIO = """
import hashlib
from pathlib import Path
from studio.devices import runtime
from studio import families
from studio.config.runtime import RuntimeConfig
from studio.generation.generator import Generator
from studio.config.recipe import Recipe
runtime.apply(runtime.resolve(RuntimeConfig(threads=1)))
recipe = Recipe(prompt="ohwx illustration of a house", num_inference_steps=4, guidance_scale=5.0, seed=7)
generator = Generator(families.resolve_base(recipe.base_model), families.get(recipe.family), device="cpu", dtype="float32")
stacks = [], [(Path(adapter), 1.0)]
images = [generator.generate(recipe, stack, lambda done, total: None) for stack in stacks]
Path(output).write_text(" ".join(hashlib.sha256(image.tobytes()).hexdigest() for image in images))
"""
"""The studio's images without and with an adapter, for a process whose torch has no settings of other tests."""


def test_the_code_snippet_generates_the_studios_image_in_a_fresh_plain_pipeline(workspace, token, fake_hub, tmp_path):
    """The code under "Call it" is run unchanged, against the Hub, by repository id. Trained at a size other than the base's default."""
    run = finished_run(workspace, "dataset.resolution=192", "samples.num_inference_steps=4")
    done = publish(workspace, run, token)
    environment = fake_hub.environment(fake_hub.token, cache=tmp_path / "fresh")
    output = subprocess.run([sys.executable, "-c", done.code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stderr[-3000:]
    picture = hashlib.sha256(Image.open(tmp_path / "image.png").tobytes()).hexdigest()
    drawn = forked.start(exec, STUDIO, {"adapter": str(run.latest_adapter()), "output": str(tmp_path / "drawn")})
    drawn.join()
    assert drawn.exitcode == 0
    base, with_lora = (tmp_path / "drawn").read_text().split()
    assert picture == with_lora != base
    assert any("/resolve/" in seen.path and done.commit in seen.path for seen in fake_hub.seen)


def test_the_code_snippet_generates_the_sample_of_the_training_run(workspace, tiny_base, tmp_path, monkeypatch):  # noqa: F811
    """Trained at 96 pixels on a base of 64: the sample, its recipe and plain diffusers agree on the size, and so on every pixel."""
    run = tiny_run(workspace, tiny_base, "dataset.resolution=96", "training.learning_rate=2e-2")
    assert loop.main([str(run.path)]) == 0
    release = plan.plan(workspace, publish_request(run, repo=""))
    folder = save_folder(release, tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    exec(diffusers_code(release.at(str(folder)).facts, local=True), {})
    drawn, sample, base = (Image.open(path) for path in (tmp_path / "image.png", folder / "images" / "1.png", folder / "images" / "base-1.png"))
    assert drawn.size == sample.size == (64, 64)
    assert drawn.tobytes() == sample.tobytes() != base.tobytes()


def test_the_tiny_adapter_of_these_tests_is_a_valid_adapter(run):
    """Its header is read by the studio's own reader, so the tests above send what a run would."""
    data = run.latest_adapter().read_bytes()
    assert "__metadata__" in json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
