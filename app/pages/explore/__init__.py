"""The Explore page: a prompt, a budget, and every token coloured by what was spent on it."""
