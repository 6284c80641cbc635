import subprocess
import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
from pydantic import SecretStr

from studio.core.errors import StudioError
from studio.hub import client

WEIGHTS = bytes(range(256)) * 40
CARD = b"---\nbase_model: x/y\ninstance_prompt: sks\nlicense: mit\n---\nhi"


@pytest.fixture
def token(fake_hub) -> SecretStr:
    return client.read_token(fake_hub.token)


@pytest.fixture
def impatient(monkeypatch):
    """No waits between the client's own retries, and little patience with a Hub that says nothing."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr(client, "SECONDS_OF_SILENCE", 0.3)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


def test_an_adapter_comes_with_its_exact_revision_and_what_its_card_says(fake_hub):
    commit = fake_hub.seed_files("ana/ink", {"pytorch_lora_weights.safetensors": WEIGHTS, "README.md": CARD})
    seen = []
    found = client.download_adapter("ana/ink", on_progress=lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == WEIGHTS and found.revision == commit and len(commit) == 40
    assert (found.title, found.base_model, found.trigger_word, found.licence) == ("ink", "x/y", "sks", "mit")
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))


def test_an_older_revision_stays_what_it_was(fake_hub):
    first = fake_hub.seed_files("ana/ink", {"lora.safetensors": b"first" * 9})
    fake_hub.seed_files("ana/ink", {"lora.safetensors": b"second" * 9})
    assert client.download_adapter("ana/ink").path.read_bytes() == b"second" * 9
    assert client.download_adapter("ana/ink", revision=first).path.read_bytes() == b"first" * 9
    assert client.download_adapter("ana/ink", revision=first[:7]).revision == first


@pytest.mark.parametrize(
    ("files", "filename", "sentence"),
    [
        (["a.safetensors", "b.safetensors"], None, "choose one: a.safetensors, b.safetensors"),
        (["a.safetensors"], "c.safetensors", "it has: a.safetensors"),
        (["a.safetensors", "a.bin"], "a.bin", "it has: a.safetensors"),
        (["pytorch_lora_weights.bin"], None, "only pickle files"),
        (["README.md"], None, "no .safetensors file"),
    ],
)
def test_a_repository_without_one_clear_lora_is_refused_with_its_files(fake_hub, files, filename, sentence):
    fake_hub.seed_files("ana/ink", dict.fromkeys(files, WEIGHTS))
    with pytest.raises(StudioError, match=sentence):
        client.download_adapter("ana/ink", filename=filename)
    assert not any("/resolve/" in seen.path for seen in fake_hub.seen)


def test_a_whole_model_is_not_fetched_as_a_lora(fake_hub, monkeypatch):
    monkeypatch.setattr(client, "LARGEST_ADAPTER", 1000)
    fake_hub.seed_files("ana/ink", {"a.safetensors": WEIGHTS})
    with pytest.raises(StudioError, match="full model"):
        client.download_adapter("ana/ink")
    assert not any("/resolve/" in seen.path for seen in fake_hub.seen)


def test_bytes_that_were_changed_on_the_way_are_fetched_again(fake_hub):
    fake_hub.seed_files("ana/ink", {"a.safetensors": WEIGHTS})
    fake_hub.fault("corrupt", path="/resolve/", method="GET")
    assert client.download_adapter("ana/ink").path.read_bytes() == WEIGHTS


def test_bytes_that_stay_wrong_are_refused(fake_hub):
    fake_hub.seed_files("ana/ink", {"a.safetensors": WEIGHTS})
    fake_hub.fault("corrupt", path="/resolve/", method="GET", times=9)
    with pytest.raises(StudioError, match="damaged twice in transfer"):
        client.download_adapter("ana/ink")


def test_a_connection_that_breaks_in_the_middle_goes_on_from_there(fake_hub, impatient):
    fake_hub.seed_files("ana/ink", {"a.safetensors": WEIGHTS})
    fake_hub.fault("truncate", path="/resolve/", method="GET")
    assert client.download_adapter("ana/ink").path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "repo_id",
    ["", "name", "../x", "a/../b", "a/b/c", "http://evil.example/a/b", "a/b@rev", "a/b\nHost: x", "а/b", "a/\u202eb", "/a/b", "a b/c", "a/..", "-/x"],
)
def test_an_id_that_is_none_never_reaches_the_network(fake_hub, repo_id):
    with pytest.raises(StudioError, match="owner/name"):
        client.check_repo_id(repo_id)
    with pytest.raises(StudioError):
        client.download_adapter(repo_id)
    with pytest.raises(StudioError):
        client.download_model(repo_id, ["*"])
    assert fake_hub.seen == []


def test_a_model_is_pinned_and_only_what_was_asked_for_is_fetched(fake_hub):
    commit = fake_hub.seed_files("big/base", {"model_index.json": b"{}", "unet/w.safetensors": WEIGHTS, "unet/w.bin": b"\0pickle", "README.md": CARD})
    snapshot = client.download_model("big/base", ["*.json", "unet/*.safetensors"])
    assert snapshot.revision == commit
    names = sorted(path.relative_to(snapshot.path).as_posix() for path in snapshot.path.rglob("*") if path.is_file())
    assert names == ["model_index.json", "unet/w.safetensors"]


def test_a_model_that_would_fill_the_disk_is_refused_before_it_is_fetched(fake_hub, monkeypatch):
    fake_hub.seed_files("big/base", {"model_index.json": b"{}", "unet/w.safetensors": WEIGHTS, "README.md": CARD})

    def free(size):
        monkeypatch.setattr(client.shutil, "disk_usage", lambda folder: SimpleNamespace(free=client.KEPT_FREE + size))

    free(len(WEIGHTS) - 1)
    with pytest.raises(StudioError, match="big/base takes 0.0 GB of disk and 2.0 GB are free, of which 2 GB are reserved"):
        client.download_model("big/base", ["unet/*"])
    assert not any("/resolve/" in seen.path for seen in fake_hub.seen)
    free(len(WEIGHTS))
    here = client.download_model("big/base", ["unet/*"])
    free(-client.KEPT_FREE)
    assert client.download_model("big/base", ["unet/*"]) == here, "what is here already takes no room"
    with pytest.raises(StudioError, match="of disk"):
        client.download_model("big/base", ["unet/*", "README.md"])


def test_a_model_that_is_here_needs_no_network(fake_hub, impatient, monkeypatch):
    fake_hub.seed_files("big/base", {"model_index.json": b"{}"})
    first = client.download_model("big/base", ["*.json"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert client.download_model("big/base", ["*.json"]) == first
    with pytest.raises(StudioError, match="cannot be reached"):
        client.download_model("other/base", ["*.json"])


def test_private_and_missing_look_the_same_to_a_stranger(fake_hub, token):
    fake_hub.seed_files("maker/secret", {"a.safetensors": WEIGHTS}, private=True)
    for repo_id in ("maker/secret", "maker/nothing"):
        with pytest.raises(StudioError, match="not on the Hub under that name, or it is private"):
            client.download_adapter(repo_id)
    assert client.download_adapter("maker/secret", token=token).path.read_bytes() == WEIGHTS


def test_a_gated_model_says_which_page_to_open(fake_hub):
    fake_hub.seed_files("big/gated", {"a.safetensors": WEIGHTS}, gated=True)
    stranger = client.read_token(fake_hub.add_user("stranger"))
    with pytest.raises(StudioError, match=f"open {fake_hub.endpoint}/big/gated, accept them"):
        client.download_adapter("big/gated", token=stranger)


def test_a_revision_that_is_none_is_named(fake_hub):
    fake_hub.seed_files("ana/ink", {"a.safetensors": WEIGHTS})
    with pytest.raises(StudioError, match="no such revision"):
        client.download_adapter("ana/ink", revision="nope")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (401, "does not accept this token"),
        (402, "paid plan"),
        (403, "no right"),
        (409, "already exists"),
        (412, "changed at the same time by another upload"),
        (413, "too large"),
        (418, "rejected"),
        (429, "requires a wait of 7 seconds"),
        (500, "internal problem"),
        (503, "internal problem"),
        ("reset", "cannot be reached"),
        ("timeout", "did not answer in time"),
    ],
)
def test_every_refusal_is_a_sentence_with_what_to_do(fake_hub, impatient, token, kind, sentence):
    fake_hub.fault(kind, path="whoami", times=99, seconds=0.5, headers={"RateLimit": '"api";r=0;t=7'})
    with pytest.raises(StudioError, match=sentence) as told:
        client.whoami(token)
    assert fake_hub.token not in str(told.value)


def test_offline_is_said_as_such(fake_hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StudioError, match="HF_HUB_OFFLINE"):
        client.download_adapter("ana/ink")


def test_an_account_knows_where_its_token_may_write(fake_hub):
    fake_hub.add_user("ana", organisations=("atelier",))
    writer = client.whoami(client.read_token(next(token for token, user in fake_hub.users.items() if user.name == "ana")))
    assert writer.refusal("ana") == writer.refusal("atelier") == ""
    assert "choose one of: ana, atelier" in writer.refusal("maker")
    assert "can read but not write" in client.whoami(client.read_token(fake_hub.read_token)).refusal("maker")
    fine = client.account(
        {
            "name": "ana",
            "orgs": [{"name": "atelier", "roleInOrg": "write"}, {"name": "club", "roleInOrg": "read"}],
            "auth": {
                "accessToken": {
                    "role": "fineGrained",
                    "fineGrained": {
                        "scoped": [
                            {"entity": {"name": "ana"}, "permissions": ["repo.write"]},
                            {"entity": {"name": "atelier"}, "permissions": ["repo.content.read"]},
                        ]
                    },
                }
            },
        }
    )
    assert fine.refusal("ana") == "" and fine.refusal("atelier") and fine.refusal("club")


@pytest.mark.parametrize("text", ["", "   ", "short", "hf_ab cd efgh", "hf_abcdefg\nX-Evil: 1", "hf_ünïcödé", "x" * 5000])
def test_what_cannot_be_a_token_is_refused_and_never_quoted(text):
    with pytest.raises(StudioError) as told:
        client.read_token(text)
    assert not text.strip() or text.strip() not in str(told.value)


def test_a_token_is_not_shown_by_its_repr():
    token = client.read_token(" hf_canary1234567890 \n")
    assert token.get_secret_value() == "hf_canary1234567890"
    assert "canary" not in repr(token) + str(token) + repr(client.api(token))


def test_without_a_token_the_machine_login_is_not_used(fake_hub, monkeypatch):
    fake_hub.seed_files("maker/secret", {"a.safetensors": WEIGHTS}, private=True)
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    with pytest.raises(StudioError):
        client.download_adapter("maker/secret")
    assert {seen.user for seen in fake_hub.seen} == {None}


def test_publishing_and_access_load_neither_torch_nor_gradio():
    code = "import sys, studio.publishing.send, studio.core.access, studio.doctor; print({'torch', 'gradio', 'diffusers'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
