"""The Train page: choose settings, press Start, watch a policy learn, come back to it later.

The form, the estimate and the job on show. Training runs in ``app.jobs``.
"""
