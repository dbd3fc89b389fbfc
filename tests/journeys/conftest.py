"""Strangers' projects have tests of their own, which are run where they are taken."""

collect_ignore = ["article", "shop"]
