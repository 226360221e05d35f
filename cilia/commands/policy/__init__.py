"""``cilia policy``: a module for each verb, or for verbs that share what they need."""

from cilia.commands.policy.verbs import add_parser as add_parser
