"""The only words that services share: ids, rows of tables, requests, subjects and keys.

Evolution: a field is only ever added, with a default, and at the end where a struct is
``array_like``; a meaning never changes under the same name. What breaks that gets a new version
token in :mod:`cilia.contracts.subjects`. A closed choice is an enum; its values are wire text, and
one that a reader doesn't know is refused by the name of its field.
"""
