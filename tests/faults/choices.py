"""What the environment chooses of a run of the scenarios; all processes of one run choose alike."""

from __future__ import annotations

import os
import secrets

LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(10**9))
os.environ["FAULTS_SEED"] = str(SEED)  # what starts the others has read this first
SEASONS = os.environ.get("FAULTS_SEASONS", "plain")
