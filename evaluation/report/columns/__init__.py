"""Models side by side: tables in the terminal and files; figures/columns.py draws the picture."""
