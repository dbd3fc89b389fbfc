"""The true rules, with all durations shortened by one factor, so that seconds are enough to see an
alert fire and end."""

import re

import yaml

from tests.deploy.rules import SOURCE, Rule, defaults, filled, groups

#: A window of less holds too few samples for a rate, at one sample a second.
_LEAST_WINDOW_SECONDS = 4.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = r"(\d+)([smhd])"


def shortened(factor: float, **thresholds: float) -> str:
    """The rules of deploy/prometheus/rules.yaml, ``factor`` times as fast.

    :param thresholds: of the chart's values, in place of the defaults
    """
    unknown = set(thresholds) - set(defaults())
    assert not unknown, unknown
    text = filled(SOURCE.read_text(), defaults() | thresholds)
    found = groups(text)
    for group in found:
        for rule in group["rules"]:
            _shorten(rule, factor)
    written: str = yaml.safe_dump({"groups": found}, width=1000)
    return written


def _shorten(rule: Rule, factor: float) -> None:
    if "for" in rule:
        rule["for"] = _scaled(rule["for"], factor)
    rule["expr"] = shortened_expression(rule["expr"], factor)


def shortened_expression(text: str, factor: float) -> str:
    def window(found: re.Match[str]) -> str:
        parts = [_scaled(part, factor, _LEAST_WINDOW_SECONDS) for part in found[1].split(":")]
        return f"[{':'.join(parts)}]"

    text = re.sub(r"\[([^\]]+)\]", window, text)
    return re.sub(
        rf"\boffset {_DURATION}", lambda found: f"offset {_scaled(found[0][7:], factor)}", text
    )


def _scaled(duration: str, factor: float, least: float = 0.0) -> str:
    found = re.fullmatch(_DURATION, duration)
    assert found, duration
    seconds = max(least, int(found[1]) * _UNITS[found[2]] / factor)
    return f"{round(seconds * 1000)}ms"
