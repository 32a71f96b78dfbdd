"""Optimiser steps: what a client does with its samples."""
