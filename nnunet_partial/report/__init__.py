"""What an evaluation found, to look at and to print: pictures, tables for a paper, one HTML page."""
