"""The families of prompts by name, each of a file of its own."""

from synth.families import (
    co_task,
    co_text,
    misgen_both,
    misgen_task,
    misgen_text,
    pretraining,
    safe,
    unsafe,
)
from synth.family import Family

FAMILIES: dict[str, Family] = {
    "safe": safe.FAMILY,
    "unsafe": unsafe.FAMILY,
    "co_task": co_task.FAMILY,
    "co_text": co_text.FAMILY,
    "misgen_task": misgen_task.FAMILY,
    "misgen_text": misgen_text.FAMILY,
    "misgen_both": misgen_both.FAMILY,
    "pretraining": pretraining.FAMILY,
}
JAILBREAKS = tuple(name for name, family in FAMILIES.items() if family.kind == "attack")
"""Families that attack what tuning teaches"""
