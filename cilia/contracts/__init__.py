"""The only words that services share: ids, rows of tables, requests, subjects and keys.

Evolution: a field is only ever added, with a default, and at the end where a struct is
    ``array_like``; a meaning never
changes under the same name. What breaks that gets a new version token in
:mod:`cilia.contracts.subjects`.
"""
