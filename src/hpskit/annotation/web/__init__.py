"""The server of a project: routes, pages, and the checks that every request passes."""
