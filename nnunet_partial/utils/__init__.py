"""Helpers that every package uses: files, text, tables, processes, masks, colors, versions."""
