"""The Policies page: the library, what each policy measured, and its ways in and out."""
