"""Networks: their training, export and evaluation, and the zoo of those that ship."""
