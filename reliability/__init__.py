"""Campaigns that try to break a run: long, random, and repeatable by their seed."""
