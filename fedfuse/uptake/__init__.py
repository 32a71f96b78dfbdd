"""What a client makes of the teacher that arrives, before it learns from it."""

from fedfuse.uptake.chain import Chain, take_up
from fedfuse.uptake.clock import Clock
from fedfuse.uptake.gap import Gap
from fedfuse.uptake.homeostatic import Homeostatic
from fedfuse.uptake.own_or_teacher import OwnOrTeacher
from fedfuse.uptake.rare_classes import RareClasses
from fedfuse.uptake.two_teachers import TwoTeachers

__all__ = [
    "Chain",
    "Clock",
    "Gap",
    "Homeostatic",
    "OwnOrTeacher",
    "RareClasses",
    "TwoTeachers",
    "take_up",
]
