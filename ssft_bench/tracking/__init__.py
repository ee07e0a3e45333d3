"""Experiment trackers: a run's numbers also go where somebody watches many runs. All are extras."""

from ssft_bench.tracking.choice import TrackerChoice, check_trackers, parse_tracker
from ssft_bench.tracking.logged import Tracker, Tracking

__all__ = ["Tracker", "TrackerChoice", "Tracking", "check_trackers", "parse_tracker"]
