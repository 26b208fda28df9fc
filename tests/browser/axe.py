"""What axe says of a page."""

from axe_playwright_python.sync_playwright import Axe

# Faults of Gradio's own page, by axe rule and the start of the selector, each with its report.
# None in 6.31 with axe-core 4.12; add (rule, selector, link to the report) when one appears.
UPSTREAM = ()


def violations(page):
    """What axe finds and no report explains, one line each."""
    # Selectors of all that is right took more than half of the time.
    options = {"resultTypes": ["violations"]}
    for found in Axe().run(page, options=options).response["violations"]:
        for node in found["nodes"]:
            selector = str(node["target"][0])
            if not any(
                found["id"] == rule and selector.startswith(start) for rule, start, _ in UPSTREAM
            ):
                yield f"{found['id']}: {selector}: {node['failureSummary']}"
