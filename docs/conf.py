"""Sphinx's configuration: `make docs` builds the site from this folder, without network, into docs/_build/html."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the rooms, and this folder's extensions

import flatness  # noqa: E402

project = "flatness"
author = "The flatness authors"
copyright = "the flatness authors, MIT licence"  # Sphinx's name
version = release = flatness.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxarg.ext",
    "docs.extensions.formulas",
    "docs.extensions.docstrings",
    "docs.extensions.claims",
    "docs.extensions.fragments",
    "docs.extensions.benchmarks",
    "docs.extensions.policy",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_use_ivar = True  # fields as a list, not as members once more
napoleon_use_rtype = False
default_role = "py:obj"  # `name` in a docstring links where it can and is code elsewhere
add_module_names = False
python_maximum_signature_line_length = 100
highlight_language = "none"  # unless a block says which
smartquotes_action = "qe"  # quotes and ellipses; --out is no dash
suppress_warnings = [
    "myst.domains",  # sphinx-argparse's domain cannot look names up for others
    "ref.python",  # W is an attribute of several classes, and a word of several signatures
]

html_theme = "furo"
html_title = f"flatness {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_show_sphinx = False
html_copy_source = False
