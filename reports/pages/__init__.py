"""Pages to read in a browser: of a run, and of several compared.

Each is one file that needs nothing else: styles and pictures stand in it, no script runs, nothing
is fetched. `run_page.py` and `comparison_page.py` gather what a page shows, `templates/` says how
it looks, `pictures.py` and `curves.py` make its pictures, `template.py` fills it in.
"""

from reports.pages.comparison_page import comparison_page
from reports.pages.run_page import write_run_page

__all__ = ["comparison_page", "write_run_page"]
