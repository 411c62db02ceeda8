"""The theory's claims for pages written by hand, from the ledger: formulas, verdicts and links to the claims' pages.

    {verdict}`corollary-3.9`        the verdict, linked to the claim's page
    {claim}`T4 <theorem-t4>`        a link to a claim's page
    {formula}`A`                    an expression of theory.proof.notation by its name there
    {formula}`theorem_t3_equal_flatness.LPF_RISE`      or of another module of the theory

    ```{claim} corollary-3.9        its formula, with its name and verdict
    :show: printed holds            one or both; what holds where nothing is said
    ```

    ```{verdicts}                   the table of all claims
    :of: ours                       or paper; both where nothing is said
    :fault: slip                    of those with this fault alone: slip, flaw or consequence
    :filter:                        with a switch for each verdict
    ```

    ```{tally}                      how many of the paper's claims there are of each verdict and fault
    ```

A label that the ledger does not have is an error that names those it has. The claims' own pages are written by
`claim_pages` before Sphinx looks for sources.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import sympy
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import ReferenceRole, SphinxDirective, SphinxRole
from sphinx.util.typing import OptionSpec

from docs.extensions import claim_pages
from paper_figs.report import claims, fragments, sourced
from theory import ledger
from theory.proof import notation
from theory.proof.statement import Fault, Statement, Verdict

STYLE = Path(__file__).parent.parent / "_static" / "verdicts.css"
SHOWN = ("printed", "holds")


class UnknownLabelError(LookupError):
    """A label that the ledger does not have."""


def known(label: str) -> Statement:
    """The claim of that label.

    Raises:
        UnknownLabelError: there is none.
    """
    if label not in ledger.statements():
        raise UnknownLabelError(f"label is {label!r}; allowed: {', '.join(ledger.statements())}")
    return ledger.statements()[label][1]


def _depends_on_theory(env: BuildEnvironment) -> None:
    """Have the page read again when the ledger may have changed."""
    for path in ledger.ROOM.rglob("*.py"):
        if not path.is_relative_to(ledger.ROOM / "tests"):
            env.note_dependency(path)


def _link(env: BuildEnvironment, label: str, text: str) -> addnodes.pending_xref:
    return addnodes.pending_xref(
        "",
        nodes.inline(text, text),
        refdoc=env.docname,
        refdomain="std",
        reftype="doc",
        reftarget=f"/{claim_pages.FOLDER}/{label}",
        refexplicit=True,
        refwarn=True,
    )


def _badge(env: BuildEnvironment, label: str) -> nodes.inline:
    verdict = known(label).verdict
    link = _link(env, label, verdict.value)
    return nodes.inline("", "", link, classes=["verdict", sourced.anchor(verdict.value)])


class VerdictRole(SphinxRole):
    """The verdict of a claim, linked to its page."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The nodes; an error for a label that is not known."""
        _depends_on_theory(self.env)
        try:
            return [_badge(self.env, self.text)], []
        except UnknownLabelError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]


class ClaimRole(ReferenceRole):
    """A link to the page of a claim, with its label or a title of one's own."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The nodes; an error for a label that is not known."""
        _depends_on_theory(self.env)
        try:
            known(self.target)
        except UnknownLabelError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        return [_link(self.env, self.target, self.title)], []


def expression(name: str) -> sympy.Basic:
    """A formula of the theory by its name.

    Args:
        name: of theory.proof.notation, or of a statement's module with its name before it.

    Raises:
        LookupError: there is no such formula.
    """
    module, _, constant = name.rpartition(".")
    path = ledger.ROOM / "claims" / f"{module}.py" if module else ledger.ROOM / "proof" / "notation.py"
    if not path.is_file():
        raise LookupError(f"formula is {name!r}; allowed: module.NAME, with a module of theory/claims")
    known_there = vars(importlib.import_module(f"theory.{path.parent.name}.{path.stem}"))
    formula = known_there.get(constant)
    if not isinstance(formula, sympy.Basic):
        allowed = [other for other, value in known_there.items() if isinstance(value, sympy.Basic)]
        where = path.relative_to(ledger.ROOM.parent).as_posix()
        raise LookupError(f"formula is {name!r}; allowed in {where}: {', '.join(allowed)}")
    return formula


class FormulaRole(SphinxRole):
    """A formula of the theory by its name, set in the line."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The node; an error for a name that there is not."""
        _depends_on_theory(self.env)
        try:
            latex = notation.latex(expression(self.text))
        except LookupError as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        node = nodes.math(latex, latex)
        self.set_source_info(node)
        return [node], []


def _show(argument: str) -> list[str]:
    return [directives.choice(word, SHOWN) for word in argument.split()]


class ClaimDirective(SphinxDirective):
    """The formulas of a claim, beneath its name and its verdict."""

    required_arguments = 1
    option_spec: ClassVar[OptionSpec] = {"show": _show}

    def run(self) -> list[nodes.Node]:
        """The nodes; an error for a label that is not known, and for a formula that the claim does not have."""
        (label,) = self.arguments
        _depends_on_theory(self.env)
        try:
            statement = known(label)
        except UnknownLabelError as error:
            raise self.error(str(error)) from error
        box = nodes.container("", classes=["claim"], support_smartquotes=False)
        link = _link(self.env, label, f"{label}: {statement.title}")
        box += nodes.paragraph("", "", link, nodes.Text(" "), _badge(self.env, label), classes=["claim-name"])
        for which in self.options.get("show", ["holds"]):
            formula = getattr(statement, which)
            if formula is None:
                raise self.error(f"show is {which!r}, but {label} has no such formula")
            if statement.printed is not None:  # ours have one formula, and its name above it
                caption = "As printed" if which == "printed" else claims.caption(statement)
                box += nodes.paragraph(caption, caption, classes=["claim-caption"])
            shown = f'<div class="formula">{claims.formula(formula)}</div>'
            box += nodes.raw("", shown, format="html")
        return [box]


class LedgerRows(nodes.General, nodes.Element):
    """Claims by their `labels`, until the builder says where their pages are."""


class VerdictsDirective(SphinxDirective):
    """The table of all claims: linked to their pages, with their verdicts and the first sentence of their reasons."""

    option_spec: ClassVar[OptionSpec] = {
        "of": lambda argument: directives.choice(argument, ("paper", "ours")),
        "fault": lambda argument: directives.choice(argument, tuple(Fault)),
        "filter": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """The table, in a box with the switches that hide its rows."""
        _depends_on_theory(self.env)
        wanted, fault = self.options.get("of"), self.options.get("fault")
        labels = [
            label
            for label, (_, statement) in ledger.statements().items()
            if (wanted is None or (statement.source == ledger.OURS) is (wanted == "ours"))
            and fault in (None, statement.fault)
        ]
        box = nodes.container("", classes=["verdicts"])
        if "filter" in self.options:
            box += nodes.raw("", _switches(), format="html")
        box += LedgerRows(labels=labels)
        return [box]


def _fill_rows(app: Sphinx, document: nodes.document, page: str) -> None:
    """Set the rows as the report does, now that a claim's page has an address."""

    def place(label: str) -> str:
        return app.builder.get_relative_uri(page, f"{claim_pages.FOLDER}/{label}")

    for node in list(document.findall(LedgerRows)):
        rows = [claims.claim(*ledger.statements()[label], place, evidence=False) for label in node["labels"]]
        table = fragments.ledger_rows(rows, "Claims")
        node.replace_self(nodes.raw("", f'<div class="fragment">{table}</div>', format="html"))


class TallyDirective(SphinxDirective):
    """How many of the paper's claims there are of each verdict and fault: in two sentences, and as a table."""

    def run(self) -> list[nodes.Node]:
        """A paragraph and a table, as in the ledger."""
        _depends_on_theory(self.env)
        shown = self.parse_text_to_nodes(f"{ledger.headline()}\n\n{ledger.tally_table()}")
        return [nodes.container("", *shown, classes=["tally"])]


def _switches() -> str:
    """A box to tick for each verdict; the style sheet hides the rows of those that are not ticked, without scripts."""
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{verdict.value}"> {verdict.value}</label> '
        for verdict in Verdict
    )
    return f'<fieldset class="verdict-switches"><legend>Show</legend> {boxes}</fieldset>'


def _write_pages(app: Sphinx) -> None:
    claim_pages.write(Path(app.srcdir))


def _add_style(app: Sphinx, config: Config) -> None:
    config.html_static_path += [str(STYLE)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", _add_style)
    app.connect("builder-inited", _write_pages)
    app.connect("doctree-resolved", _fill_rows)
    app.setup_extension("docs.extensions.fragments")  # whose style the table of claims has
    app.add_css_file(STYLE.name)
    app.add_role("verdict", VerdictRole())
    app.add_role("claim", ClaimRole())
    app.add_role("formula", FormulaRole())
    app.add_directive("claim", ClaimDirective)
    app.add_directive("verdicts", VerdictsDirective)
    app.add_directive("tally", TallyDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
