"""How tests look at exported pages."""


def offline(chromium, file, **options):
    """An exported page opened from its file without a network, and what its console says."""
    page = chromium.new_context(offline=True, **options).new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text))
    page.goto(file.as_uri())
    return page, problems
