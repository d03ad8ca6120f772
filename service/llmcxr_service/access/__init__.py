"""Who may call the service, what each caller may do, and how often.

Knows no model: a request is judged by its route and its credentials before its body is read.
"""
