"""Extend Markdown for the documentation site (zensical.toml): formulas, the commands, and the notebook."""
