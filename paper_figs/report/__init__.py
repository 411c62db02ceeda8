"""The report: one page that ties the claims, figures, predictions and measurements together, report.html.

`document` says what the page is made of and whether it is up to date, and loads nothing else; `page` writes it. Every
number on it is a `sourced.Number`, which cannot be made without a source; `sourced.Printer` keeps the templates from
printing any other. What others wrote, style, sorting and font, lies in vendor/ with its licences.
"""
