"""The Compare page: two runs side by side, and a schedule painted by hand against the policy.

Rows come from ``app.runs``, scores from ``app.challenges``. Exported pairs are made in
``app.sharing.comparison``.
"""
