import os
from types import SimpleNamespace

import huggingface_hub
import pytest
from pydantic import SecretStr

from studio.core import access
from studio.core.access import Access, FailedLogins, Mode
from studio.core.errors import StudioError


def request(**headers: str) -> SimpleNamespace:
    return SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_without_any_wish_it_is_one_person_at_this_computer():
    found = Access.from_environment({})
    assert (found.mode, found.server_name, found.hosts, found.port) == (Mode.local, "127.0.0.1", (), None)
    assert found.owner(request()) == "local" and not found.check_login("x", "")


def test_a_password_and_a_name_open_it_to_other_computers():
    found = Access.from_environment({"LORA_STUDIO_PASSWORD": "correct horse", "LORA_STUDIO_HOST": "Box.example, 192.168.1.5:7860"})
    assert (found.mode, found.server_name) == (Mode.password, "0.0.0.0") and found.hosts == ("box.example", "192.168.1.5:7860")
    assert found.check_login("anybody", "correct horse") and not found.check_login("anybody", "correct hors") and not found.check_login("", "")
    assert "horse" not in repr(found)


def test_guessing_the_password_is_slow():
    now = [0.0]
    found = Access(Mode.password, password=SecretStr("correct horse"), failed_logins=FailedLogins(clock=lambda: now[0]))
    assert not any(found.check_login("", f"guess {number}") for number in range(access.WRONG_PASSWORDS_A_MINUTE))
    assert not found.check_login("", "correct horse")
    now[0] = 61
    assert found.check_login("", "correct horse")


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"LORA_STUDIO_PASSWORD": "correct horse"}, "LORA_STUDIO_HOST must be set"),
        ({"LORA_STUDIO_PASSWORD": "short", "LORA_STUDIO_HOST": "box"}, "at least 8"),
        ({"LORA_STUDIO_HOST": "box.example"}, "without a password"),
        ({"LORA_STUDIO_HOST": "0.0.0.0"}, "without a password"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, "without a password"),
        ({"GRADIO_SERVER_NAME": "192.168.1.5"}, "without a password"),
        ({"LORA_STUDIO_PASSWORD": "correct horse", "LORA_STUDIO_HOST": "http://box"}, "without http"),
        ({"LORA_STUDIO_PASSWORD": "correct horse", "LORA_STUDIO_HOST": "*"}, "not a host name"),
        ({"LORA_STUDIO_PORT": "99999"}, "not a port"),
        ({"LORA_STUDIO_PORT": "-1"}, "not a port"),
    ],
)
def test_what_would_open_it_to_strangers_is_refused(environ, sentence):
    with pytest.raises(StudioError, match=sentence):
        Access.from_environment(environ)


@pytest.mark.parametrize("name", ["", "127.0.0.1", "localhost", "127.0.0.1:7860", "[::1]:7860", "::1"])
def test_names_of_this_computer_need_no_password(name):
    assert Access.from_environment({"LORA_STUDIO_HOST": name, "GRADIO_SERVER_NAME": name}).mode is Mode.local


def test_a_space_is_told_by_its_own_signs_and_only_by_both():
    environ = {"SYSTEM": "spaces", "SPACE_ID": "ana/studio", "SPACE_HOST": "ana-studio.hf.space", "OAUTH_CLIENT_ID": "x"}
    found = Access.from_environment(environ)
    assert (found.mode, found.server_name, found.port, found.oauth) == (Mode.space, "0.0.0.0", 7860, True)
    assert found.hosts == ("ana-studio.hf.space",)
    for missing in ("SYSTEM", "SPACE_ID"):
        assert Access.from_environment({key: value for key, value in environ.items() if key != missing}).mode is Mode.local


def test_on_a_space_the_owner_is_what_the_gate_says_and_nothing_else():
    space = Access.from_environment({"SYSTEM": "spaces", "SPACE_ID": "ana/studio", "SPACE_HOST": "ana-studio.hf.space"})
    assert space.owner(request(x_studio_visitor="visitor-1")) == "visitor-1"
    with pytest.raises(StudioError, match="https://ana-studio.hf.space"):
        space.owner(request(session_hash="local", cookie="studio_visitor=local"))


def test_the_space_owners_login_is_never_used(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ownersecret")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: os.environ["HF_TOKEN"])
    space = Access(Mode.space)
    assert space.machine_token() is None
    with pytest.raises(StudioError, match="Log in with Hugging Face"):
        space.publishing_token(None)
    assert space.publishing_token(SecretStr("hf_visitor")).get_secret_value() == "hf_visitor"


def test_at_home_the_computers_login_is_used_unless_another_is_given(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_machine")
    assert Access().publishing_token(None).get_secret_value() == "hf_machine"
    assert Access().publishing_token(SecretStr("hf_typed")).get_secret_value() == "hf_typed"
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(StudioError, match="hf auth login"):
        Access().publishing_token(None)
