"""The viewer's pages, a router for each.

A new page is a module here with a `router`, its name in `ROUTES` of `view/app.py`, a template in
`view/templates`, and a link in the navigation of `view/templates/base.html`.
"""
