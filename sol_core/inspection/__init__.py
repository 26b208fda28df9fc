"""Any text, token by token, under several schedules at once; nothing is generated.

One token under all levels is in ``sol_core.lens``. ``records`` has what is asked for and what comes
back, plain and free of torch.
"""
