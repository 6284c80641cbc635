"""Tiny members of every family, each made once for all the files here."""

import functools
from collections.abc import Callable

import pytest

from tests.families.members import KINDS, Member, load_member


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Callable[[str], Member]:
    """Kind -> its member; tests leave it, and its folder, as they found them."""
    root = tmp_path_factory.mktemp("members")
    return functools.cache(lambda kind: load_member(kind, root))


@pytest.fixture(params=KINDS)
def member(request, tiny) -> Member:
    """Every kind, or those that a test is marked with (`of_kinds`)."""
    return tiny(request.param)
