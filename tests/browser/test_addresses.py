"""Each tab, dataset, run and image has an address: for reload, Back and a link to a colleague."""

import pytest
from playwright.sync_api import expect

from studio.config.recipe import Recipe
from studio.datasets.dataset import Dataset
from studio.jobs.launch import TrainingRequest
from studio.ui.opening import GONE
from tests.browser.test_drafts import open_tab, opened
