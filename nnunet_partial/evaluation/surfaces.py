"""The outline of a structure, and how far two outlines lie apart."""

from __future__ import annotations
